"""What the backward pass wants of a forward pass, kept in the machine's own memory meanwhile."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.autograd import graph


def keep_off_the_gpu(model: Any) -> AbstractContextManager[Any]:
    """Forward passes inside keep nothing that is large on the GPU but weights, and the backward pass fetches it again.

    TRL copies beside the computation, by a stream of its own, and wants an accelerator for it; where there is none,
    PyTorch's own hooks take the same way to the same memory.
    """
    if not torch.cuda.is_available():
        return graph.save_on_cpu()
    from trl.models import get_act_offloading_ctx_manager

    return get_act_offloading_ctx_manager(model, warn_if_no_head=False)
