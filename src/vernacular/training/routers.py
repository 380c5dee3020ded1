"""The losses and the load of a mixture's routers, from the scores they give in the forward pass.

Both losses take the scores of all layers and of all ranks together, padding left out, as Granite's published loss does:

    load balance   E · Σ_e f_e · P_e   f_e: how often expert e was chosen for a token; P_e: the mean of its probability
    z-loss         mean of logsumexp²

(arXiv 2101.03961; arXiv 2202.08906). The z-loss and P are sums over tokens, to which every forward pass on every rank
adds its own. f is a constant to the gradient, but one that all tokens must be known for: those of the global batch,
counted in a pass of its own where the batch goes through in several (`load_balance: batch`), or those of one forward
pass on all ranks (`load_balance: pass`), which asks each pass for itself to be balanced.

Shapes: L layers of the whole decoder, N tokens, E experts.
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
from vernacular.models.feed_forward import ExpertFeedForward
from vernacular.parallel.mesh import Mesh
from vernacular.parallel.pipeline import with_loss


class RouterLoss(NamedTuple):
    """What the tokens of one forward pass on one rank add to the losses of their global batch.

    Attributes:
        total: the weighted sum of both losses, differentiable.
        balance: the load-balance loss; over all, the number of experts of a token where all experts get the same.
        squares: the mean of logsumexp² of the scores.
    """

    total: Tensor
    balance: Tensor
    squares: Tensor


class Routers:
    """Listens to a decoder's routers; a decoder without experts has none.

    Args:
        decoder: the decoder, or a pipeline's stage; its configuration gives the weight of the load-balance loss.
        z_weight: weight of the router z-loss.
    """

    def __init__(self, decoder: Decoder, z_weight: float) -> None:
        self.configuration = decoder.configuration
        self.z_weight = z_weight
        self._listens = False
        self._routers: dict[int, nn.Module] = {}
        for layer, block in enumerate(decoder.blocks):
            # A layer of another stage is nothing but a place.
            mixture = getattr(block, "feed_forward", None)
            if isinstance(mixture, ExpertFeedForward):
                self._routers[layer] = mixture.router
                mixture.router.register_forward_hook(self._note)

    def __bool__(self) -> bool:
        """Whether the whole decoder has any, be it on other stages."""
        return self.configuration.num_experts is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take down the scores of the forward pass inside. Blocks computed again in the backward pass are not heard."""
        for router in self._routers.values():
            vars(router).pop("scores_NE", None)
        self._listens = True
        try:
            yield
        finally:
            self._listens = False

    def _note(self, router: nn.Module, inputs: Any, scores_NE: Tensor) -> None:
        # Left with the router, so that a compiled block is one program: one place for all layers would cut it in five,
        # and a function for each layer would have each compiled anew.
        if self._listens:
            router.scores_NE = scores_NE

    @torch.no_grad()
    def counts(self, is_text_BT: Tensor) -> Tensor:
        """How often each expert was chosen in the pass listened to last, float64 [L, E]; 0 for other stages' layers."""
        experts = self.configuration.num_experts or 0
        counts_LE = torch.zeros(self.configuration.num_layers, experts, dtype=torch.float64, device=is_text_BT.device)
        for layer, scores_NE in self._scores_of_text(is_text_BT).items():
            chosen_NK = scores_NE.topk(self.configuration.experts_per_token or 1, dim=-1).indices
            # Not `bincount`, which asks a GPU for the largest number first.
            counts_LE[layer] = chosen_NK.float().histc(experts, min=-0.5, max=experts - 0.5)
        return counts_LE

    def loss(self, is_text_BT: Tensor, counts_LE: Tensor, num_tokens: float) -> RouterLoss:
        """What the pass listened to last adds to the losses, over its tokens that are text.

        Args:
            is_text_BT: False at padding.
            counts_LE: as `counts`, added up over all tokens that the load balance is to be taken over.
            num_tokens: tokens of the global batch that are text.
        """
        scores_NE = torch.cat(list(self._scores_of_text(is_text_BT).values()))
        frequency_E = counts_LE.sum(dim=0) / counts_LE.sum() * (self.configuration.experts_per_token or 1)
        everywhere = self.configuration.num_layers * num_tokens
        probability_E = scores_NE.softmax(dim=-1).sum(dim=0) / everywhere
        balance = scores_NE.shape[1] * (frequency_E.float() * probability_E).sum()
        squares = scores_NE.logsumexp(dim=-1).square().sum() / everywhere
        total = self.configuration.router_aux_loss_coef * balance
        return RouterLoss(total + self.z_weight * squares if self.z_weight else total, balance, squares)

    def load(self, counts_LE: Tensor) -> dict[str, float]:
        """For each layer, the busiest expert's share and the entropy over its maximum, of counts over all ranks.

        Balanced routers give 1/E and 1; one that sends all tokens the same way gives 1/K and less.
        """
        measured = {}
        for layer, counts_E in enumerate(counts_LE):
            share_E = counts_E / counts_E.sum()
            measured[f"router_max_share/{layer}"] = share_E.max().item()
            measured[f"router_entropy/{layer}"] = torch.special.entr(share_E).sum().item() / math.log(len(share_E))
        return measured

    def _scores_of_text(self, is_text_BT: Tensor) -> dict[int, Tensor]:
        left = {layer: vars(router).get("scores_NE") for layer, router in self._routers.items()}
        heard = {layer: scores_NE for layer, scores_NE in left.items() if scores_NE is not None}
        if len(heard) != len(self._routers):
            raise InternalError(f"{len(heard)} of {len(self._routers)} routers were heard in a forward pass")
        # Looked up once, for to look is to wait for a GPU.
        text_M = is_text_BT.flatten().nonzero().squeeze(1)
        every = len(text_M) == is_text_BT.numel()
        return {layer: (scores_NE if every else scores_NE[text_M]).float() for layer, scores_NE in heard.items()}


class Routing:
    """The routers' losses over the forward passes of one step.

    Args:
        routers: listened to in every pass.
        mesh: the ranks that take the step.
        num_tokens: tokens of the global batch that are text.
        counts_LE: how often each expert is chosen in the whole batch, where the load balance is to be taken over it;
            None: every pass is counted over all ranks by itself, as it comes.

    Attributes:
        counts_LE: float64, how often each expert was chosen, over all ranks and passes.
    """

    def __init__(self, routers: Routers, mesh: Mesh, num_tokens: float, counts_LE: Tensor | None) -> None:
        self._routers, self._mesh, self._num_tokens, self._ahead = routers, mesh, num_tokens, counts_LE
        self._sums = torch.zeros(2, dtype=torch.float64, device=mesh.device)
        self.counts_LE = counts_LE

    def join(self, hidden_BTD: Tensor, is_text_BT: Tensor) -> Tensor:
        """The same hidden states, whose backward pass also descends the losses of the pass listened to last."""
        counts_LE = self._ahead
        if counts_LE is None:
            counts_LE = self._mesh.sum(self._routers.counts(is_text_BT))
            self.counts_LE = counts_LE if self.counts_LE is None else self.counts_LE + counts_LE
        found = self._routers.loss(is_text_BT, counts_LE, self._num_tokens)
        self._sums += torch.stack((found.balance, found.squares)).detach()
        return with_loss(hidden_BTD, found.total)

    def totals(self) -> list[float]:
        """Load balance and mean of logsumexp² of the global batch, over all ranks."""
        return self._mesh.sum(self._sums).tolist()
