"""Wrong input, given to the command line: exit code 2, one line that says what and what is allowed, nothing written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from rl.cli import main
from tests.fixtures.wrong_files import write_wrong_files

PROMPTS = "annotate good.yaml -o {out}/o.jsonl --prompts 1 task.name=files task.heldout_files=[more.jsonl]"
TRAIN = "train good.yaml output_dir={out}/run"
BENCH = "eval prm --mprm cut_weights --json {out}/o.json"
OUTCOME = "train-outcome good.yaml -o {out}/model"
SELECT = "select -o {out}/o.jsonl"

COMMAND_LINES = {
    "train": ["name a configuration", "--resume RUN"],
    "train good.yaml --nonsense": ["no such option", "--nonsense"],
    "nonsense": ["no such command", "'nonsense'"],
    "train --resume nowhere": ["--resume: nowhere", "config.yaml"],
    "train good.yaml --dry-run --gpu-gb -1": ["--gpu-gb -1", "above 0"],
    "train good.yaml steps": ["'steps'", "key.sub=value"],
    "train good.yaml steps=many": ["good.yaml: steps: 'many'", "integer"],
    "train good.yaml learner.lr=1": ["learner.lr: no such key", "learning_rate"],
    "train good.yaml seed=-1": ["seed: -1", "greater than or equal to 0"],
    "train good.yaml seed=99999999999": ["seed: 99999999999", "less than 4294967296"],
    "train good.yaml 'learner={samples: 2, samples: 3}'": ["'learner={samples: 2, samples: 3}'", "'samples'", "once"],
    "train good.yaml output_dir=file": ["output_dir: file", "no folder"],
    "train good.yaml output_dir=good.yaml/a/b": ["output_dir: good.yaml/a/b", "good.yaml is no folder"],
    f"train good.yaml output_dir={'x' * 400}": ["output_dir: xxx", "too long"],
    f"{TRAIN} task.seed=-1": ["task.seed: -1", "greater than or equal to 0"],
    f"{TRAIN} task.name=puzzles": ["task.name: 'puzzles'", "grid, beliefs, files", "package.module:Name"],
    f"{TRAIN} task.name=os.path:join": ["task.name: 'os.path:join' cannot be made", "TypeError"],
    f"{TRAIN} task.name=builtins:id": ["task.name: 'builtins:id' makes a int", "rl.tasks.task"],
    f"{TRAIN} task.verifier=psychic": ["task.verifier: 'psychic'", "exact"],
    f"{TRAIN} selection.selector=best": ["selection.selector: 'best'", "bis_posterior", "low_mc"],
    f"{TRAIN} selection.selector=json:JSONDecodeError": ["selection.selector: 'json:JSONDecodeError' cannot be made"],
    f"{TRAIN} --dry-run selection.selector=builtins:int": ["selection.selector: 'builtins:int' makes a int", "called"],
    f"{TRAIN} task.verifier=os:nothing": ["task.verifier: 'os:nothing' cannot be imported"],
    f"{TRAIN} mprm.label=soft_and_hard": ["mprm.label: 'soft_and_hard'", "hard, soft"],
    "annotate good.yaml --prompts 1": ["-o OUT.jsonl"],
    "annotate good.yaml --prompts 0 -o {out}/o.jsonl": ["--prompts 0", "1 to 10,000,000"],
    f"annotate good.yaml --prompts {10**12} -o {{out}}/o.jsonl": [f"--prompts {10**12}: allowed is 1 to 10,000,000"],
    f"eval policy good.yaml --prompts {10**12}": [f"--prompts {10**12}: allowed is 1 to 10,000,000"],
    f"eval policy good.yaml --n 1,{10**12}": [f"--n 1,{10**12}: allowed is 1 to 10,000"],
    f"try good.yaml --samples {10**12}": [f"--samples {10**12}: allowed is 2 to 10,000"],
    f"plan good.yaml --seconds rollout=1 --gpus {'9' * 5000}": ["--gpus", "whole numbers up to 100,000"],
    "annotate good.yaml --prompts 1 -o {out}/o.csv": ["-o {out}/o.csv", ".jsonl"],
    "annotate good.yaml --prompts 1 -o gone/o.jsonl": ["-o gone/o.jsonl", "no folder gone"],
    "annotate good.yaml --prompts 1 -o made.jsonl": ["made.jsonl is there already", "name another file"],
    "annotate good.yaml --prompts 1 -o {out}/o.jsonl --split test": ["--split 'test'", "train, heldout"],
    f"{SELECT} gone.jsonl": ["gone.jsonl does not exist"],
    f"{SELECT} folder": ["folder has no *.jsonl files"],
    f"{SELECT} good_corpus.jsonl --ratio 2": ["--ratio 2", "at most 1"],
    f"{SELECT} good_corpus.jsonl --selector psychic": ["--selector: 'psychic'", "bis_posterior"],
    f"{SELECT} good_corpus.jsonl --selector builtins:memoryview": ["--selector: 'builtins:memoryview' cannot be made"],
    f"{SELECT} torn_corpus.jsonl --strict": ["torn_corpus.jsonl:1", "not JSON"],
    "select good_corpus.jsonl -o good_corpus.jsonl": ["-o good_corpus.jsonl", "one of the inputs"],
    "make-policy folder": ["FOLDER folder: is there already", "another folder"],
    "make-policy gone/new": ["FOLDER gone/new: there is no folder gone"],
    f"make-policy {'x' * 400}": ["FOLDER xxx", "too long"],
    "make-policy {out}/new --seed -1": ["--seed -1", "0 or more"],
    "plan good.yaml": ["--run RUN", "--seconds"],
    "plan good.yaml --seconds rollout=fast": ["--seconds", "rollout=fast"],
    "plan good.yaml --run nowhere": ["nowhere"],
    "eval policy": ["name a configuration", "--run RUN"],
    "eval policy good.yaml --strategy psychic": ["--strategy 'psychic'", "best_of_n"],
    "eval policy good.yaml --n 0": ["--n 0", "1 to 10,000"],
    "eval policy good.yaml --policy cut_weights": ["--policy: cut_weights/model.safetensors is damaged"],
    "eval policy good.yaml --mprm file": ["--mprm file is no folder"],
    "eval prm --path labels_bench": ["--mprm CKPT"],
    f"{OUTCOME}": ["--pairs FILE.jsonl"],
    f"{OUTCOME} --pairs gone.jsonl": ["--pairs: gone.jsonl cannot be read"],
    f"{OUTCOME} --pairs good_pairs.jsonl --held-out 2": ["--held-out 2", "below 1"],
}
CONFIGS = {
    "gone.yaml": ["No such file"],
    "folder": ["Is a directory"],
    "latin.yaml": ["not UTF-8"],
    "utf16.yaml": ["not UTF-8"],
    "twice.yaml": ["line 5", "'samples'", "in line 3", "allowed is once"],
    "list.yaml": ["holds a list", "mapping"],
    "open.yaml": ["not YAML: line 3"],
    "tab.yaml": ["not YAML: line 2"],
    "control.yaml": ["not YAML", "#x0001"],
    "deep.yaml": ["not YAML", "too deep"],
    "laughs.yaml": ["not YAML: line 1", "more than 100,000 values"],
    "circle.yaml": ["not YAML: line 1", "an alias stands inside of what it names"],
    "tag.yaml": ["not YAML", "tag"],
    "python.yaml": ["not YAML: line 1", "python/object"],
    "digits.yaml": ["not YAML", "5000 digits"],
    "zero.yaml": ["name: 'a\\x00b'", "no zero"],
    "half.yaml": ["name: '\\ud800'", "half of a character"],
    "long.yaml": ["engine.kind: 'xxx", "...", "'vllm' or 'hf'"],
}
TABLES = {
    "gone.jsonl": ["no such file"],
    "gone": ["no such file or folder", "FOLDER[:CONFIG]:SPLIT"],
    "table.csv": ["table.csv: holds no rows"],
    "ragged.csv": ["not readable as csv", "line 3: 2 cells for 3 columns"],
    "utf16.csv": ["not readable as csv", "UTF-16", "UTF-8"],
    "utf16.jsonl": ["not readable as jsonl", "UTF-16", "UTF-8"],
    "cut.jsonl.gz": ["not readable as jsonl", "compression is damaged"],
    "nan_answer.jsonl": ["row 1: column 'answer'", "no answer"],
    "table.xlsx": ["unknown kind of file", ".parquet"],
    "empty.jsonl": ["holds no rows"],
    "blank.jsonl": ["blank.jsonl"],
    "torn.jsonl": ["not readable as jsonl", "line 2", "not JSON"],
    "latin.jsonl": ["latin.jsonl: row 1", "allowed is UTF-8"],
    "list.jsonl": ["not readable as jsonl", "line 2", "not an object"],
    "torn.parquet": ["not readable as parquet"],
    "cut.parquet": ["not readable as parquet"],
    "empty.parquet": ["holds no rows"],
    "no_answer.jsonl": ["no column 'answer' for answer", "question, images", "task.columns.answer"],
    "null_answer.jsonl": ["row 1: column 'answer'", "text or a number"],
    "list_question.jsonl": ["column 'question'", "type list", "text or a number"],
    "number_image.jsonl": ["row 0: column 'images'", "it is a number", "a path"],
    "placeholder.jsonl": ["row 0: column 'question'", "<image 2>"],
    "bytes.parquet": ["row 0: column 'images': image cannot be read", "no known format"],
    "more.jsonl": ["both task.train_files and task.heldout_files"],
    "folder": ["folder: cannot be loaded"],
    "hub:nobody": ["hub:nobody", "hub:OWNER/NAME"],
}
IMAGES = {
    "gone": ["2 of 2: image gone.png", "No such file"],
    "emptypng": ["image empty.png", "it is empty"],
    "textpng": ["image text.png", "no known format", "PNG"],
    "drawingsvg": ["image drawing.svg", "no known format"],
    "pageeps": ["image page.eps", "no known format"],
    "cut_headpng": ["image cut_head.png", "cannot be read"],
    "largepng": ["image large.png", "89,478,485 pixels"],
    "largerpng": ["image larger.png", "89,478,485 pixels"],
    "movinggif": ["image moving.gif", "3 frames", "one"],
    "movingpng": ["image moving.png", "3 frames", "one"],
    "pagestiff": ["image pages.tiff", "3 frames", "one"],
    "floattiff": ["image float.tiff", "32 bits", "8 or 16"],
    "folderpng": ["image folder.png", "no file"],
    "circlepng": ["circle.png", "cannot be read"],
    "zero": ["no path"],
    "endless": ["cannot be read"],
    "up": ["../outside.png lies outside of", "task.image_root"],
    "absolute": ["/etc/hostname lies outside of", "task.image_root"],
    "linkpng": ["image link.png lies outside of", "task.image_root"],
}
CHECKPOINTS = {
    "gone": ["gone is no folder", "hub name"],
    "file": ["file is no folder"],
    "folder": ["folder holds no *.safetensors"],
    "only_pickles": ["only_pickles holds no *.safetensors"],
    "cut_weights": ["cut_weights/model.safetensors is damaged"],
    "torn_config": ["torn_config/config.json is damaged", "not JSON"],
    "torn_tokenizer": ["'torn_tokenizer' cannot be used: KeyError: 'added_tokens'"],
    "missing_part": ["model-00002-of-00002.safetensors is missing", "index.json"],
    "no_processor": ["'no_processor'", "processor"],
}
CORPORA = {
    "gone.jsonl": ["cannot be read", "No such file"],
    "empty_corpus.jsonl": ["no usable record", "empty"],
    "torn_corpus.jsonl": ["torn_corpus.jsonl:1: not JSON"],
    "other_corpus.jsonl": ["other_corpus.jsonl:1: not a JSON object"],
    "imageless_corpus.jsonl": ["imageless_corpus.jsonl:1: no image"],
    "outside_corpus.jsonl": ["outside_corpus.jsonl:1: image ../outside.png lies outside of"],
    "gone_corpus.jsonl": ["gone_corpus.jsonl:1: image gone.png", "No such file"],
    "large_corpus.jsonl": ["large_corpus.jsonl:1: image large.png", "89,478,485"],
    "wordy_corpus.jsonl": ["wordy_corpus.jsonl:1: step 1", "no number"],
    "impossible_corpus.jsonl": ["impossible_corpus.jsonl:1: step 1 has 9 right of 8"],
}
PAIRS = {
    "empty_pairs.jsonl": ["no usable record", "empty"],
    "equal_pairs.jsonl": ["equal_pairs.jsonl:1: chosen and rejected are the same"],
    "outside_pairs.jsonl": ["outside_pairs.jsonl:1: image /etc/hostname lies outside of"],
}
BENCHES = {
    "gone": ["gone does not exist"],
    "empty_bench": ["empty_bench has no *.jsonl"],
    "labels_bench": ["test.jsonl:1: process_correctness: step 1 has label 2", "1, 0 or -1"],
    "gone_bench": ["test.jsonl:1: image gone_bench/gone.png", "No such file"],
    "outside_bench": ["test.jsonl:1: image ../red.png lies outside of"],
    "torn_bench": ["test.jsonl:1: not JSON"],
}
SCORES = {
    "high_scores.jsonl": ["high_scores.jsonl:1", "2", "0 to 1"],
    "short_scores.jsonl": ["short_scores.jsonl:1", "2 scores"],
}

CASES = (
    [*COMMAND_LINES.items()]
    + [(f"train {name}", [name, *told]) for name, told in CONFIGS.items()]
    + [(f"{PROMPTS} task.train_files=[{name}]", told) for name, told in TABLES.items()]
    + [(f"{PROMPTS} task.train_files=[image_{name}.jsonl]", ["row 1", *told]) for name, told in IMAGES.items()]
    + [(f"{PROMPTS} task.train_files=[choices.jsonl] task.columns.choices=choices", ["row 0: column 'answer': '4'"])]
    + [(f"{PROMPTS} task.train_files=[good.jsonl,good.jsonl]", ["good.jsonl", "named twice"])]
    + [(f"{PROMPTS} task.train_files=[good.jsonl] task.image_root=gone", ["task.image_root: 'gone' is no folder"])]
    + [(f"{PROMPTS} task.train_files=[good.jsonl] task.columns.image=x", ["task.columns: no field 'image'", "images"])]
    + [(f"{TRAIN} policy.checkpoint={name}", ["policy.checkpoint", *told]) for name, told in CHECKPOINTS.items()]
    + [(f"{TRAIN} mprm.checkpoint=cut_weights", ["mprm.checkpoint: cut_weights/model.safetensors is damaged"])]
    + [(f"{TRAIN} mprm.beside=[folder]", ["mprm.beside: 'folder' is not the folder of a saved MPRM"])]
    + [(f"{TRAIN} mprm.warm_start=[{name}]", ["mprm.warm_start", *told]) for name, told in CORPORA.items()]
    + [(f"{OUTCOME} --pairs {name}", ["--pairs", *told]) for name, told in PAIRS.items()]
    + [(f"{BENCH.replace('cut_weights', 'grid_policy')} --path {name}", told) for name, told in BENCHES.items()]
    + [(f"{BENCH} --path labels_bench", ["--mprm: cut_weights/model.safetensors is damaged"])]
    + [(f"eval prm --scores {name} --json {{out}}/o.json", told) for name, told in SCORES.items()]
)


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wrong") / "files"
    folder.mkdir()
    write_wrong_files(folder)
    return folder


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 60 and len(dict(CASES)) == len(CASES)


@pytest.mark.parametrize(("line", "told"), CASES, ids=[line[:100] for line, _ in CASES])
def test_wrong_input_is_refused_in_one_line(
    line: str,
    told: list[str],
    wrong_files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(wrong_files)
    monkeypatch.setattr("sys.argv", ["sieve", *shlex.split(line.replace("{out}", str(tmp_path)))])
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # none of this is to come as far as that
    before = sorted(wrong_files.rglob("*"))
    with pytest.raises(SystemExit) as caught:
        main()
    said = capfd.readouterr().err
    assert caught.value.code == 2, said
    assert said.startswith("sieve: ") and len(said.splitlines()) == 1 and len(said) < 1000, said
    assert [words for words in told if words not in said.replace(str(tmp_path), "{out}")] == [], said
    assert list(tmp_path.iterdir()) == [] and sorted(wrong_files.rglob("*")) == before, "nothing is written"
