"""Policy or reward model out of a run's checkpoint: a folder that Transformers loads, without what learning goes on
from, and with a model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from safetensors.torch import load_file, save_file

from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.process_model.mprm import BACKBONE, BESIDE_FILE, open_mprm
from rewards.process_model.saved import MPRM_FILE, SavedMPRM, read_saved
from rl.checkpoints.manifest import check_files
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.files.run_files import CONFIG_FILE, checkpoints, step_of
from rl.learning.policy_files import save_policy
from rl.publishing.model_card import CARD_FILE, Subject, model_card

Part = Literal["policy", "mprm"]


@dataclass(frozen=True)
class Source:
    """What is exported: a part of one of a run's checkpoints, and the run's configuration."""

    run: Path
    checkpoint: Path
    part: Part
    config: Config

    @property
    def folder(self) -> Path:
        """Where the part is."""
        return self.checkpoint / self.part


def find_source(run: Path, part: Part, step: int | None = None) -> Source:
    """A part of a run's newest checkpoint, or of the one after policy step ``step``.

    Raises:
        ConfigError: It is no run, has no such checkpoint or no such part, or the checkpoint is damaged.
    """
    if not (run / CONFIG_FILE).is_file():
        raise ConfigError(f"{run} is not a run folder: it has no {CONFIG_FILE}")
    there = {step_of(checkpoint): checkpoint for checkpoint in checkpoints(run)}
    if not there:
        raise ConfigError(f"{run} has no finished checkpoint")
    if step is not None and step not in there:
        raise ConfigError(f"--step {step}: {run} has no such checkpoint; allowed is {', '.join(map(str, there))}")
    checkpoint = there[max(there) if step is None else step]
    check_files(checkpoint)
    if not (checkpoint / part).is_dir():
        raise ConfigError(f"--part {part}: {checkpoint} has none; the run was without a reward model")
    return Source(run, checkpoint, part, load_config(checkpoint / CONFIG_FILE))


def export(source: Source, folder: Path, license: str | None = None, name: str = "") -> None:
    """Fill an empty folder; ``AutoModelForImageTextToText.from_pretrained`` loads it, and an MPRM's `open_mprm`.

    Adapters are merged: a checkpoint's policy has that behind it, an MPRM's is done here.

    Args:
        source: See `find_source`.
        folder: Exists.
        license: Of the model, for its card; None for the base model's, where that is known.
        name: Of the model, in its card; the run's otherwise.

    Raises:
        OSError: It cannot be written.
        ValueError: The base of an MPRM's adapters is not there any more.
    """
    for file in source.folder.iterdir():
        if file.is_file() and not file.is_symlink():  # a link would bring along what it leads to
            shutil.copyfile(file, folder / file.name)
    if source.part == "mprm":
        _make_whole(source, folder)
    subject = Subject(name or source.config.name, source.part, source.run, step_of(source.checkpoint), source.config)
    (folder / CARD_FILE).write_text(model_card(subject, license), encoding="utf-8")


def _make_whole(source: Source, folder: Path) -> None:
    """Merge an MPRM's adapters, where it has them; and name the base without the place where it lay."""
    saved = read_saved(folder)
    if saved.settings["lora_rank"]:
        trusted = source.config.policy.trust_remote_code
        encoder = Encoder(str(source.folder), trust_remote_code=trusted)
        mprm = open_mprm(str(source.folder), encoder, source.config.mprm, Runtime(trust_remote_code=trusted))
        backbone = mprm.scorer.backbone
        save_policy(backbone, backbone.state_dict(), folder, 0)
        beside = {key: value for key, value in load_file(folder / BESIDE_FILE).items() if not key.startswith(BACKBONE)}
        save_file(beside, folder / BESIDE_FILE)
    whole = SavedMPRM(saved.version, Path(saved.checkpoint).name, saved.settings | {"lora_rank": 0})
    (folder / MPRM_FILE).write_text(json.dumps(asdict(whole), indent=2) + "\n")
