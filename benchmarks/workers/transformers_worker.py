"""Decoding by transformers' `generate`: `transformers_worker.py FOLDER DTYPE THREADS [DEVICE]`."""

from __future__ import annotations

import sys

import torch
from protocol import serve
from transformers import AutoModelForCausalLM


def main(folder: str, dtype: str, threads: str, device: str = "cpu") -> None:
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval().to(device)

    def run(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts, device=device)
        counts = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
        answers = model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **counts)
        return answers[:, ids.shape[1] :].tolist()

    serve(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
