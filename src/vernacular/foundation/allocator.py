"""The C library's memory: kept between tensors instead of fetched again, or given back between stages of work."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 1 << 30
_MOST_KEPT = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Have this process keep up to 2 GiB of freed memory for reuse; the GNU C library only, elsewhere nothing happens.

    By default it fetches every block of some megabytes anew from the kernel, which clears it page by page. On a CPU a
    layer's intermediate results are such blocks: the norm of a float32 tensor of 2048 × 768 took 1 ms on an idle
    machine and 15 ms on a busy one, and 0.7 ms on either with the memory kept (docs/LOG.md).
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        set_option(_M_TRIM_THRESHOLD, _MOST_KEPT)


def give_back_freed_memory() -> None:
    """Have the C library return to the system what this process has freed (the GNU one only; others do as they do)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
