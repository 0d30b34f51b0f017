"""What the online MPRM is worth on the quickstart's task: the reward model's tables in docs/results.md.

    python benchmarks/reward_model.py --out runs/reward_model            # three seeds, under an hour on two cores
    python benchmarks/reward_model.py --out runs/reward_model --report   # tables only, from what is there

For each seed: the quickstart, two in five of its rollouts labelled (`online`); an MPRM that learned from the first
policy alone, from as many labelled rollouts and in more optimizer steps, and was then frozen (`frozen`); and none that
learned (`untrained`). All judge the final policy's answers to held-out prompts, whose true step labels serve for this
alone.

What is there is kept, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewards.measuring.discrimination import step_discrimination
from rewards.measuring.process_metrics import LabelledSteps, step_f1
from rl.config import Config, load_config
from rl.engines.making import LocalEngine
from rl.evaluating.guided_search import step_scores
from rl.evaluating.policy import JudgeOrder, open_judge
from rl.files.named_checkpoint import SHIPPED_POLICY, make_encoder
from rl.rollouts.making import make_rollouts, rollout_requests
from rl.tasks.making import make_task, make_verifier
from rl.tasks.task import KnowsSteps, truths_of

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
SIEVE = Path(sys.executable).parent / "sieve"
SEEDS = (0, 1, 2)
BASELINE = "step index"
JUDGES = ("online", "frozen", "untrained")
KINDS = ("perception", "reasoning")
STRATEGIES = "greedy,pass,majority,best_of_n,weighted_majority,one_shot"
SEARCH = "greedy,one_shot,guided_greedy"
SEARCH_PROMPTS = 256


@dataclass(frozen=True)
class Steps:
    """N steps of held-out rollouts (N,): what they are, whether they are right so far, and what each judge says.

    ``tuning`` says which belong to the prompts on which thresholds are chosen; the others are reported.
    """

    kind: np.ndarray
    position: np.ndarray
    right: np.ndarray
    tuning: np.ndarray
    scores: dict[str, np.ndarray]


def main() -> None:
    """Run what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--report", action="store_true", help="run nothing, print what is there")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        for seed in arguments.seeds:
            run_seed(arguments.out, seed)
    rows = [json.loads(path.read_text()) for path in sorted(arguments.out.glob("steps-*.json"))]
    reports = [json.loads(path.read_text()) for path in sorted(arguments.out.glob("strategies-*.json"))]
    searches = [json.loads(path.read_text()) for path in sorted(arguments.out.glob("search-*.json"))]
    if not rows or not reports:
        sys.exit(f"nothing finished under {arguments.out}")
    print_steps(rows)
    print_strategies(reports, searches)


