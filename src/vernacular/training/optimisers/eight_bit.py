"""AdamW whose averages take 8 bits a value, in blocks of 256 with a scale each: torchao's (arXiv 2110.02861)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

logging.disable(logging.WARNING)  # torchao warns on import of kernels for other GPUs that it could not load.
try:
    from torchao.optim import AdamW8bit
finally:
    logging.disable(logging.NOTSET)


class EightBitAdamW(AdamW8bit):
    """torchao's optimiser, compiled on a GPU only: on a CPU compiling each shape takes longer than it saves."""

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Change every weight that has a gradient."""
        is_cpu = self.param_groups[0]["params"][0].device.type == "cpu"
        with torch.compiler.set_stance("force_eager" if is_cpu else "default"):
            return super().step(closure)
