"""Memory in huge pages, and a piece of it that is cleared ahead. No tensors here: PyTorch may not be there yet.

The kernel clears memory when it is first touched, which for the weights of a model takes about as long as packing them.
A start waits for PyTorch to be imported anyway; meanwhile another thread touches what the weights will need.
"""

from __future__ import annotations

import ctypes
import mmap
import threading

_HUGE_BYTES = 2 << 20

_ahead: tuple[mmap.mmap, threading.Thread] | None = None


def map_memory(num_bytes: int) -> mmap.mmap:
    """A mapping of its own, of whole huge pages where Linux gives them; they exist only once they are touched."""
    rounded = -(-num_bytes // _HUGE_BYTES) * _HUGE_BYTES
    mapping = mmap.mmap(-1, rounded, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


def clear_ahead(num_bytes: int) -> None:
    """Begin to touch that many bytes, which `claim` will give."""
    global _ahead
    mapping = map_memory(num_bytes)

    def touch() -> None:
        # A call of C, during which Python does other things; the mapping is held until it returns.
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(mapping)), 0, len(mapping))

    thread = threading.Thread(target=touch, daemon=True)
    _ahead = mapping, thread
    thread.start()


def claim() -> mmap.mmap | None:
    """What was begun to be cleared, once it is; None where nothing was, or it is claimed."""
    global _ahead
    if _ahead is None:
        return None
    (mapping, thread), _ahead = _ahead, None
    thread.join()
    return mapping