def run_seed(out: Path, seed: int) -> None:
    """Everything of one seed that is not there yet."""
    online, frozen = out / f"online-{seed}", out / f"frozen-{seed}"
    labels = "annotation.share=0.4", "annotation.delay=0"
    sieve(online / "summary.json", "train", CONFIG, f"seed={seed}", f"output_dir={online}", *labels)
    config = load_config(CONFIG, [f"seed={seed}"])
    labelled = json.loads((online / "summary.json").read_text())["selection"]["seen"]
    corpus, chosen = out / f"corpus-{seed}.jsonl", out / f"chosen-{seed}.jsonl"
    prompts = -(-labelled // config.learner.samples)
    if not (frozen / "summary.json").exists():
        run("annotate", CONFIG, f"seed={seed}", "--prompts", prompts, "-o", corpus)
        ratio = config.selection.keep_ratio
        run("select", corpus, "--selector", config.selection.selector, "--ratio", ratio, "--counts", "-o", chosen)
        # It learns before the first policy step, and never again.
        learned = config.steps // config.mprm.every * config.mprm.lesson_size
        kept = sum(1 for _ in chosen.open(encoding="utf-8"))
        warm = [f"mprm.warm_start=[{chosen}]", f"mprm.warm_start_epochs={-(-learned // kept)}", "mprm.every=1000"]
        run("train", CONFIG, f"seed={seed}", f"output_dir={frozen}", "steps=1", "evaluation.prompts=16", *warm)
    judges = {
        "online": online / f"checkpoints/step-{config.steps}/mprm",
        "frozen": frozen / "checkpoints/step-1/mprm",
        "untrained": SHIPPED_POLICY,
    }
    policy = online / f"checkpoints/step-{config.steps}/policy"
    if not (out / f"steps-{seed}.json").exists():
        steps = judged_steps(load_config(CONFIG, [f"seed={seed}", f"policy.checkpoint={policy}"]), judges)
        (out / f"steps-{seed}.json").write_text(json.dumps(measures(steps)) + "\n")
    named = [argument for name, folder in judges.items() for argument in ("--mprm", f"{name}={folder}")]
    evaluate = ["eval", "policy", CONFIG, f"seed={seed}", "--policy", policy]
    report, drawn = out / f"strategies-{seed}.json", out / f"strategies-{seed}.png"
    sieve(report, *evaluate, *named, "--strategy", STRATEGIES, "--n", "1,2,4,8", "--json", report, "--plot", drawn)
    report = out / f"search-{seed}.json"
    searched = [*named[:2], "--strategy", SEARCH, "--n", "8", "--prompts", SEARCH_PROMPTS]
    sieve(report, *evaluate, *searched, "--json", report)


def sieve(result: Path, *arguments: object) -> None:
    """Run the command unless its result is there."""
    if not result.exists():
        run(*arguments)


def run(*arguments: object) -> None:
    """Run the command."""
    subprocess.run([str(SIEVE), *map(str, arguments)], check=True)


def judged_steps(config: Config, judges: dict[str, Path]) -> Steps:
    """The policy's answers to the held-out prompts, step by step, with every judge's scores."""
    task, encoder = make_task(config), make_encoder(config)
    assert isinstance(task, KnowsSteps)
    prompts = [task.prompt("heldout", index) for index in range(config.evaluation.prompts)]
    requests = rollout_requests(prompts, config.evaluation.samples, config.seed, "reward model")
    rollouts = make_rollouts(prompts, LocalEngine(config).sample(requests), encoder, make_verifier(config))
    asked = [prompts[rollout.group] for rollout in rollouts]
    truths = []
    for prompt, rollout in zip(asked, rollouts, strict=True):
        truths += truths_of(task, prompt, rollout, encoder.decode)
    scores = {}
    for name, folder in judges.items():
        judge = open_judge(config, JudgeOrder(name, "mprm", str(folder)))
        scores[name] = np.concatenate(step_scores(judge, asked, rollouts))
    return Steps(
        kind=np.array([span.kind for rollout in rollouts for span in rollout.steps]),
        position=np.array([truth.kind for truth in truths]),
        right=np.array([truth.so_far for truth in truths]),
        # Sources take turns: whole rounds of them are for tuning.
        tuning=np.array([rollout.group // len(task.sources) % 2 == 0 for rollout in rollouts for _ in rollout.steps]),
        scores=scores,
    )


def measures(steps: Steps) -> dict[str, dict[str, dict[str, float]]]:
    """By kind of step and judge: area within a position, and macro-F1 at 0.5 and at a threshold tuned on other prompts.

    The baseline's score of a step is how often a step of its source and position is right, on the tuning prompts.
    """
    rates = {
        position: float(steps.right[steps.tuning & (steps.position == position)].mean())
        for position in np.unique(steps.position[steps.tuning])
    }
    baseline = np.array([rates.get(position, 0.5) for position in steps.position])
    everything = steps.scores | {BASELINE: baseline}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in KINDS:
        here = steps.kind == kind
        report, tune = here & ~steps.tuning, here & steps.tuning
        for judge, scores in everything.items():
            candidates = np.unique(scores[tune])
            tuned = candidates[np.argmax(step_f1(LabelledSteps(scores[tune], steps.right[tune]), candidates).macro)]
            f1 = step_f1(LabelledSteps(scores[report], steps.right[report]), np.array([0.5, tuned])).macro
            area = step_discrimination(scores[report], steps.right[report], steps.position[report]).within_kind
            found.setdefault(kind, {})[judge] = {"area": area, "f1": float(f1[0]), "f1_tuned": float(f1[1])}
    return found


def print_steps(rows: list[dict[str, dict[str, dict[str, float]]]]) -> None:
    """One row a kind and judge: the mean over seeds, and the lowest and highest."""
    print(f"\n{len(rows)} seeds, mean (lowest to highest)\n")
    print(
        "| steps | judge | AUC within a position | macro-F1 at 0.5 | macro-F1, tuned threshold |\n|---|---|---|---|---|"
    )
    for kind in KINDS:
        for judge in (BASELINE, *reversed(JUDGES)):
            cells = []
            for measure in ("area", "f1", "f1_tuned"):
                values = [row[kind][judge][measure] for row in rows]
                cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
            print(f"| {kind} | {judge} | {' | '.join(cells)} |")


def print_strategies(reports: list[dict[str, Any]], searches: list[dict[str, Any]]) -> None:
    """Accuracies at the largest N with their intervals, by seed, and the differences that matter."""
    print_accuracies(reports)
    print_accuracies(searches)
    print("\n| difference, points | samples | each seed, 95 % interval |\n|---|---|---|")
    best, vote = ("best_of_n_min", "online"), ("majority", "")
    compared = [(reports, best, vote, n) for n in (2, 4, 8)]
    compared += [(reports, ("weighted_majority", "online"), vote, n) for n in (2, 4, 8)]
    compared += [(reports, best, ("best_of_n_min", judge), 8) for judge in ("untrained", "frozen")]
    compared += [(searches, ("one_shot", "online"), ("guided_greedy", "online"), 8)]
    for found, of, other, n in compared:
        cells = ", ".join(difference(report, (*of, n), (*other, n)) for report in found)
        print(f"| {' '.join(of)} minus {' '.join(other).strip()} | {n} | {cells} |")


def print_accuracies(reports: list[dict[str, Any]]) -> None:
    """One row a strategy and judge, at the largest N."""
    most = max(point["n"] for point in reports[0]["results"])
    print(f"\n| {most} samples, judge | accuracy of each seed, 95 % interval | tokens a prompt | s a prompt |")
    print("|---|---|---|---|")
    keys = [
        (p["strategy"], p["judge"], p["n"])
        for p in reports[0]["results"]
        if p["n"] == most or p["strategy"] == "greedy"
    ]
    for strategy, judge, n in keys:
        points = [point(report, strategy, judge, n) for report in reports]
        cells = ", ".join(f"{100 * p['accuracy']:.1f} ({100 * p['low']:.1f} to {100 * p['high']:.1f})" for p in points)
        tokens, seconds = (np.mean([p[name] for p in points]) for name in ("tokens", "seconds"))
        name = f"{strategy}, {judge}" if judge else strategy
        print(f"| {name} | {cells} | {tokens:.0f} | {seconds:.3f} |")


def point(report: dict[str, Any], strategy: str, judge: str, n: int) -> dict[str, Any]:
    """The report's entry for a strategy."""
    wanted = (strategy, judge, n)
    return next(entry for entry in report["results"] if (entry["strategy"], entry["judge"], entry["n"]) == wanted)


def difference(report: dict[str, Any], of: tuple[str, str, int], against: tuple[str, str, int]) -> str:
    """A paired difference with its interval, in points."""
    for entry in report["differences"]:
        left = (entry["strategy"], entry["judge"], entry["n"])
        right = (entry["against"], entry["against_judge"], entry["against_n"])
        values = [100 * entry[name] for name in ("difference", "low", "high")]
        if (left, right) == (of, against):
            return f"{values[0]:+.1f} ({values[1]:+.1f} to {values[2]:+.1f})"
        if (right, left) == (of, against):
            return f"{-values[0]:+.1f} ({-values[2]:+.1f} to {-values[1]:+.1f})"
    raise KeyError(f"no difference of {of} against {against}")


if __name__ == "__main__":
    main()
