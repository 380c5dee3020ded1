"""The losses and the load of a mixture's routers, from the scores they give in the forward pass.

Shapes: L layers, N tokens, E experts.

Both losses take the scores of all layers together, padding left out, as Granite's published loss does. A global batch
that goes through in several forward passes has the mean of their losses, each by its share of the batch's tokens. For
the router z-loss, a mean over tokens, that is exactly the loss of the batch in one pass. The load-balance loss
multiplies two means over the tokens of a pass; over more passes it is the mean of these products, not the product of
the means, and asks each pass for itself to be balanced.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vernacular.foundation.errors import InternalError
from vernacular.models.decoder import Decoder
from vernacular.models.feed_forward import ExpertFeedForward, load_balance


class RouterLoss(NamedTuple):
    """Of one forward pass.

    Attributes:
        total: the weighted sum of both losses, differentiable.
        balance: the load-balance loss; the number of experts of a token where all experts get the same.
        squares: the mean of logsumexp² of the scores.
    """

    total: Tensor
    balance: Tensor
    squares: Tensor


class Routers:
    """Listens to a decoder's routers; a decoder without experts has none.

    Args:
        decoder: the decoder; its configuration gives the weight of the load-balance loss.
        z_weight: weight of the router z-loss.
    """

    def __init__(self, decoder: Decoder, z_weight: float) -> None:
        self.configuration = decoder.configuration
        self.z_weight = z_weight
        self._scores: list[Tensor] = []
        self._listens = False
        mixtures = [block.feed_forward for block in decoder.blocks if isinstance(block.feed_forward, ExpertFeedForward)]
        self._count = len(mixtures)
        for mixture in mixtures:
            mixture.router.register_forward_hook(self._note)

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take down the scores of the forward pass inside. Blocks computed again in the backward pass are not heard."""
        self._scores.clear()
        self._listens = True
        try:
            yield
        finally:
            self._listens = False

    def _note(self, router: nn.Module, inputs: Any, scores_NE: Tensor) -> None:
        if self._listens:
            self._scores.append(scores_NE)

    def loss(self, is_text_BT: Tensor) -> RouterLoss:
        """The losses of the pass listened to last, over its tokens that are text."""
        scores_NE = torch.cat(self._scores_of_text(is_text_BT))
        balance = load_balance(scores_NE, self.configuration.experts_per_token or 1)
        squares = scores_NE.logsumexp(dim=-1).square().mean()
        total = self.configuration.router_aux_loss_coef * balance
        return RouterLoss(total + self.z_weight * squares if self.z_weight else total, balance, squares)

    @torch.no_grad()
    def load(self, is_text_BT: Tensor) -> dict[str, float]:
        """For each layer of the pass listened to last: the busiest expert's share, and the entropy over its maximum.

        Balanced routers give 1/E and 1; one that sends all tokens the same way gives 1/K and less.
        """
        measured = {}
        for layer, scores_NE in enumerate(self._scores_of_text(is_text_BT)):
            num_experts = scores_NE.shape[1]
            chosen_NK = scores_NE.topk(self.configuration.experts_per_token or 1, dim=-1).indices
            share_E = chosen_NK.flatten().bincount(minlength=num_experts) / chosen_NK.numel()
            measured[f"router_max_share/{layer}"] = share_E.max().item()
            measured[f"router_entropy/{layer}"] = torch.special.entr(share_E).sum().item() / math.log(num_experts)
        return measured

    def _scores_of_text(self, is_text_BT: Tensor) -> list[Tensor]:
        if len(self._scores) != self._count:
            raise InternalError(f"{len(self._scores)} of {self._count} routers were heard in a forward pass")
        is_text_N = is_text_BT.flatten()
        return [scores_NE[is_text_N].float() for scores_NE in self._scores]
