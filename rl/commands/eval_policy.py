"""The command line of ``sieve eval policy``: checks what it was given, evaluates, and shows what was found."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rewards.files.whole_file import replacing
from rewards.measuring.strategies import STRATEGIES, WITHOUT_JUDGE, Strategy
from rl.commands.ending import FAILURE, USER_ERROR, fail
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.evaluating.policy import (
    Evaluated,
    JudgeKind,
    JudgeOrder,
    Order,
    evaluate_policy,
)
from rl.evaluating.strategies import Plan
from rl.evaluating.strategy_views import plot_strategies, print_report
from rl.files.named_checkpoint import named_checkpoint
from rl.files.run_files import checkpoints
from rl.monitoring.console import Console
from rl.tasks.task import Split

BEST_OF_N: tuple[Strategy, ...] = tuple(name for name in STRATEGIES if name.startswith("best_of_n_"))
CHEAP: tuple[Strategy, ...] = ("greedy", "pass", "majority")
CHEAP_WITH_JUDGE: tuple[Strategy, ...] = (*CHEAP, "best_of_n_mean", "best_of_n_min", "weighted_majority", "one_shot")
OPTIONS: dict[JudgeKind, str] = {"mprm": "--mprm", "outcome": "--outcome-model"}
NAMED_CHECKPOINT = re.compile(r"(?:([\w.-]+)=)?(.+)")


@dataclass(frozen=True)
class Options:
    """The command line of ``sieve eval policy``; `rl.commands.eval_cli` describes each field."""

    config: str | None
    overrides: Sequence[str]
    run: Path | None
    strategy: Sequence[str]
    n: str
    policy: str | None
    mprm: Sequence[str]
    outcome_model: Sequence[str]
    prompts: int | None
    split: str
    json: Path | None
    plot: Path | None
    output: Path | None


def run(options: Options) -> None:
    """Evaluate, print the tables, and write what was asked for; a failure ends the process in one line."""
    again = "what is written stays; the same command goes on" if options.output else "name a file with -o to go on"
    try:
        with tempfile.TemporaryDirectory() as folder:
            config, order = make_order(options, Path(folder) / "records.jsonl")
            evaluated = evaluate_policy(config, order, Console())
            print_report(evaluated.report)
            _write(options, evaluated)
    except ConfigError as error:
        fail(str(error), USER_ERROR)
    except (RuntimeError, ValueError, OSError) as error:  # a model fails in many ways
        fail(f"{' '.join(str(error).split())}; {again}", FAILURE)
    except KeyboardInterrupt:
        fail(f"stopped; {again}", FAILURE)


def make_order(options: Options, unnamed: Path) -> tuple[Config, Order]:
    """The configuration and the order that the options describe; ``unnamed`` is the output where none is named.

    Raises:
        ConfigError: An option or the configuration is wrong, or a checkpoint is none.
    """
    config, newest = _config(options)
    judges = tuple(_judges(options, newest))
    strategies = tuple(_strategies(options.strategy, bool(judges)))
    if not judges and (helpless := [name for name in strategies if name not in WITHOUT_JUDGE]):
        or_run = f"; {newest} has no MPRM" if newest else " or --run"
        raise ConfigError(f"--strategy {helpless[0]} needs a judge: name one with --mprm, --outcome-model{or_run}")
    if set(strategies) <= WITHOUT_JUDGE:
        judges = ()
    prompts = config.evaluation.prompts if options.prompts is None else options.prompts
    _check(prompts >= 1, f"--prompts {prompts}: allowed is 1 or more")
    for option, path, suffix in (
        ("-o", options.output, ".jsonl"),
        ("--json", options.json, ".json"),
        ("--plot", options.plot, ".png"),
    ):
        if path is not None:
            _check(path.suffix == suffix, f"{option} {path}: the name must end in {suffix}")
            _check(path.parent.is_dir(), f"{option} {path}: there is no folder {path.parent}")
            _check(not path.is_dir(), f"{option} {path}: is a folder")
    plan = Plan(strategies, _numbers(options.n), config.seed)
    return config, Order(plan, judges, prompts, options.output or unnamed, _split(options.split))


def _config(options: Options) -> tuple[Config, Path | None]:
    """The configuration, with the policy to evaluate, and the newest checkpoint of the run, if one is named."""
    overrides, newest = list(options.overrides), None
    policy = options.policy
    source: str | Path | None = options.config
    if options.run is not None:
        if options.config is not None:
            # With --run the first free argument is an override: the run brings its own configuration.
            overrides.insert(0, options.config)
        source = options.run / "config.yaml"
        _check(source.is_file(), f"--run: {options.run} is not a run folder: it has no config.yaml")
        finished = checkpoints(options.run)
        _check(bool(finished), f"--run: {options.run} has no finished checkpoint")
        newest = finished[-1]
        policy = policy or str(newest / "policy")
    if source is None:
        raise ConfigError("name a configuration, for example configs/quickstart.yaml, or --run RUN")
    if policy is not None:
        overrides.append(f"policy.checkpoint={json.dumps(named_checkpoint('--policy', policy, 'policy'))}")
    return load_config(source, overrides), newest


def _judges(options: Options, newest: Path | None) -> Iterator[JudgeOrder]:
    names: set[str] = set()
    named: list[tuple[JudgeKind, str]] = [("mprm", value) for value in options.mprm]
    named += [("outcome", value) for value in options.outcome_model]
    if not named and newest is not None and (newest / "mprm").is_dir():
        named = [("mprm", str(newest / "mprm"))]
    for kind, value in named:
        option = OPTIONS[kind]
        match = NAMED_CHECKPOINT.fullmatch(value)
        _check(match is not None, f"{option} {value!r}: allowed is CKPT or NAME=CKPT")
        assert match is not None
        name, checkpoint = match[1] or kind, match[2]
        _check(
            name not in names, f"{option} {value}: there is a judge {name!r} already; name it with {option} NAME=CKPT"
        )
        names.add(name)
        yield JudgeOrder(name, kind, named_checkpoint(option, checkpoint, kind))


def _strategies(named: Sequence[str], judged: bool) -> list[Strategy]:
    """The strategies that the options name, each once, in the order of `rewards.measuring.strategies`."""
    names = [name.strip() for value in named for name in value.split(",") if name.strip()]
    if not names:
        return list(CHEAP_WITH_JUDGE if judged else CHEAP)
    wanted: set[str] = set()
    for name in names:
        known = name in STRATEGIES or name in ("best_of_n", "all")
        _check(known, f"--strategy {name!r}: allowed is one of {', '.join(STRATEGIES)}; best_of_n (all its rules), all")
        wanted |= set(STRATEGIES) if name == "all" else set(BEST_OF_N) if name == "best_of_n" else {name}
    return [name for name in STRATEGIES if name in wanted]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ConfigError(
            f"--n {text!r}: allowed is whole numbers with commas between them, for example 1,2,4,8"
        ) from None
    _check(numbers[0] >= 1, f"--n {text}: allowed is 1 or more, not {numbers[0]}")
    return tuple(numbers)


def _split(text: str) -> Split:
    for known in get_args(Split):
        if text == known:
            return known
    raise ConfigError(f"--split {text!r}: allowed is one of {', '.join(get_args(Split))}")


def _write(options: Options, evaluated: Evaluated) -> None:
    console = Console()
    if options.json is not None:
        content = evaluated.report.as_json() | {"made_with": evaluated.made_with}
        with replacing(options.json) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        console.say(f"json     {options.json}")
    if options.plot is not None:
        with replacing(options.plot) as partial:
            plot_strategies(partial, evaluated.report)
        console.say(f"plot     {options.plot}")
    if options.output is not None:
        console.say(f"records  {options.output}")


def _check(fine: bool, message: str) -> None:
    if not fine:
        raise ConfigError(message)
