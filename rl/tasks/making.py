"""The task and the verifier that a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, get_args

from rewards.verification.added_rewards import AddedReward, formatted, overlong, repetition, users_reward
from rewards.verification.checked import CheckedVerifier
from rewards.verification.references import unreadable_line
from rewards.verification.verdict import Answer
from rewards.verification.verifiers import VERIFIERS, Verifier, numeric
from rl.config import Config
from rl.config.sections import LEAST_ANSWER
from rl.config.users_parts import make_part, resolve
from rl.errors import ConfigError
from rl.tasks.task import Split, Task, checked_task

if TYPE_CHECKING:
    from rewards.models.encoding import Encoder
    from rl.tasks.files import FileTask
    from rl.tasks.fitting import Room


def make_task(config: Config, encoder: Encoder | None = None) -> Task:
    """The task that the configuration names; a user's own raises nothing but `UsersCodeError` and `PromptError`.

    Args:
        config: The experiment.
        encoder: The policy's, so that prompts of `files` are known to fit before anything starts; None to leave that to
            the engine.

    Raises:
        ConfigError: There is no such task, its files are not as they should be, or one of the user's cannot be made.
    """
    builtin: dict[str, Callable[[Config], Task]] = {
        "grid": _grid_task,
        "beliefs": _beliefs_task,
        "files": partial(make_file_task, encoder=encoder),
    }
    name = config.task.name
    make = resolve("task.name", name, builtin)
    if name not in builtin:
        make = partial(_own_task, make)
    return make_part("task.name", name, partial(make, config))


def _grid_task(config: Config) -> Task:
    from rl.tasks.grid import GridTask

    return GridTask(config.task.difficulty, config.task.seed)


def _beliefs_task(config: Config) -> Task:
    from rl.tasks.beliefs import BeliefsTask

    return BeliefsTask(config.task.difficulty, config.task.seed)


def make_file_task(config: Config, encoder: Encoder | None = None) -> FileTask:
    """The tables that the configuration names as a task; see `make_task`.

    Raises:
        ConfigError: They are not as they should be.
    """
    from rl.tasks.files import FileTask
    from rl.tasks.fitting import Bounds

    task = config.task
    try:
        return FileTask(
            task.train_files,
            task.heldout_files,
            task.columns,
            task.instruction,
            task.image_root,
            bounds=Bounds(task.min_pixels, task.max_pixels),
            room=None if encoder is None else make_room(config, encoder),
            shuffle=task.shuffle,
            mixture=task.mixture,
            seed=config.seed,
        )
    except ValueError as error:  # it names the file
        raise ConfigError(str(error)) from None


def make_room(config: Config, encoder: Encoder) -> Room:
    """What the configuration has room for; of engines, `vllm` alone has bounds of its own."""
    from rl.tasks.fitting import Room

    task, engine = config.task, config.engine
    bounded = engine.kind == "vllm"
    most = task.max_prompt_tokens or (engine.max_model_len - LEAST_ANSWER if bounded else None)
    key = "task.max_prompt_tokens" if task.max_prompt_tokens else f"engine.max_model_len {engine.max_model_len:,}"
    return Room(encoder, most, engine.images_per_prompt if bounded else None, task.long_prompts, key)


def _own_task(make: Callable[[Config], Task], config: Config) -> Task:
    name, task = config.task.name, make(config)
    if not hasattr(task, "prompt") or not hasattr(task, "sources"):
        raise ConfigError(f"task.name: {name!r} makes a {type(task).__name__}; allowed is what rl.tasks.task describes")
    return checked_task(f"task.name {name}", task)


def make_verifier(config: Config) -> Verifier:
    """The verifier that the configuration names; one of the user's own raises nothing but `UsersCodeError`.

    Raises:
        ConfigError: There is none of that name.
    """
    task = config.task
    tolerant = partial(numeric, tolerance=task.tolerance, absolute_tolerance=task.absolute_tolerance)
    builtin = VERIFIERS | {"numeric": tolerant}
    verifier = resolve("task.verifier", task.verifier, builtin)
    if task.verifier not in builtin:
        return CheckedVerifier(f"task.verifier {task.verifier}", verifier, task.weights)
    if task.weights:
        raise ConfigError(f"task.weights is {task.weights}: allowed with task.verifier {task.verifier} is nothing")
    return verifier


def unreadable_references(config: Config, task: Task) -> str | None:
    """One line on reference answers in files that the verifier cannot read whole; None where there are none."""
    from rl.tasks.files import FileTask

    if not isinstance(task, FileTask):
        return None
    references = chain.from_iterable(task.references(split) for split in get_args(Split))
    return unreadable_line(config.task.verifier, references)


def make_added_rewards(config: Config) -> list[AddedReward]:
    """What answers earn beside the verifier's score; of the user's own it is named as the function is.

    Raises:
        ConfigError: There is none of that name.
    """
    task, most = config.task, config.engine.max_completion_tokens
    builtin: dict[str, Callable[[Answer], float | None]] = {
        "overlong": partial(overlong, most=most, buffer=task.overlong_tokens or max(1, most // 5)),
        "format": partial(formatted, expression=task.format),
        "repetition": partial(repetition, length=task.repetition_tokens),
    }
    found = []
    for name, weight in task.rewards.items():
        value = resolve("task.rewards", name, builtin)
        if name not in builtin:
            value = users_reward(f"task.rewards {name}", value)
        found.append(AddedReward(name.rpartition(":")[2], weight, value))
    return found
