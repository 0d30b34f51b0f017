"""Configurations: what ships is right, and what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import rl
from rl.config import Config, load_config, save_config
from rl.config.reading import YAMLTextError, read_yaml
from rl.errors import ConfigError

SHIPPED = sorted((Path(rl.__file__).parent.parent / "configs").glob("*.yaml"))
JARGON = ("pydantic", "validation error", "Traceback", "instance of", "type=", "input_value", "https://", "dictionary")


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message and not message.startswith(" ")
    assert not any(word in message for word in JARGON), message
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_say_what_they_mean(path: Path) -> None:
    loaded = load_config(path).model_dump(mode="json")
    for key, value in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        found, meant = (loaded[key], value) if isinstance(value, dict) else (loaded, {key: value})
        assert {name: found[name] for name in meant} == {
            name: float(value) if isinstance(found[name], float) else value for name, value in meant.items()
        }


def test_a_smoke_run_and_a_quickstart_ship() -> None:
    assert {"smoke", "quickstart"} <= {path.stem for path in SHIPPED}


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    for text in ("", "# nothing\n", "{}"):
        assert load_config(written(tmp_path, text)) == Config()


def test_overrides_change_what_they_name_and_the_last_one_counts(tmp_path: Path) -> None:
    path = written(tmp_path, "steps: 7\nlearner: {prompts: 4, samples: 6}\n")
    config = load_config(
        path,
        [
            "learner.samples=16",
            "learner.learning_rate=1e-5",
            "selection.alpha=0.2",
            "task.train_files=[a.jsonl, b.parquet]",
            "task.columns={question: problem}",
            "task.answer_marker=null",
            "output_dir=runs/a=b",
            "policy.trust_remote_code=true",
            "seed=1",
            "seed=2",
        ],
    )
    assert (config.steps, config.learner.prompts, config.learner.samples) == (7, 4, 16)
    assert (config.learner.learning_rate, config.selection.alpha) == (1e-5, 0.2)
    assert config.task.train_files == ("a.jsonl", "b.parquet")
    assert config.task.columns == {"question": "problem"}
    assert config.task.answer_marker is None
    assert (config.output_dir, config.policy.trust_remote_code, config.seed) == ("runs/a=b", True, 2)
    assert load_config(path).learner.samples == 6


WRONG: list[tuple[str, list[str]]] = [
    # what does not fit together
    ("evaluation: {bench_every: 5}", ["evaluation.bench is null"]),
    ("evaluation: {strategies_every: 5}", ["evaluation.strategies is empty"]),
    ("mprm: {likelihood: true, input_format: chat}", ["mprm.likelihood is true", "chat"]),
    ("mprm: {verdicts: ['+', '+']}", ["mprm.verdicts is ['+', '+']", "different"]),
    ("mprm: {class_weights: [0, 0]}", ["mprm.class_weights is [0.0, 0.0]"]),
    ("policy: {dtype: bfloat16}", ["mprm.lora_rank is 0", "bfloat16", "float32"]),
    ("mprm: {ranks: 2, num_gpus: 0.5}", ["mprm.num_gpus is 0.5", "whole"]),
    ("mprm: {combine: 5}", ["mprm.combine: 5 is not allowed"]),
    # unknown keys
    ("stepz: 3", ["stepz: no such key; did you mean steps? allowed here: name, ", "learner"]),
    ("leaner: {samples: 3}", ["leaner: no such key; did you mean learner? "]),
    ("learner: {learning-rate: 3}", ["learner.learning-rate: no such key; did you mean learning_rate? "]),
    ("mprm: {lesson_size: 3}", ["mprm.lesson_size: no such key; allowed here: ", "batches"]),
    ("'': 3", ["no such key", "steps"]),
    ("'a[0]': 3", ["a[0]: no such key"]),
    ("task: {'(b)': 3}", ["task.(b): no such key"]),
    ("mprm: {combine: {a: 1}}", ["mprm.combine: {'a': 1} is not allowed"]),
    ("1: 3", ["1: 1 is not allowed", "strings"]),
    ("engine: {null: 3}", ["engine.None", "strings"]),
    # wrong types
    ("steps: many", ["steps: 'many' is not allowed", "integer"]),
    ("steps: 2.5", ["steps: 2.5 is not allowed", "integer"]),
    ("steps: true", ["steps: True is not allowed", "number"]),
    ("learner: {learning_rate: true}", ["learner.learning_rate: True is not allowed", "number"]),
    ("learner: {learning_rate: yes}", ["learner.learning_rate: 'yes' is not allowed", "number"]),
    ("learner: {trl: {use_adaptive_entropy: no}}", ["use_adaptive_entropy: 'no' is not allowed", "boolean"]),
    ("steps: null", ["steps: None is not allowed", "integer"]),
    ("steps: [1, 2]", ["steps: [1, 2] is not allowed", "integer"]),
    ("name: 3", ["name: 3 is not allowed", "string"]),
    ("name: 2026-01-31", ["name: ", "2026", "string"]),
    ("policy: {trust_remote_code: maybe}", ["policy.trust_remote_code: 'maybe' is not allowed", "boolean"]),
    ("engine: 5", ["engine: 5 is not allowed", "section", "kind, count"]),
    ("engine:", ["engine: None is not allowed", "section", "max_num_seqs"]),
    ("mprm: [1]", ["mprm: [1] is not allowed", "section", "batch_size"]),
    ("task: {train_files: a.jsonl}", ["task.train_files: 'a.jsonl' is not allowed", "list"]),
    ("task: {train_files: [a.jsonl, 3]}", ["task.train_files.1: 3 is not allowed", "string"]),
    ("task: {columns: [question]}", ["task.columns: ['question'] is not allowed", "mapping"]),
    ("task: {columns: {question: 1}}", ["task.columns.question: 1 is not allowed", "string"]),
    # values out of range
    ("steps: 0", ["steps: 0 is not allowed", "greater than or equal to 1"]),
    ("max_staleness: -1", ["max_staleness: -1 is not allowed", "greater than or equal to 0"]),
    ("deadline: 0", ["deadline: 0 is not allowed", "greater than 0"]),
    ("deadline: .inf", ["deadline: inf is not allowed", "finite"]),
    ("deadline: .nan", ["deadline: nan is not allowed", "finite"]),
    ("selection: {alpha: .inf}", ["selection.alpha: inf is not allowed", "finite"]),
    ("selection: {keep_ratio: 0}", ["selection.keep_ratio: 0 is not allowed", "greater than 0"]),
    ("selection: {keep_ratio: 1.01}", ["selection.keep_ratio: 1.01 is not allowed", "less than or equal to 1"]),
    ("annotation: {share: 2}", ["annotation.share: 2 is not allowed", "less than or equal to 1"]),
    ("learner: {samples: 1}", ["learner.samples: 1 is not allowed", "greater than or equal to 2"]),
    ("task: {difficulty: 4}", ["task.difficulty: 4 is not allowed", "less than or equal to 3"]),
    # not among the allowed
    ("engine: {kind: sglang}", ["engine.kind: 'sglang' is not allowed", "'vllm' or 'hf'"]),
    ("learner: {loss: ppo}", ["learner.loss: 'ppo' is not allowed", "'grpo'", "'dapo'"]),
    ("selection: {half_life: -1}", ["selection.half_life: -1 is not allowed", "greater than or equal to 0"]),
    ("selection: {fresh: 1.5}", ["selection.fresh: 1.5 is not allowed", "less than or equal to 1"]),
    ("selection: {draw: best}", ["selection.draw: 'best' is not allowed", "'uniform', 'proportional' or 'top'"]),
    ("selection: {prior: [0, 1]}", ["selection.prior.0: 0 is not allowed", "greater than 0"]),
    ("selection: {max_all_negative: 2}", ["selection.max_all_negative: 2 is not allowed"]),
    ("annotation: {budget: free}", ["annotation.budget: 'free' is not allowed", "'first_success'"]),
    ("annotation: {budget: triage, probe: 9}", ["annotation.probe: 9 is not allowed", "continuations, 8"]),
    ("annotation: {error: 0.5}", ["annotation.error: 0.5 is not allowed", "less than 0.5"]),
    ("evaluation: {bench: other}", ["evaluation.bench: 'other' is not allowed", "'visualprocessbench'"]),
    ("policy: {dtype: float16}", ["policy.dtype: 'float16' is not allowed", "'float32' or 'bfloat16'"]),
    ("judge: {endpoint: localhost:8000}", ["judge.endpoint: 'localhost:8000' is not allowed", "http or https address"]),
    ("judge: {rule: both}", ["judge.rule: 'both' is not allowed", "'negative'", "'drop'"]),
    ("judge: {kinds: [vision]}", ["judge.kinds.0: 'vision' is not allowed", "'perception', 'reasoning' or ''"]),
    ("judge: {share: 0}", ["judge.share: 0 is not allowed", "greater than 0"]),
    ("judge: {retries: -1}", ["judge.retries: -1 is not allowed"]),
    ("judge: {price_input: -1}", ["judge.price_input: -1 is not allowed"]),
    # regular expressions
    ("task: {perception_marker: '('}", ["task.perception_marker: '(' is not allowed", "regular expression"]),
    ("task: {reasoning_marker: 'x*'}", ["task.reasoning_marker: 'x*' is not allowed", "empty text"]),
    ("task: {steps: '('}", ["task.steps: '(' is not allowed", "regular expression"]),
    ("task: {steps: ''}", ["task.steps: '' is not allowed", "empty text"]),
    ("task: {steps: sentences}", ["task.steps: 'sentences' is not allowed", "did you mean sentence?"]),
    ("task: {steps: Blank-Line}", ["task.steps: 'Blank-Line' is not allowed", "did you mean blank_line?"]),
    ("task: {steps: 3}", ["task.steps: 3 is not allowed"]),
    ("task: {steps: line, step_separator: x}", ["steps and step_separator are one key", "allowed is one"]),
    ("task: {step_separator: '('}", ["task.step_separator: '(' is not allowed", "regular expression"]),
    ("task: {step_separator: ''}", ["task.step_separator: '' is not allowed", "empty text"]),
    (r"task: {step_separator: '\n*'}", [r"task.step_separator: '\\n*' is not allowed", "empty text"]),
    ("task: {answer_marker: '['}", ["task.answer_marker: '[' is not allowed", "regular expression"]),
    # impossible combinations
    ("task: {name: files}", ["task.name is 'files'", "task.train_files", "task.heldout_files"]),
    ("task: {name: files, train_files: [a.jsonl]}", ["task.name is 'files'", "task.heldout_files"]),
    (
        "engine: {max_completion_tokens: 256, max_model_len: 256}",
        ["engine.max_completion_tokens is 256", "below engine.max_model_len, 256"],
    ),
    ("evaluation: {bench: processbench}", ["evaluation.bench is set", "evaluation.bench_path"]),
    ("judge: {endpoint: 'http://localhost:8000/v1'}", ["judge.endpoint is set", "judge.model"]),
    # no mapping, no YAML
    ("- steps", ["holds a list", "mapping"]),
    ("steps", ["holds a str", "mapping"]),
    ("steps: [", ["not YAML", "line 1"]),
    ("steps: 3\n\tseed: 4", ["not YAML", "line 2"]),
    ("name: 2026-02-31", ["not YAML", "day is out of range"]),
    ("{[1]: 2}", ["not YAML", "unhashable"]),
    ("a: !!python/object/apply:os.getcwd []", ["not YAML", "python/object"]),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[text for text, _ in WRONG])
def test_wrong_configurations_are_refused_in_one_line(text: str, told: list[str], tmp_path: Path) -> None:
    path = written(tmp_path, text)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert [part for part in told if part not in message] == []


def test_the_first_of_several_problems_is_told_and_the_others_counted(tmp_path: Path) -> None:
    message = refusal(written(tmp_path, "steps: 0\nseed: x\nlearner: {samples: 0, sample: 1}\n"))
    assert "seed: 'x' is not allowed" in message
    assert message.endswith("(and 3 more)")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("steps", "'steps': an override is key.sub=value"),
        ("=3", "'=3': an override is key.sub=value"),
        ("", "'': an override is key.sub=value"),
        ("steps=[", "'steps=[': the value is not YAML"),
        ("name=a: b: c", "the value is not YAML"),
        ("name=2026-02-31", "the value is not YAML"),
        ("engine.kind.x=1", "'engine.kind.x=1': kind is a value, not a section"),
        ("seed.x=1", "'seed.x=1': seed is a value, not a section"),
        ("learner.sample=1", "learner.sample: no such key; did you mean samples? allowed here: prompts, samples"),
        ("steps=", "steps: None is not allowed"),
        ("steps=0", "steps: 0 is not allowed"),
        ("engine=5", "engine: 5 is not allowed"),
        ("engine..kind=hf", "engine.: no such key"),
        (".=3", "no such key"),
    ],
)
def test_wrong_overrides_are_refused_in_one_line(override: str, told: str, tmp_path: Path) -> None:
    assert told in refusal(written(tmp_path, "seed: 1\nengine: {kind: hf}\n"), override)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.yaml") == f"{tmp_path / 'gone.yaml'}: cannot be read: No such file or directory"
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read: ")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff")
    assert refusal(tmp_path / "picture.yaml") == f"{tmp_path / 'picture.yaml'}: cannot be read: not UTF-8 text"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("sentence", "sentence"),
        (r"'\n\n'", r"\n\n"),
        (r"'Step \d+:'", r"Step \d+:"),
        ("my_steps:cut", "my_steps:cut"),
        ("'。'", "。"),
    ],
)
@pytest.mark.parametrize("key", ["steps", "step_separator"])
def test_steps_are_cut_by_a_name_an_expression_or_a_function_under_either_name(
    key: str, value: str, kept: str, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(f"task: {{{key}: {value}}}", encoding="utf-8")
    assert load_config(tmp_path / "a.yaml").task.steps == kept
    assert load_config(None, [f"task.{key}={value}"]).task.steps == kept


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_survive_saving(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


NUMBERS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
CONFIGS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXTS,
        "seed": st.integers(0, 2**32 - 1),
        "deadline": NUMBERS,
        "output_dir": st.none() | TEXTS,
        "task": st.fixed_dictionaries(
            {
                "columns": st.dictionaries(TEXTS, TEXTS, max_size=3),
                "train_files": st.lists(TEXTS, max_size=3),
                "answer_marker": st.sampled_from([None, "Answer:", r"\s*#+\s", "null", "yes", "1e3"]),
                "step_separator": st.sampled_from([r"\n", "\n", "\u2028", r"(?=Step \d)", "\t"]),
            }
        ),
        "learner": st.fixed_dictionaries({"learning_rate": NUMBERS, "samples": st.integers(2, 2**63 - 1)}),
        "policy": st.fixed_dictionaries({"trust_remote_code": st.booleans(), "checkpoint": TEXTS}),
    },
)


@settings(max_examples=40)
@given(CONFIGS)
def test_what_is_saved_is_what_is_loaded(tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]) -> None:
    config = Config.model_validate(values)
    path = tmp_path_factory.getbasetemp() / "saved.yaml"
    save_config(config, path)
    assert load_config(path) == config
    everything = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(everything) == set(Config.model_fields)  # defaults too: a later version may have others


def test_every_field_says_what_it_is() -> None:
    sections = [Config, *(type(value) for _, value in Config() if hasattr(type(value), "model_fields"))]
    undocumented = [
        f"{section.__name__}.{name}"
        for section in sections
        for name, field in section.model_fields.items()
        if not field.description and not hasattr(field.annotation, "model_fields")
    ]
    assert len(sections) >= 9
    assert undocumented == []


AS_TYPED = [
    ("1e-4", 1e-4),
    ("1E-4", 1e-4),
    ("1.0e-4", 1e-4),
    ("+1e3", 1e3),
    ("-2.5e+2", -250.0),
    (".5e-3", 5e-4),
    ("3e-1", 0.3),
    ("1_000", 1000),
    ("010", 10),
    ("0x10", 16),
    (".inf", float("inf")),
    ("off", "off"),
    ("OFF", "OFF"),
    ("no", "no"),
    ("true", True),
    ("12:30", "12:30"),
    ("1e", "1e"),
    ("e4", "e4"),
    ("1e-4x", "1e-4x"),
    ("1.2.3", "1.2.3"),
    ("'1e-4'", "1e-4"),
    ("[1e-4, off]", [1e-4, "off"]),
]


@pytest.mark.parametrize(("text", "value"), AS_TYPED, ids=[text for text, _ in AS_TYPED])
def test_values_are_what_users_type(text: str, value: Any) -> None:
    found = read_yaml(text)
    assert (found, type(found)) == (value, type(value))


def test_numbers_are_numbers_wherever_they_stand(tmp_path: Path) -> None:
    given = ["learner.trl.epsilon_high=3e-1", "learner.kl=1e-3", "learner.prompts=1e1", "engine.segment_tokens=2e1"]
    learner = load_config(written(tmp_path, "max_staleness: 1e0\n"), given).learner
    assert (learner.trl, learner.kl, learner.prompts) == ({"epsilon_high": 0.3}, 1e-3, 10)
    for override in ("learner.prompts=1e-1", "learner.dynamic_sampling=false", "watch.action=no"):
        assert "not allowed" in refusal(written(tmp_path, "seed: 1\n"), override)
    assert not load_config(written(tmp_path, "record: off\nmprm: {likelihood: off}\n")).mprm.likelihood


@pytest.mark.parametrize("words", [("Yes", "No"), ("yes", "no"), ("on", "off"), ("ON", "Off"), ("y", "n")])
def test_words_are_words_where_words_are_wanted(words: tuple[str, str], tmp_path: Path) -> None:
    right, wrong = words
    section = f"mprm: {{verdicts: [{right}, {wrong}], freeze_vision: {right}, until_first_error: {wrong}}}\n"
    read = load_config(written(tmp_path, section))
    typed = [f"mprm.verdicts=[{right},{wrong}]", f"mprm.freeze_vision={right}", f"mprm.until_first_error={wrong}"]
    for mprm in (read.mprm, load_config(None, typed).mprm):
        assert (mprm.verdicts, mprm.freeze_vision, mprm.until_first_error) == (words, True, False)
    save_config(read, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == read


def test_what_else_looks_like_another_value_is_to_be_quoted(tmp_path: Path) -> None:
    for verdicts in ("[true, false]", "[1, 0]"):
        assert refusal(written(tmp_path, "seed: 1\n"), f"mprm.verdicts={verdicts}").endswith(
            "is not allowed: input should be a valid string, in quotes where it looks like something else (and 1 more)"
        )
    quoted = load_config(None, ["mprm.verdicts=['True', \"1\"]"])
    assert quoted.mprm.verdicts == ("True", "1")


@pytest.mark.parametrize("text", ["1e3", "1E-4", "010", "12:30", "off", "yes", "0x1f", ".5e1", "1_0", "null", "~", ""])
def test_text_that_looks_like_another_value_stays_text(text: str, tmp_path: Path) -> None:
    config = Config.model_validate({"task": {"instruction": text}})
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
    assert yaml.safe_load((tmp_path / "saved.yaml").read_text())["task"]["instruction"] == text


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]\n" for number in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "more than 100,000 values, those of aliases among them"),
        ("name: &a [*a]", "an alias stands inside of what it names"),
        ("learner: &a {steps: *a}", "an alias stands inside of what it names"),
        ("name: &a {<<: *a}", "an alias stands inside of what it names"),
        (f"steps: 0x{'f' * 5000}", "thousands of digits"),
        (f"steps: {'9' * 5000}", "digits"),
        ("name: " + "x" * 200_000, "allowed are at most 200,000"),
        ("[" * 100_000, "too deep"),
    ],
)
def test_texts_that_stand_for_too_much_are_refused_at_once(text: str, words: str) -> None:
    with pytest.raises(YAMLTextError, match=words):
        read_yaml(text)


def test_aliases_are_what_they_name() -> None:
    assert read_yaml("a: &x {b: [1, 2]}\nc: *x\nd: {<<: *x, e: 3}") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": {"b": [1, 2], "e": 3},
    }
