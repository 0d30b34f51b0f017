"""What the loop sees of a benchmark: the metrics that scoring every solution on its own would give."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from rewards.files.images import load_images
from rewards.measuring.process_benchmark import read_benchmark
from rewards.models.encoding import Encoder
from rewards.process_model.config import MPRMConfig
from rewards.process_model.mprm import MPRM, open_mprm
from rewards.records import Prompt, Rollout
from rl.config import Config
from rl.errors import ConfigError
from rl.evaluating.schedule import evaluate_on_benchmark, read_configured_benchmark
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.tasks.grid import GridTask
from tests.fixtures.grid_benchmark import write_grid_benchmark


class Here:
    """The MPRM in this process, called as its worker is."""

    def __init__(self, mprm: MPRM) -> None:
        self._mprm = mprm

    def call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._mprm, method)(*arguments)


@pytest.fixture(scope="module")
def parts() -> Any:
    encoder = Encoder(str(SHIPPED_POLICY))
    return SimpleNamespace(
        encoder=encoder, mprm=Here(open_mprm(str(SHIPPED_POLICY), encoder, MPRMConfig(batch_size=8, likelihood=False)))
    )


def with_bench(path: Path | None, bench: str = "visualprocessbench") -> Config:
    return Config.model_validate({"evaluation": {"bench": bench, "bench_path": str(path)}} if path else {})


def test_the_metrics_are_those_of_solutions_scored_one_by_one(parts: Any, tmp_path: Path) -> None:
    """More solutions than fit into one chunk, scored with the text cut into steps as a policy's answer is."""
    config = with_bench(write_grid_benchmark(tmp_path, 40))
    solutions = read_configured_benchmark(config)
    assert solutions == read_benchmark("visualprocessbench", tmp_path)
    truth, scores, sources = [], [], []
    for solution in solutions:
        prompt = Prompt("alone", "", solution.question, load_images(solution.images), "")
        tokens = tuple(parts.encoder.tokens("\n".join(solution.steps) + "\n"))
        rollout = Rollout("", "", 0, tokens, (0.0,) * len(tokens), "", parts.encoder.steps(tokens), 0.0, "stop", 0)
        (found,) = parts.mprm.call("score", [prompt], [rollout])
        labelled = [(label, score) for label, score in zip(solution.labels, found.scores, strict=True) if label]
        truth += [label == 1 for label, _ in labelled]
        scores += [score for _, score in labelled]
        sources += [solution.source] * len(labelled)
    metrics = evaluate_on_benchmark(config, parts, solutions)
    assert metrics["mprm/bench_auc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-3)
    called, named = np.array(scores) >= 0.5, np.array(sources)
    assert min(abs(score - 0.5) for score in scores) > 1e-5, "no score is at the threshold, where rounding would decide"
    for source in GridTask.sources:
        expected = f1_score(np.array(truth)[named == source], called[named == source], average="macro")
        assert metrics[f"mprm/bench_macro_f1/{source}"] == pytest.approx(expected)
    areas = ("auc", "auc_index_only", "auc_within_index", "auc_weighted", "auc_standard_error")
    assert {name for name in metrics if name.count("/") == 1} == {
        f"mprm/bench_{name}" for name in ("macro_f1", *areas, "brier", "calibration_error")
    }


def test_without_a_benchmark_there_is_nothing_to_say(parts: Any) -> None:
    assert read_configured_benchmark(Config()) == []
    assert evaluate_on_benchmark(Config(), parts, []) == {}


def test_a_benchmark_that_cannot_be_read_stops_the_run_in_one_line(parts: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.bench_path: .*/no does not exist"):
        read_configured_benchmark(with_bench(tmp_path / "no"))
    config = with_bench(write_grid_benchmark(tmp_path, 4))
    solutions = read_configured_benchmark(config)
    picture = tmp_path / "images" / "2.png"
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(ConfigError, match=r"evaluation\.bench_path: .*test\.jsonl:3: image .*2\.png cannot be read"):
        evaluate_on_benchmark(config, parts, solutions)
    picture.unlink()
    with pytest.raises(ConfigError, match=r"2\.png cannot be read: No such file"):
        read_configured_benchmark(config)
