"""Maximal update parametrisation: the initial weights of a width, and a check of how large activations grow.

What is scaled, with m = hidden_size / base_width (arXiv 2203.03466, table 8; Granite 3.0):

    weights                      initial deviation           AdamW's rate
    embedding, output head       initializer_range           rate
    matrices inside the blocks   initializer_range / √m      rate / m

The forward pass has its part in the model's configuration: `attention_multiplier` 1 / head_dim, `logits_scaling` m.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from vernacular.models.decoder import Decoder
from vernacular.training.optimisation import MupConfiguration
from vernacular.training.optimisers.groups import INTERNAL, roles


def initialise(decoder: Decoder, seed: int, mup: MupConfiguration | None) -> None:
    """Draw a new decoder's weights from `seed`; with μP every matrix inside the blocks by its width alone.

    Depth is then `residual_multiplier`'s business: nothing is divided by the root of the number of layers.
    """
    decoder.initialise(seed)
    if mup is None:
        return
    generator = torch.Generator().manual_seed(seed + 1)
    deviation = decoder.configuration.initializer_range / math.sqrt(decoder.configuration.hidden_size / mup.base_width)
    for _, role, parameter in roles(decoder):
        if role in INTERNAL:
            nn.init.normal_(parameter, std=deviation, generator=generator)
