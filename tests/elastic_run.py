"""A run that `torchrun` starts: a checkpoint after every step, and a rank that dies once. Argument: a folder."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tiny_parallel import STEPS, begin, gather, load_state, save_state, take_step
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.parallel.mesh import open_mesh

DEADLY_STEP, DEADLY_RANK = 2, 1


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    is_first_try = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    mesh = open_mesh(ParallelConfiguration())
    run, optimiser = begin("dense", {}, mesh)
    done = max((int(path.name) for path in folder.glob("[0-9]")), default=0)
    if done:
        load_state(folder / str(done), run.decoder, optimiser)
    for step in range(done, STEPS):
        if is_first_try and (step, mesh.rank) == (DEADLY_STEP, DEADLY_RANK):
            os.kill(os.getpid(), signal.SIGKILL)
        take_step(run, optimiser, step, micro_batches=1)
        save_state(folder / f".{step + 1}", run.decoder, optimiser)
        if mesh.rank == 0:
            (folder / f".{step + 1}").rename(folder / str(step + 1))
        mesh.total(0.0)  # nobody goes on before the checkpoint has its name
    weights = gather(run.decoder, mesh)
    if mesh.rank == 0:
        save_file(weights, folder / "weights.safetensors", metadata={"began": str(done)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
