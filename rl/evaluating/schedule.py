"""All evaluations of a run: each before the first step, after the last one, and every so many steps in between."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rewards.files.images import UnreadableImageError, check_images
from rewards.measuring.process_benchmark import BenchmarkError, Solution, read_benchmark
from rewards.measuring.process_scoring import as_rollouts, evaluate_process_benchmark
from rewards.section import is_due
from rewards.verification.answers import vote_reader
from rl.config import Config
from rl.errors import ConfigError
from rl.evaluating.guided_search import Sampler
from rl.evaluating.heldout import evaluate
from rl.evaluating.strategies import Plan, PolicyEvaluator
from rl.evaluating.strategy_report import evaluate_strategies
from rl.files.named_checkpoint import make_encoder
from rl.monitoring.monitor import Monitor
from rl.parts import Parts


class Evaluations:
    """Evaluates policy and MPRM, and tells the monitor.

    Args:
        config: The experiment.
        parts: What is evaluated.
        monitor: Is told everything.
        benchmark: What `rl.evaluating.schedule.read_configured_benchmark` gave.
    """

    def __init__(self, config: Config, parts: Parts, monitor: Monitor, benchmark: Sequence[Solution]) -> None:
        self._config, self._parts, self._monitor, self._benchmark = config, parts, monitor, benchmark

    def after(self, step: int) -> dict[str, float]:
        """Do what is due after a policy step; gives the metrics of the held-out evaluation, empty if that is not."""
        settings = self._config.evaluation
        held_out: dict[str, float] = {}
        if self._due(settings.every, step):
            what = f"held-out evaluation, {settings.prompts * settings.samples:,} answers"
            with self._monitor.waiting(what if step else f"workers start; then {what}"):
                evaluation = evaluate(self._config, self._parts, step)
            held_out = evaluation.metrics()
            self._monitor.evaluation(step, held_out, evaluation.finding)
        further: dict[str, float] = {}
        if settings.strategies and self._due(settings.strategies_every, step):
            with self._monitor.waiting(f"{settings.strategy_prompts:,} held-out prompts, test-time strategies"):
                further |= self._strategies()
        if self._benchmark and self._due(settings.bench_every, step):
            with self._monitor.waiting(f"{len(self._benchmark):,} solutions of {settings.bench}"):
                further |= evaluate_on_benchmark(self._config, self._parts, self._benchmark)
        if further:
            self._monitor.further_evaluation(step, further)
        return held_out

    def _due(self, every: int, step: int) -> bool:
        return step in (0, self._config.steps) or is_due(every, step)

    def _strategies(self) -> dict[str, float]:
        """Accuracies of test-time strategies on held-out prompts, judged by the MPRM and the outcome model, as far as
        there are any."""
        config, parts = self._config, self._parts
        sampler = Sampler(
            lambda requests: parts.engines.sample(requests).result(),
            parts.encoder,
            parts.verifier,
            config.engine.max_completion_tokens,
        )
        strategies = tuple(dict.fromkeys(config.evaluation.strategies))
        plan = Plan(strategies, tuple(sorted(set(config.evaluation.strategy_n))), config.seed)
        judges = {"mprm": partial(parts.mprm.call, "score")} if config.mprm.enabled else {}
        if parts.answers.model is not None:
            judges["outcome"] = partial(parts.answers.model.call, "score")
        reader = vote_reader(config.task.verifier, parts.verifier, config.task.answer_marker)
        evaluator = PolicyEvaluator(plan, sampler, reader, judges)
        prompts = [parts.task.prompt("heldout", index) for index in range(config.evaluation.strategy_prompts)]
        # A small table begins again; an answer given twice, with the same seeds, would count as two.
        return evaluate_strategies(evaluator, list({prompt.id: prompt for prompt in prompts}.values())).metrics()


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
        encoder = make_encoder(config)
        as_rollouts(solutions, encoder, encoder.rule.between)
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
    encoder = parts.encoder
    try:
        report = evaluate_process_benchmark(
            bench, solutions, encoder, partial(parts.mprm.call, "score"), encoder.rule.between
        )
    except BenchmarkError as error:
        raise ConfigError(f"evaluation.bench_path: {error}") from None
    return report.metrics()
