"""Checkpoints that the user names: found, told from one another, and known by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b, file_digest
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

from huggingface_hub import snapshot_download
from huggingface_hub.constants import HF_HUB_CACHE
from safetensors import SafetensorError, safe_open

from rewards.files.cache_folder import check_cache
from rewards.files.json_text import read_json
from rewards.files.whole_file import NO_FILE, content_of
from rewards.models.architecture import model_class
from rewards.models.encoding import Encoder
from rewards.models.steps import Markers
from rl.config import Config
from rl.config.users_parts import make_step_rule
from rl.errors import ConfigError

Kind = Literal["policy", "mprm", "outcome"]

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
SHIPPED = {name: Path(__file__).parents[1] / "tiny_policy" / name for name in ("grid_policy", "beliefs_policy")}
SHIPPED_POLICY = SHIPPED["grid_policy"]
OBJECTS = ("config.json", "*_config.json", "tokenizer.json", "*_map.json", "chat_template.json")
"""Files of a checkpoint that hold an object of JSON, if they are there."""
LONGEST_REASON = 600
"""Characters of what a library says."""


def named_checkpoint(option: str, named: str, kind: Kind) -> str:
    """The folder or hub name of a checkpoint that is to be opened as ``kind``; a shipped policy by its name.

    Raises:
        ConfigError: It is neither a folder of a checkpoint nor can it be a hub name, it is damaged, or a saved reward
            model of another kind.
    """
    folder = Path(named)
    if named in SHIPPED:
        return str(SHIPPED[named])
    if not folder.is_dir():
        refuse_absent(option, named)
        return named
    if not any(folder.glob("*.safetensors")) or not any(folder.glob("*.json")):
        raise ConfigError(f"{option} {named}: the folder holds no checkpoint (*.safetensors)")
    refuse_other_kind(option, folder, kind)
    refuse_damaged(option, folder)
    return named


def refuse_absent(option: str, named: str) -> None:
    """Whether what is no folder can be a hub name: a path that is not there would be looked for on the hub, for
    minutes.

    Raises:
        ConfigError: It cannot.
    """
    if not Path(named).is_dir() and (Path(named).parent.is_dir() or not HUB_NAME.fullmatch(named)):
        raise ConfigError(f"{option} {named} is no folder; allowed is that of a checkpoint, or a hub name")


def fetch_files(option: str, named: str, patterns: Sequence[str]) -> Path:
    """The folder of a checkpoint; of one on the hub the files of these patterns, fetched where they are missing.

    Raises:
        ConfigError: They cannot be fetched.
    """
    if Path(named).is_dir():
        return Path(named)
    try:
        check_cache(HF_HUB_CACHE)
        return Path(snapshot_download(named, allow_patterns=list(patterns)))
    except Exception as error:  # of the network, of the hub, and of the disk
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{option}: {named!r} cannot be fetched: {reason}") from None


def refuse_damaged(option: str, folder: Path) -> None:
    """Whether the files of a checkpoint's folder can be read, as far as that costs nothing: each JSON, and of weights
    their heads and sizes. Other weights than safetensors are never read, since they would be unpickled.

    Raises:
        ConfigError: One cannot, or weights are missing.
    """
    for file in sorted(folder.glob("*")):
        if file.exists() and not (file.is_file() or file.is_dir()):  # a pipe would be waited for
            raise ConfigError(f"{option}: {file} is damaged: {NO_FILE}")
    weights = sorted(folder.glob("*.safetensors"))
    if folder.is_dir() and not weights:
        raise ConfigError(f"{option}: {folder} holds no *.safetensors; allowed is no other kind of weights")
    for file in weights:
        try:
            with safe_open(file, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{option}: {file} is damaged: {' '.join(str(error).split())}") from None
    for file in sorted(folder.glob("*.json")):
        try:
            content = read_json(content_of(file))
        except (ValueError, OSError) as error:
            raise ConfigError(f"{option}: {file} is damaged: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict) and any(map(file.match, OBJECTS)):
            raise ConfigError(f"{option}: {file} is damaged: allowed is an object, {{…}}")
        if file.name.endswith(".safetensors.index.json"):
            _refuse_missing_parts(option, file, content)


def _refuse_missing_parts(option: str, index: Path, content: Any) -> None:
    parts = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
        raise ConfigError(f"{option}: {index} is damaged: allowed is an object with a weight_map")
    for part in sorted(set(parts.values())):
        if Path(part).name != part or not part.endswith(".safetensors"):
            raise ConfigError(f"{option}: {index} names {part!r}: allowed are *.safetensors beside it")
        if not (index.parent / part).is_file():
            raise ConfigError(f"{option}: {index.parent / part} is missing: {index.name} says that weights are in it")


def checkpoint_digest(checkpoint: str) -> str:
    """A digest of all files of a checkpoint's folder, which may have been trained on in place; else its name."""
    files = sorted(file for file in Path(checkpoint).rglob("*") if file.is_file())
    return files_digest(files) if files else checkpoint


