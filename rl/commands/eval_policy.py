"""``sieve eval policy``: how often a policy is right, and what a judge's choice among its answers adds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from rewards.files.held_folder import scratch_folder
from rewards.files.whole_file import replacing
from rl.commands.ending import MODEL_FAILURES, one_line
from rl.commands.options import MOST_PROMPTS, MOST_SAMPLES, check, one_of
from rl.errors import ConfigError
from rl.files.quiet import quieten_libraries

if TYPE_CHECKING:
    from rewards.measuring.strategies import Strategy
    from rl.config import Config
    from rl.evaluating.policy import Evaluated, JudgeKind, JudgeOrder

CHEAP: tuple[Strategy, ...] = ("greedy", "pass", "majority")
CHEAP_WITH_JUDGE: tuple[Strategy, ...] = (*CHEAP, "best_of_n_mean", "best_of_n_min", "weighted_majority", "one_shot")
OPTIONS: dict[JudgeKind, str] = {"mprm": "--mprm", "outcome": "--outcome-model"}
NAMED_CHECKPOINT = re.compile(r"(?:([\w.-]+)=)?(.+)")


def eval_policy(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG.yaml", help="Task, policy, engine and seed. Not needed with --run.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example engine.temperature=0.7.")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="A run folder: its configuration, and its newest policy and MPRM."),
    ] = None,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S[,S...]", help="Which; the cheap ones unless given. `all`, `best_of_n` (all its rules)."
        ),
    ] = None,
    n: Annotated[str, typer.Option("--n", metavar="N[,N...]", help="Numbers of samples.")] = "1,2,4,8",
    policy: Annotated[
        str | None, typer.Option(metavar="CKPT", help="The policy; the configuration's unless given.")
    ] = None,
    mprm: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]CKPT", help="A judge of steps. Several, with names, judge the same samples."),
    ] = None,
    outcome_model: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]CKPT", help="A judge of whole answers.")
    ] = None,
    prompts: Annotated[int | None, typer.Option(metavar="P", help="How many; evaluation.prompts unless given.")] = None,
    split: Annotated[str, typer.Option(help="heldout or train.")] = "heldout",
    steps: Annotated[
        int, typer.Option(metavar="A", help="Also what the steps of the first A prompts' answers tell; see below.")
    ] = 0,
    json: Annotated[Path | None, typer.Option(metavar="OUT.json", help="Write the report as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw accuracy against N.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="OUT.jsonl", help="Keep all samples and scores; a kill loses none."),
    ] = None,
) -> None:
    """How often a policy is right, and what a judge's choice among its answers adds.

    Strategies: `greedy`, `pass` (any of N right), `majority`; with a judge `best_of_n_mean`, `_min`, `_product`,
    `_last`, `_max`, `weighted_majority`, `step_aggregation`, `one_shot` (the whole answer as one step), and
    `guided_greedy` (the best of N next steps, again and again). All N, and all judges, see the same samples;
    intervals are bootstrapped over prompts, differences are paired.

    With `--steps`, of a task that knows which steps are right: how well likelihood alone tells them apart, and how
    often the Monte-Carlo label of `annotation.continuations` continuations is wrong.

    With `-o` the same command goes on where it was stopped or killed.

    Examples:

    * `sieve eval policy --run runs/quickstart-20261121-101500 --strategy all --n 1,2,4,8,16 --plot strategies.png`
    * `sieve eval policy configs/beliefs.yaml --prompts 128 --steps 48`
    * `sieve eval policy configs/quickstart.yaml --mprm RUN/checkpoints/step-40/mprm --mprm untrained=grid_policy`
    """
    quieten_libraries()
    from rl.evaluating.policy import EvaluationOrder, evaluate_policy
    from rl.evaluating.strategies import Plan
    from rl.evaluating.strategy_views import print_report, print_steps
    from rl.monitoring.console import Console
    from rl.tasks.task import Split

    again = "what is written stays; the same command goes on" if output else "name a file with -o to go on"
    with one_line(again, failed=MODEL_FAILURES), scratch_folder() as folder:
        resolved, newest = find_policy(config, overrides or [], run, policy)
        strategies, judges = find_judges(strategy or [], mprm or [], outcome_model or [], newest)
        number = resolved.evaluation.prompts if prompts is None else prompts
        check(1 <= number <= MOST_PROMPTS, f"--prompts {number}: allowed is 1 to {MOST_PROMPTS:,}")
        check(0 <= steps <= number, f"--steps {steps}: allowed is 0 to the number of prompts, {number}")
        for option, file, suffix in (("-o", output, ".jsonl"), ("--json", json, ".json"), ("--plot", plot, ".png")):
            if file is not None:
                check(file.suffix == suffix, f"{option} {file}: the name must end in {suffix}")
                check(file.parent.is_dir(), f"{option} {file}: there is no folder {file.parent}")
                check(not file.is_dir(), f"{option} {file}: is a folder")
        plan = Plan(strategies, _numbers(n), resolved.seed)
        records = output or folder / "records.jsonl"
        order = EvaluationOrder(plan, judges, number, records, one_of("--split", split, get_args(Split)), steps)
        console = Console()
        evaluated = evaluate_policy(resolved, order, console)
        print_report(evaluated.report)
        if evaluated.steps is not None:
            print_steps(evaluated.steps)
        for line in _write(evaluated, json, plot, output):
            console.say(line)


def find_policy(
    config: str | None, overrides: Sequence[str], run: Path | None, policy: str | None
) -> tuple[Config, Path | None]:
    """The configuration, with the policy to evaluate, and the newest checkpoint of the run, if one is named.

    Raises:
        ConfigError: An option or the configuration is wrong, or a checkpoint is none.
    """
    from rl.config import load_config
    from rl.files.named_checkpoint import named_checkpoint
    from rl.files.run_files import checkpoints

    changes, newest = list(overrides), None
    source: str | Path | None = config
    if run is not None:
        if config is not None:
            # With --run the first free argument is an override: the run brings its own configuration.
            changes.insert(0, config)
        source = run / "config.yaml"
        check(source.is_file(), f"--run: {run} is not a run folder: it has no config.yaml")
        finished = checkpoints(run)
        check(bool(finished), f"--run: {run} has no finished checkpoint")
        newest = finished[-1]
        policy = policy or str(newest / "policy")
    if source is None:
        raise ConfigError("name a configuration, for example configs/quickstart.yaml, or --run RUN")
    if policy is not None:
        changes.append(f"policy.checkpoint={dumps(named_checkpoint('--policy', policy, 'policy'))}")
    return load_config(source, changes), newest


def find_judges(
    strategy: Sequence[str], mprm: Sequence[str], outcome_model: Sequence[str], newest: Path | None
) -> tuple[tuple[Strategy, ...], tuple[JudgeOrder, ...]]:
    """The strategies, and the judges that they need; unless one is named, the MPRM of a run's newest checkpoint.

    Raises:
        ConfigError: An option is wrong, a checkpoint is none, or a strategy needs a judge and there is none.
    """
    from rewards.measuring.strategies import WITHOUT_JUDGE

    judges = tuple(_judges(mprm, outcome_model, newest))
    strategies = tuple(_strategies(strategy, bool(judges)))
    if not judges and (helpless := [name for name in strategies if name not in WITHOUT_JUDGE]):
        or_run = f"; {newest} has no MPRM" if newest else " or --run"
        raise ConfigError(f"--strategy {helpless[0]} needs a judge: name one with --mprm, --outcome-model{or_run}")
    return strategies, () if set(strategies) <= WITHOUT_JUDGE else judges


def _judges(mprm: Sequence[str], outcome_model: Sequence[str], newest: Path | None) -> Iterator[JudgeOrder]:
    from rl.evaluating.policy import JudgeOrder
    from rl.files.named_checkpoint import named_checkpoint

    names: set[str] = set()
    named: list[tuple[JudgeKind, str]] = [("mprm", value) for value in mprm]
    named += [("outcome", value) for value in outcome_model]
    if not named and newest is not None and (newest / "mprm").is_dir():
        named = [("mprm", str(newest / "mprm"))]
    for kind, value in named:
        option = OPTIONS[kind]
        match = NAMED_CHECKPOINT.fullmatch(value)
        if match is None:
            raise ConfigError(f"{option} {value!r}: allowed is CKPT or NAME=CKPT")
        name, checkpoint = match[1] or kind, match[2]
        taken = f"{option} {value}: there is a judge {name!r} already; name it with {option} NAME=CKPT"
        check(name not in names, taken)
        names.add(name)
        yield JudgeOrder(name, kind, named_checkpoint(option, checkpoint, kind))


def _strategies(named: Sequence[str], judged: bool) -> list[Strategy]:
    """The strategies that the option names, each once, in the order of `rewards.measuring.strategies`."""
    from rewards.measuring.strategies import STRATEGIES

    names = [name.strip() for value in named for name in value.split(",") if name.strip()]
    if not names:
        return list(CHEAP_WITH_JUDGE if judged else CHEAP)
    many = {"all": STRATEGIES, "best_of_n": [name for name in STRATEGIES if name.startswith("best_of_n_")]}
    wanted: set[str] = set()
    for name in names:
        known = name in STRATEGIES or name in many
        check(known, f"--strategy {name!r}: allowed is one of {', '.join(STRATEGIES)}; best_of_n (all its rules), all")
        wanted.update(many.get(name, [name]))
    return [name for name in STRATEGIES if name in wanted]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError(
            f"--n {text!r}: allowed is whole numbers with commas between them, for example 1,2,4,8"
        ) from None
    check(numbers[0] >= 1 and numbers[-1] <= MOST_SAMPLES, f"--n {text}: allowed is 1 to {MOST_SAMPLES:,}")
    return tuple(numbers)


def _write(evaluated: Evaluated, json: Path | None, plot: Path | None, output: Path | None) -> Iterator[str]:
    """Write what was asked for; gives a line for each file."""
    from rl.evaluating.strategy_views import plot_strategies

    if json is not None:
        content = evaluated.report.as_json() | {"made_with": evaluated.made_with}
        if evaluated.steps is not None:
            content["steps"] = evaluated.steps.to_json()
        with replacing(json) as partial:
            partial.write_text(dumps(content, indent=1) + "\n", encoding="utf-8")
        yield f"json     {json}"
    if plot is not None:
        with replacing(plot) as partial:
            plot_strategies(partial, evaluated.report)
        yield f"plot     {plot}"
    if output is not None:
        yield f"records  {output}"
