"""Decoding by our engine: `our_worker.py FOLDER DTYPE THREADS [DEVICE]`."""

from __future__ import annotations

import os
import sys

from protocol import serve

import vernacular
from vernacular.models.language_model import Sampling


def main(folder: str, dtype: str, threads: str, device: str = "cpu") -> None:
    os.environ["OMP_NUM_THREADS"] = threads  # before PyTorch is there
    lm = vernacular.load(folder, dtype=dtype, device=device)

    def run(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        answers = [lm.answer(prompt, Sampling(max_new_tokens=new_tokens)) for prompt in prompts]
        for _ in lm.engine.run(answers):
            pass
        return [answer.ids for answer in answers]

    serve(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
