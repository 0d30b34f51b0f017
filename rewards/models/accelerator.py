"""Accelerate's `Accelerator`, which leaves the environment of the process alone.

Accelerate compares its settings with what they were without an environment, and takes all variables away for that
moment. A thread of PyTorch's or Ray's that reads a variable just then, in C, reads memory that is no longer there, and
the process dies of it. Here only Python sees none.
"""

from __future__ import annotations

import os
from unittest.mock import patch

from accelerate import Accelerator as Accelerator
from accelerate.utils import environment

environment.clear_environment = lambda: patch.object(os, "environ", {})
