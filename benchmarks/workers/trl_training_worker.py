"""Fine-tuning by TRL's SFTTrainer, packed as it packs: `trl_training_worker.py JOB`."""

from __future__ import annotations

import tempfile
import threading
from queue import Queue
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from training_protocol import read_job, serve
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Turnstile(TrainerCallback):
    """Holds the trainer before each step until it is let through."""

    def __init__(self) -> None:
        self.go: Queue[None] = Queue()
        self.done: Queue[None] = Queue()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Wait."""
        self.go.get()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Say that the step is done."""
        self.done.put(None)


class Counting(SFTTrainer):
    """Counts the tokens it is given, and remembers its last loss."""

    tokens, loss = 0, 0.0

    def training_step(self, model: Any, inputs: Any, *words: Any, **settings: Any) -> torch.Tensor:
        """As `SFTTrainer`."""
        real = inputs.get("attention_mask")
        self.tokens += int(inputs["input_ids"].numel() if real is None else real.sum())
        loss: torch.Tensor = super().training_step(model, inputs, *words, **settings)
        self.loss = loss.item()
        return loss


def main() -> None:
    job = read_job()
    torch.set_num_threads(job.threads)
    given = np.load(job.batches)
    conversations = np.split(given["ids"], np.cumsum(given["lengths"])[:-1])
    folder = tempfile.mkdtemp()
    settings = SFTConfig(
        output_dir=folder,
        packing=True,
        max_length=job.tokens + 1,
        per_device_train_batch_size=job.rows,
        num_train_epochs=1000,
        learning_rate=job.learning_rate,
        lr_scheduler_type="constant",
        adam_beta2=0.95,
        weight_decay=0.1,
        bf16=job.precision == "bfloat16",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        gradient_checkpointing=False,
        disable_tqdm=True,
    )
    turnstile = Turnstile()
    trainer = Counting(
        model=AutoModelForCausalLM.from_pretrained(job.weights, dtype=torch.float32),
        args=settings,
        train_dataset=Dataset.from_dict({"input_ids": [c.tolist() for c in conversations]}),
        processing_class=PreTrainedTokenizerFast(
            tokenizer_file=str(job.weights / "tokenizer.json"), pad_token="<pad>", eos_token="</s>"
        ),
        callbacks=[turnstile],
    )
    threading.Thread(target=trainer.train, daemon=True).start()

    def step(_number: int) -> tuple[float, int]:
        before = trainer.tokens
        turnstile.go.put(None)
        turnstile.done.get()
        return trainer.loss, trainer.tokens - before

    serve(step)


if __name__ == "__main__":
    main()
