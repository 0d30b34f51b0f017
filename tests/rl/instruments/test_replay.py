"""Replays of one stream: equal where nothing differs, equal work where something does, and budgets at equal tokens."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rewards.measuring.process_metrics import LabelledSteps
from rewards.records import Annotated
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.files.named_checkpoint import make_encoder
from rl.instruments.replay.measuring import CellResult, area_under_curve, label_noise, tuned_macro_f1
from rl.instruments.replay.relabelling import Labelled, Relabelling, recorded_labels
from rl.instruments.replay.replay import replay
from rl.instruments.replay.replayed_lessons import make_learning
from rl.instruments.replay.stream import open_stream
from rl.monitoring.recording import STREAM, Recording, stream_files
from selection.candidates import gather_candidates
from selection.config import SelectionConfig
from selection.offline.choosing import top
from selection.rows import identity
from selection.selectors import make_selector
from tests.fixtures.builders import an_annotated
from tests.fixtures.recorded_streams import record_stream
from tests.rl.test_end_to_end import SMOKE

STEPS, N = 4, 8
SMALL = [f"steps={STEPS}", "learner.prompts=4", "learner.samples=4", "evaluation.every=2", "evaluation.prompts=12"]
SMALL += [f"annotation.continuations={N}", "mprm.guard_share=0", "replay.optimizer_steps=3", "mprm.learning_rate=1e-3"]
SMALL += ["selection.max_all_negative=1"]


def configured(*overrides: str) -> Config:
    return load_config(SMOKE, [*SMALL, *overrides])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_stream(tmp_path_factory.mktemp("recorded") / "run", configured(), share=0.75)


@pytest.fixture(scope="module")
def online(run: Path) -> CellResult:
    return replay(run, configured())


def test_a_replay_measures_at_every_evaluation_and_sums_up(online: CellResult) -> None:
    assert [row["step"] for row in online.curve] == [0, 2, 4]
    assert [row["optimizer_steps"] for row in online.curve] == [0, 1, 3]
    assert [row["offered"] for row in online.curve] == [0, 24, 48]
    last = online.curve[-1]
    for name in ("auc_within_kind", "macro_f1", "macro_f1_tuned", "macro_f1_reasoning", "brier", "calibration_error"):
        assert 0 <= last[name] <= 1
        assert last[f"final_policy/{name}"] == last[name] == online.final[name]
        heights = [row[name] for row in online.curve]
        assert online.final[f"area/{name}"] == area_under_curve([0, 2, 4], heights)
    assert 0 < online.final["label_noise"] < 0.5 and "label_noise_perception" in online.final
    assert 20 < online.final["kept"] <= 24 and 0 < online.final["age"] < STEPS


def test_replays_that_differ_in_nothing_are_equal(run: Path, online: CellResult) -> None:
    assert replay(run / STREAM, configured()) == online


@pytest.mark.slow
def test_where_everything_is_kept_no_selector_makes_a_difference(run: Path) -> None:
    everything = ["selection.keep_ratio=1", "replay.order=frozen"]
    found = [replay(run, configured(f"selection.selector={name}", *everything)) for name in ("random", "hard")]
    assert found[0] == found[1]
    labelled = [recorded.entry for step in range(1, STEPS + 1) for recorded in open_stream(run).step(step)]
    distinct = {identity(entry) for entry in labelled if len(entry.counts.sampled)}
    assert found[0].final["kept"] == len(distinct) and found[0].curve[0]["kept"] == 0


def test_labels_are_offered_as_late_as_in_a_run_of_these_settings(run: Path) -> None:
    kept = []
    for delay in (0, 1):
        learning = make_learning(configured(f"annotation.delay={delay}"))
        for step in range(1, STEPS + delay):
            learning.offer(recorded_labels(open_stream(run).step(step)), step)
            assert learning.offered == 12 * max(0, step - delay)
        kept.append([identity(entry) for entry in learning.lessons.buffer.kept()])
    assert kept[0] == kept[1], "what is kept of a policy step does not depend on when its labels come"


def test_settings_that_keep_less_do_not_learn_less(run: Path, online: CellResult) -> None:
    sparing = replay(run, configured("selection.keep_ratio=0.05", "mprm.every=4"))
    assert sparing.final["optimizer_steps"] == online.final["optimizer_steps"] == 3
    assert sparing.final["kept"] < 5
    assert sparing.curve[1]["optimizer_steps"] == 0, "its one update comes after the last step"


def test_a_reward_model_that_is_not_refreshed_stays_as_it_is(run: Path) -> None:
    frozen = replay(run, configured("mprm.every=1", "mprm.until=2"))
    assert [row["optimizer_steps"] for row in frozen.curve] == [0, 3, 3]
    measured = [name for name in frozen.curve[1] if name.startswith("final_policy/")]
    assert measured and all(frozen.curve[1][name] == frozen.curve[2][name] for name in measured)


def test_the_frozen_corpus_is_selected_as_published(run: Path) -> None:
    """The top share of each source, by the score of its counts alone."""
    labels = [recorded_labels(open_stream(run).step(step)) for step in range(1, STEPS + 1)]
    corpus = Labelled([r for part in labels for r in part.rollouts], [e for part in labels for e in part.entries], 0)
    learning = make_learning(configured("selection.keep_ratio=0.2"))
    learning.offer(corpus, None)
    published = set()
    for source in {entry.rollout.source for entry in corpus.entries}:
        members = [entry for entry in corpus.entries if entry.rollout.source == source]
        scores = [bis_of(entry) for entry in members]
        published |= {identity(members[place]) for place in top(np.array(scores), 0.2)}
    assert {identity(entry) for entry in learning.lessons.buffer.kept()} == published


def bis_of(entry: Annotated) -> float:
    return float(make_selector("bis", SelectionConfig())(gather_candidates([entry]))[0])


def relabelled(run: Path, *overrides: str) -> list[Labelled]:
    config, stream = configured(*overrides), open_stream(run)
    relabelling = Relabelling(config, make_encoder(config), len(stream.steps))
    return [relabelling.label(step, stream.step(step), None) for step in stream.steps]


def test_continuations_are_taken_in_the_order_of_sampling(run: Path) -> None:
    half = N // 2
    for part in relabelled(run, "replay.tokens=8000", f"annotation.continuations={half}"):
        assert part.entries
        for recorded, entry in zip(part.rollouts, part.entries, strict=True):
            drawn = [[sample.right for sample in step[:half]] for step in recorded.continuations]
            assert entry.counts.correct.tolist() == [step.count(True) for step in drawn]
            assert entry.counts.sampled.tolist() == [half - step.count(None) for step in drawn]


def test_a_budget_that_cannot_spend_its_tokens_is_refused(run: Path) -> None:
    """All budgets are to cost the same; the message says what there is to spend."""
    labelled = [recorded for step in range(1, STEPS + 1) for recorded in open_stream(run).step(step)]
    tokens = sum(sample.tokens for recorded in labelled for step in recorded.continuations for sample in step)
    with pytest.raises(ConfigError, match=f"'fixed' asks for on this stream are {tokens}; allowed is at most that"):
        relabelled(run, f"replay.tokens={100 * tokens}")


def test_budgets_spend_the_same_and_differ_in_what_they_look_at(run: Path) -> None:
    tokens = 10_000
    found = {
        name: relabelled(run, f"replay.tokens={tokens}", f"annotation.budget={name}")
        for name in ("fixed", "first_success", "triage")
    }
    spent = {name: sum(part.tokens for part in parts) for name, parts in found.items()}
    assert all(0.9 * tokens < value <= tokens for value in spent.values()), spent
    looked = {name: sum(len(part.entries) for part in parts) for name, parts in found.items()}
    assert looked["fixed"] < min(looked["first_success"], looked["triage"])
    again = relabelled(run, f"replay.tokens={tokens}")
    assert [part.tokens for part in again] == [part.tokens for part in found["fixed"]]
    nested = [{identity(entry) for entry in parts[0].entries} for parts in (found["fixed"], found["first_success"])]
    assert nested[0] < nested[1], "all budgets look at rollouts in one order"


def test_a_replay_at_equal_tokens_says_what_it_took(run: Path) -> None:
    result = replay(run, configured("replay.tokens=3000", "replay.order=frozen", "annotation.budget=first_success"))
    assert 0 < result.final["continuation_tokens"] <= 3000
    assert result.final["offered"] < 48


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["replay.tokens=4000", "annotation.continuations=9"], ["replay.tokens", "9 continuations", "has 8"]),
        (["mprm.every=5"], ["mprm.every is 5", "no update is due"]),
        (["mprm.enabled=false", "annotation.share=0", "learner.credit=outcome"], ["mprm.enabled is false"]),
        (["selection.selector=best"], ["selection.selector", "'best'"]),
    ],
)
def test_settings_that_do_not_fit_the_stream_are_refused(run: Path, overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        replay(run, configured(*overrides))
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "change", "words"),
    [
        ("token_ids", lambda tokens: [2**62, *tokens[1:]], "token_ids has 4611686018427387904"),
        ("token_ids", lambda tokens: [a_placeholder(), *tokens[1:]], "allowed are those of an answer"),
        ("token_ids", lambda tokens: [-1, *tokens[1:]], "tokens from 0 on"),
        ("logprobs", lambda values: values[1:], "as many logprobs"),
        ("policy_version", lambda _: -1, "policy_version, counts_version: allowed in this file are 0 to 4"),
        ("counts_version", lambda _: 5, "policy_version, counts_version: allowed in this file are 0 to 4"),
        ("mprm_version", lambda _: -1, "mprm_version"),
        ("group", lambda _: -1, "group"),
        ("step", lambda _: 3, "step is 3: allowed in this file is 4"),
        ("scores", lambda scores: scores[1:], "scores has"),
        ("truth", lambda truth: [*truth, True], "truth has"),
        ("question", lambda _: "<|image_pad|> how many?", "a special token of this checkpoint"),
        ("image_files", lambda _: ["../images/0.png"], "image file '../images/0.png'"),
    ],
)
@pytest.mark.parametrize("file", ["step-000004.parquet", "heldout-000004.parquet"])
def test_a_changed_stream_is_refused_as_it_is_opened(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, column: str, change: Any, words: str
) -> None:
    """In its last row, before a model is."""
    monkeypatch.delattr("rl.instruments.replay.replay.make_learning")
    copytree(run / STREAM, tmp_path / STREAM)
    path = tmp_path / STREAM / file
    table = pq.read_table(path)
    *rows, last = table.to_pylist()
    pq.write_table(pa.Table.from_pylist([*rows, last | {column: change(last[column])}], table.schema), path)
    with pytest.raises(ConfigError) as caught:
        replay(tmp_path, configured())
    assert str(caught.value).startswith(f"{path}: row {len(rows)}: ") and words in str(caught.value)


def test_a_stream_that_was_changed_into_another_is_replayed_to_its_end(run: Path, tmp_path: Path) -> None:
    copytree(run / STREAM, tmp_path / STREAM)
    path = tmp_path / STREAM / "step-000002.parquet"
    table = pq.read_table(path)
    rows = [row | {"image_files": [], "informative": np.inf, "outcome": 1e308} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist([*rows, *rows], table.schema), path)
    assert [row["step"] for row in replay(tmp_path, configured()).curve] == [0, 2, 4]


def a_placeholder() -> int:
    return min(make_encoder(Config()).placeholders)


class UnknowingTask:
    """Prompts alone."""

    sources = ("total",)

    def prompt(self, split: str, index: int) -> object:
        raise AssertionError("a recording asks for no prompt")


def test_a_stream_without_truth_or_evaluation_has_nothing_to_measure_by(run: Path, tmp_path: Path) -> None:
    stream, config = open_stream(run), configured()
    recording = Recording(tmp_path / STREAM, UnknowingTask(), make_encoder(config).decode)  # type: ignore[arg-type]
    rollouts = stream.heldout(2)
    parts = [r.entry.prompt for r in rollouts], [r.entry.rollout for r in rollouts], [r.scores for r in rollouts]
    for path in stream_files(run / STREAM).values():
        if path.name == "step-000001.parquet":
            (tmp_path / STREAM).mkdir(exist_ok=True)
            (tmp_path / STREAM / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="no held-out evaluation after a policy step"):
        replay(tmp_path, config)
    recording.heldout(1, *parts)
    with pytest.raises(ConfigError, match=r"no true step labels to measure by; allowed is .* task.name grid"):
        replay(tmp_path, configured("mprm.every=1"))


def test_a_threshold_is_tuned_on_the_other_half() -> None:
    right, first = np.array([False, True, False, True]), np.array([True, True, False, False])
    alike, apart = np.array([0.1, 0.2, 0.1, 0.2]), np.array([0.2, 0.4, 0.6, 0.8])
    assert tuned_macro_f1(LabelledSteps(alike, right), first) == 1
    assert tuned_macro_f1(LabelledSteps(apart, right), first) == 0.5, "the first half is called wrong, the second right"
    assert np.isnan(tuned_macro_f1(LabelledSteps(alike, right), np.ones(4, dtype=bool)))


def test_label_noise_is_the_share_of_labels_that_are_not_true() -> None:
    entry = an_annotated([3, 0, 0], sampled=[8, 8, 0])
    truth = np.array([True, True, True])
    assert label_noise([entry], {identity(entry): truth}) == {"label_noise": 0.5}
    assert label_noise([entry], {identity(entry): np.zeros(0)}) == {}
