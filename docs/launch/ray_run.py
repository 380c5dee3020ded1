"""32 processes of a GPU each on a Ray cluster, which run one recipe together; where one is lost, all start again.

Needs `pip install ray`, and recipe, data and runs/ on a file system that all nodes see.
"""

from __future__ import annotations

import os
from pathlib import Path

import ray

PROCESSES, ATTEMPTS, PORT = 32, 4, 29500


@ray.remote(num_gpus=1)
class Process:
    """One process of the run; Ray shows it a single GPU."""

    def address(self) -> str:
        """Where the others find it."""
        return ray.util.get_node_ip_address()

    def run(self, rank: int, address: str, attempt: int) -> None:
        """Its part of the recipe."""
        from vernacular.lifecycle.runner import run

        os.environ.update(RANK=str(rank), WORLD_SIZE=str(PROCESSES), LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
        os.environ.update(MASTER_ADDR=address, MASTER_PORT=str(PORT + attempt))
        run(Path("recipe.yaml"))


def main() -> None:
    """Try until the recipe is done."""
    for attempt in range(ATTEMPTS):
        processes = [Process.remote() for _ in range(PROCESSES)]
        try:
            address = ray.get(processes[0].address.remote())
            ray.get([process.run.remote(rank, address, attempt) for rank, process in enumerate(processes)])
            return
        except ray.exceptions.RayActorError:
            print(f"a process was lost (attempt {attempt + 1} of {ATTEMPTS})")
        finally:
            for process in processes:
                ray.kill(process)


if __name__ == "__main__":
    main()
