"""The MPRM of a run on people's step labels: ``evaluation.bench``, at the start, at the end, and in between."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rewards.image_files import UnreadableImageError, check_images
from rewards.measuring.process_benchmark import BenchmarkError, Solution, read_benchmark
from rewards.measuring.process_scoring import as_rollouts, evaluate_process_benchmark
from rewards.visualprm import separator_text
from rl.config import Config
from rl.errors import ConfigError
from rl.files.named_checkpoint import make_encoder
from rl.parts import Parts


def read_configured_benchmark(config: Config) -> list[Solution]:
    """The benchmark that the configuration names; empty if it names none.

    Raises:
        ConfigError: It is not there, or not as published, or the MPRM cannot read it.
    """
    evaluation = config.evaluation
    if evaluation.bench is None or evaluation.bench_path is None:
        return []
    try:
        solutions = read_benchmark(evaluation.bench, Path(evaluation.bench_path))
        as_rollouts(solutions, make_encoder(config), separator_text(config.task.step_separator))
        for solution in solutions:
            check_images(solution.images)
    except (BenchmarkError, UnreadableImageError) as error:
        raise ConfigError(f"evaluation.bench_path: {error}") from None
    return solutions


def evaluate_on_benchmark(config: Config, parts: Parts, solutions: Sequence[Solution]) -> dict[str, float]:
    """The MPRM's metrics on the benchmark, at a threshold of 0.5, as named scalars for the monitor.

    Raises:
        ConfigError: An image turned out to be broken.
        WorkerError: The MPRM's worker failed.
    """
    bench = config.evaluation.bench
    if bench is None or not solutions:
        return {}
    separator = separator_text(config.task.step_separator)
    try:
        report = evaluate_process_benchmark(
            bench, solutions, parts.encoder, partial(parts.mprm.call, "score"), separator
        )
    except BenchmarkError as error:
        raise ConfigError(f"evaluation.bench_path: {error}") from None
    return report.metrics()
