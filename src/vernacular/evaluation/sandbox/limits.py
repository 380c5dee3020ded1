"""What a program in the sandbox may use up."""

from __future__ import annotations

from typing import NamedTuple

MiB = 1 << 20


class Limits(NamedTuple):
    """Bounds of one program, all of its processes together unless it says otherwise.

    Attributes:
        wall_seconds: from the start of the sandbox to its end.
        cpu_seconds: of all processes, those that ended included.
        memory_bytes: of writable memory for each process, and of resident memory for all of them.
        processes: processes and threads at one time.
        output_bytes: on standard output and standard error together, and on the verdict's pipe.
        scratch_bytes: of files; also the size of the largest file.
        open_files: for each process.
    """

    wall_seconds: float = 10.0
    cpu_seconds: float = 10.0
    memory_bytes: int = 1024 * MiB
    processes: int = 32
    output_bytes: int = 1 * MiB
    scratch_bytes: int = 64 * MiB
    open_files: int = 128


class Ending(NamedTuple):
    """How a program ended.

    Attributes:
        exit_code: what it exited with; minus the signal that ended it; None where a limit or we ended it.
        limit: the limit that ended it: "wall time", "CPU time", "memory", "output"; None for none.
        output: the end of what it wrote to standard output and standard error.
        verdict: what was written to the verdict's pipe.
        seconds: of wall time.
        cpu_seconds: of all processes; 0 where we ended it, for then nobody within could tell.
        peak_bytes: most resident memory that was seen; 0 likewise.
    """

    exit_code: int | None
    limit: str | None
    output: str
    verdict: bytes
    seconds: float
    cpu_seconds: float
    peak_bytes: int
