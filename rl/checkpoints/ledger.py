"""What a run has taken, over all its starts and recoveries: unlike a checkpoint, it never goes back."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from rewards.files.json_text import read_json_file
from rewards.files.whole_file import replacing
from rl.errors import ConfigError

LEDGER_FILE = "ledger.json"


@dataclass(frozen=True)
class Kept:
    """What stands in the file."""

    furthest: Annotated[int, Meta(ge=0, lt=2**53)]
    recoveries: Annotated[int, Meta(ge=0, lt=2**53)]
    seconds: Annotated[float, Meta(ge=0, le=1e12)]


@dataclass
class Ledger:
    """Written after every policy step, and whenever the run begins anew, so that a run that is killed and resumed still
    knows.

    Attributes:
        path: Where it is written.
        furthest: The last policy step that was ever finished; a run that went back to a checkpoint takes steps up to
            it once more.
        recoveries: Times that the run began anew because it had lost a worker.
        before: Wall-clock seconds of earlier starts.
        began: When this one began, by `time.perf_counter`.
    """

    path: Path
    furthest: int = 0
    recoveries: int = 0
    before: float = 0.0
    began: float = 0.0

    @classmethod
    def new(cls, folder: Path) -> Ledger:
        """The ledger of a run that begins."""
        return cls(folder / LEDGER_FILE, began=time.perf_counter())

    @classmethod
    def open(cls, folder: Path) -> Ledger:
        """The ledger of a run folder, from here on in a new start; empty where there is none.

        Raises:
            ConfigError: It is damaged.
        """
        ledger = cls.new(folder)
        if not ledger.path.exists():
            return ledger
        try:
            kept = msgspec.convert(read_json_file(ledger.path), Kept)
            return replace(ledger, furthest=kept.furthest, recoveries=kept.recoveries, before=kept.seconds)
        except (OSError, ValueError):
            raise ConfigError(
                f"{ledger.path} is damaged: allowed is an object with numbers for furthest, recoveries and seconds, or "
                "no file"
            ) from None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds so far, work that was lost included."""
        return self.before + time.perf_counter() - self.began

    def finished(self, step: int) -> dict[str, float]:
        """A policy step is finished; gives the ledger's metrics."""
        self.furthest = max(self.furthest, step)
        kept = self._write()
        return {"perf/wall_seconds": kept.seconds, "perf/recoveries": float(kept.recoveries)}

    def recovered(self) -> None:
        """The run begins anew; one that has lost its workers before it took its folder has none to write to."""
        self.recoveries += 1
        if self.path.parent.exists():
            self._write()

    def _write(self) -> Kept:
        kept = Kept(self.furthest, self.recoveries, self.seconds)
        with replacing(self.path) as path:
            path.write_text(json.dumps(asdict(kept)) + "\n", encoding="utf-8")
        return kept
