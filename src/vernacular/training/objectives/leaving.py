"""What a finished training run leaves: the weights after the last step, and the best ones if they were kept."""

from __future__ import annotations

from pathlib import Path

from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.training.trainer import Trainer

BEST = "best"


def leave_weights(trainer: Trainer, folder: Path, tokenizer: Path) -> None:
    """Write the weights folder, and `best/` in it; all ranks call this, the first one writes.

    Args:
        trainer: after `fit`.
        folder: the stage's folder.
        tokenizer: folder of the tokenizer, and chat template, that belong to the weights.
    """
    _write(trainer, folder, tokenizer)
    if trainer.load_best():
        _write(trainer, folder / BEST, tokenizer)


def _write(trainer: Trainer, folder: Path, tokenizer: Path) -> None:
    if (whole := trainer.weights()) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder, whole, token_ids=published_token_ids(Tokenizer.load(tokenizer)))
        copy_tokenizer(tokenizer, folder)
