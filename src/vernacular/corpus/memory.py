"""Memory of tables: kept within a stage of the work, given back between stages."""

from __future__ import annotations

import pyarrow as pa

from vernacular.foundation.allocator import give_back_freed_memory, keep_freed_memory


def keep_memory() -> None:
    """Have Arrow take memory from the C library, and that keep what is freed: batch after batch finds the same.

    Memory that the kernel has to find and to clear first takes 2 µs a page, as long as six copies of it (docs/LOG.md).
    """
    pa.set_memory_pool(pa.system_memory_pool())
    keep_freed_memory()


def give_back_memory() -> None:
    """Return to the system what Arrow and the C library keep of what a stage has freed, before the next one begins."""
    pa.default_memory_pool().release_unused()
    give_back_freed_memory()