def files_digest(files: Iterable[Path]) -> str:
    """A digest of files' names and contents, in this order."""
    whole = blake2b(digest_size=16)
    for file in files:
        with file.open("rb") as content:
            whole.update(file.name.encode() + file_digest(content, "blake2b").digest())
    return whole.hexdigest()


def refuse_other_kind(option: str, folder: Path, kind: Kind) -> None:
    """Whether a folder may be opened as ``kind``.

    Raises:
        ConfigError: It is a saved reward model of another kind.
    """
    # Imported here: engines use this file as well, and would start later with what reward models need.
    from rewards.outcome.outcome_model import STATE_FILE
    from rewards.process_model.saved import MPRM_FILE

    if kind == "mprm" and (folder / STATE_FILE).is_file():
        raise ConfigError(f"{option} {folder} is a saved outcome model; allowed is an MPRM, or a plain checkpoint")
    if kind == "outcome" and (folder / MPRM_FILE).is_file():
        raise ConfigError(f"{option} {folder} is a saved MPRM; allowed is an outcome model, or a plain checkpoint")


def policy_checkpoint(config: Config) -> str:
    """Where the policy starts from: a shipped one by its name, any other as it is given."""
    return str(SHIPPED.get(config.policy.checkpoint, config.policy.checkpoint))


@contextmanager
def opening(key: str, named: str) -> Iterator[None]:
    """Opening a checkpoint, or a part of it.

    Raises:
        ConfigError: It fails; one line that says why.
    """
    try:
        yield
    except ImportError as error:  # which says how to install it
        reason = shorten(str(error), LONGEST_REASON)
        raise ConfigError(f"{key}: the processor of {named!r} lacks a package: {reason}") from None
    except Exception as error:  # a broken checkpoint can fail in any way
        said = shorten(str(error), LONGEST_REASON)
        reason = said if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {said}"
        raise ConfigError(f"{key}: {named!r} cannot be used: {reason}") from None


def make_encoder(config: Config, checkpoint: str | None = None, key: str = "mprm.checkpoint") -> Encoder:
    """The processor of a checkpoint (the policy's, unless ``key`` names another), cutting steps as the task says.

    Raises:
        ConfigError: There is no such checkpoint, it is damaged, has no processor, or one that lacks a package; none of
            Transformers' classes opens it; its chat template takes no system prompt, and there is one; or no such rule
            of steps.
    """
    rule = make_step_rule(config.task.steps)
    key = key if checkpoint else "policy.checkpoint"
    if (named := checkpoint or config.policy.checkpoint) not in SHIPPED:
        refuse_absent(f"{key}:", named)
        refuse_damaged(key, Path(named))
    if not Path(named).is_dir() and named not in SHIPPED:
        try:
            check_cache(HF_HUB_CACHE)
        except ValueError as error:
            raise ConfigError(f"{key}: {named!r} cannot be fetched: {error}") from None
    opened = checkpoint or policy_checkpoint(config)
    with opening(key, named):
        # A saved MPRM's adapters have no configuration beside them.
        if checkpoint is None or not Path(opened).is_dir() or (Path(opened) / "config.json").is_file():
            model_class(opened, config.policy.trust_remote_code)
        encoder = Encoder(
            opened,
            rule,
            config.task.answer_marker,
            config.policy.trust_remote_code,
            Markers(config.task.perception_marker, config.task.reasoning_marker),
            config.task.system,
        )
    reads_own = key == "mprm.checkpoint" and config.mprm.input_format != "rollout"
    if config.task.system and not reads_own:
        try:
            encoder.check_system_prompt(config.task.system)
        except ValueError as error:
            raise ConfigError(
                f"task.system cannot be used with {key} {named}: {error}; for a template that knows none allowed is "
                "nothing, and task.instruction"
            ) from None
    return encoder


def make_judge_encoder(config: Config, checkpoint: str | None, key: str, reads_text: bool = False) -> Encoder:
    """The processor of a reward model; ``checkpoint`` None for the policy's own, ``reads_text`` if it reads what the
    policy's tokens say, and not the tokens themselves.

    Raises:
        ConfigError: There is none, or it reads tokens, and its vocabulary does not hold the policy's.
    """
    encoder = make_encoder(config, checkpoint, key)
    if checkpoint is not None and not reads_text:
        policy = make_encoder(config).tokenizer.get_vocab()
        if not policy.items() <= encoder.tokenizer.get_vocab().items():
            raise ConfigError(
                f"{key}: {checkpoint!r} has another vocabulary than policy.checkpoint, {config.policy.checkpoint!r}, "
                "whose tokens it is to read; allowed is one with the same, or an MPRM with mprm.input_format chat or "
                "inline, which read text"
            )
    return encoder
