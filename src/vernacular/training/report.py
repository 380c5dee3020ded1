"""The numbers of a run in words of the metrics: a line of them, and the summary of the artifact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vernacular.tokens.order import CellAccount, RowOrder
from vernacular.training.position import Position, Window

_LARGEST_EXPONENT = 700.0  # of a float


def describe(position: Position, window: Window, *, batch_tokens: int, has_routers: bool) -> dict[str, float | None]:
    """A line of metrics over a window of steps that ends at `position`.

    What the steps would say is None where none was taken: all of them were spikes.
    """
    line: dict[str, float | None] = {"tokens": position.step * batch_tokens}
    line |= dict.fromkeys(("loss", "perplexity", "accuracy", "logsumexp_squared", "learning_rate", "gradient_norm"))
    if window.taken:
        loss = window.loss / window.weight
        line |= {
            "loss": loss,
            "perplexity": math.exp(min(loss, _LARGEST_EXPONENT)),
            "accuracy": window.correct / window.weight,
            "logsumexp_squared": window.squares / window.weight,
            "learning_rate": window.learning_rate,
            "gradient_norm": window.gradient_norm,
        }
        if has_routers:
            line["load_balance"] = window.balance / window.taken
            line["router_logsumexp_squared"] = window.router_squares / window.taken
    rate = window.steps * batch_tokens / window.seconds
    return {**line, "tokens_per_second": rate, "seconds": position.seconds, **window.watched}


def describe_cells(account: Mapping[str, CellAccount], sequence_length: int) -> dict[str, float]:
    """`tokens/CELL` and `epochs/CELL`: what was read of each cell of the mixture; a row counts as full."""
    line: dict[str, float] = {}
    for cell, read in account.items():
        line |= {f"tokens/{cell}": read.rows * sequence_length, f"epochs/{cell}": read.epochs}
    return line


def summarise_mixture(order: RowOrder, batches: int, sequence_length: int) -> dict[str, Any]:
    """What the artifact says of the mixture after so many batches; nothing where there is none."""
    account = order.account(batches)
    if not account:
        return {}
    cells = {
        cell: {"tokens": read.rows * sequence_length, "epochs": round(read.epochs, 4)} for cell, read in account.items()
    }
    return {"mixture": {"cells": cells, "phases": list(order.describe())}}


def summarise(position: Position, last: Mapping[str, Any], *, batch_tokens: int) -> dict[str, Any]:
    """What the artifact says of a finished run; `last` is its last line of metrics."""
    tokens = position.step * batch_tokens
    return {
        "steps": position.step,
        "tokens": tokens,
        "final_loss": last["loss"],
        "final_accuracy": last["accuracy"],
        "heldout_loss": last.get("heldout_loss"),
        "heldout_accuracy": last.get("heldout_accuracy"),
        **{key: value for key, value in last.items() if key.startswith("heldout_") and "/" in key},
        "seconds": round(position.seconds, 1),
        "tokens_per_second": round(tokens / position.seconds, 1),
    }
