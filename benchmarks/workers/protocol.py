"""What a worker and the benchmark say to each other: a line of JSON each way. Standard library only.

A worker runs one program's decoding in a process of its own, in whichever environment has that program, so that ours
and the peers can take turns and each has its own memory to be measured. Told `{"prompts": [[ids]], "new_tokens": n}` it
answers with the seconds and the processor seconds that it took, the tokens, and its peak memory, on a GPU too.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

Run = Callable[[list[list[int]], int], list[list[int]]]
"""Greedy tokens of each prompt: `new_tokens` of them, whatever the model says of ending."""


def peak_bytes() -> int:
    """Most memory this program has held. `getrusage` would count the process that started it too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10


def peak_device_bytes() -> int:
    """Most memory that PyTorch has held on a GPU; 0 where there is no PyTorch or no GPU."""
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_available() else 0


def serve(run: Run) -> None:
    """Answer requests from standard input until it ends."""
    # What libraries print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        wall, processor = time.perf_counter(), time.process_time()
        tokens = run(request["prompts"], request["new_tokens"])
        answer = {
            "seconds": time.perf_counter() - wall,
            "processor_seconds": time.process_time() - processor,
            "tokens": tokens,
            "peak_bytes": peak_bytes(),
            "peak_device_bytes": peak_device_bytes(),
        }
        print(json.dumps(answer), file=answers, flush=True)
