"""The engine: started as a run does it, with the shipped policy, to write one answer."""

from __future__ import annotations

import time
from typing import Literal

from rl.config import Config
from rl.doctor.finding import Finding


def engine_start(kind: Literal["vllm", "hf"] = "vllm") -> Finding:
    """Sample one rollout of the default task."""
    import torch

    from rewards.records import SamplingRequest
    from rl.config.sections import EngineConfig
    from rl.engines.making import build_engine
    from rl.files.named_checkpoint import make_encoder
    from rl.tasks.making import make_task

    config, began = Config(engine=EngineConfig(kind=kind)), time.monotonic()
    engine = build_engine(config, follows=False)
    started = time.monotonic() - began
    [[written]] = engine.sample([SamplingRequest(make_task(config).prompt("heldout", 0))])
    lines = make_encoder(config).decode(written.token_ids).splitlines()
    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "the CPU"
    found = f"{kind} on {where} started in {started:.0f} s and wrote {len(written.token_ids)} tokens"
    return Finding("ok", f"{found}, at the end {lines[-1]!r}" if lines else found)
