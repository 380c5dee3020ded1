"""The tensors of a published folder: checked against its config.json, and copied one at a time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from vernacular.foundation.errors import UserError
from vernacular.foundation.progress import progress
from vernacular.models.configuration import DecoderConfiguration
from vernacular.models.decoder import Decoder
from vernacular.models.family import PublishedTensor, load_family
from vernacular.models.position import RotaryPosition
from vernacular.models.tensor_files import TensorFacts, TensorFolder, published_files, write_tensors
from vernacular.models.weights import (
    TIED_HEAD,
    Unfilled,
    check_shape,
    missing_tensor,
    surplus_tensor,
    torch_dtype,
)

# Old folders hold what follows from rope_theta as a tensor of each layer.
_FREQUENCIES = ".rotary_emb.inv_freq"


def copy_tensors(
    source: Path, folder: Path, configuration: DecoderConfiguration, *, dtype: str | None, shard_bytes: int
) -> str:
    """Check and copy the tensors of the configuration, one at a time; the name of the dtype most of them have."""
    target = torch_dtype(dtype) if dtype is not None else None
    wanted = list(load_family(configuration.family).published_tensors(configuration))
    with TensorFolder(published_files(source)) as tensors:
        check_tensors(tensors, configuration, source)
        _check_copies(tensors, wanted, configuration)
        written = [
            TensorFacts(facts.name, target or facts.dtype, facts.shape)
            for facts in (tensors.facts[name] for name, _ in wanted)
        ]
        with progress(doing="tensors", total=len(written), unit="tensors") as bar:

            def read(name: str) -> torch.Tensor:
                bar.update(1)
                return tensors.read(name)

            write_tensors(folder, written, read, shard_bytes)
    return stated_dtype(written)


def stated_dtype(tensors: Iterable[TensorFacts]) -> str:
    """The name of the dtype that most of the tensors' bytes have: what config.json states."""
    sizes: dict[torch.dtype, int] = {}
    for facts in tensors:
        sizes[facts.dtype] = sizes.get(facts.dtype, 0) + facts.num_bytes
    return str(max(sizes, key=sizes.__getitem__)).removeprefix("torch.")


def check_tensors(tensors: TensorFolder, configuration: DecoderConfiguration, source: Path) -> None:
    """Refuse a missing, surplus or misshapen tensor, by what the files' headers say.

    Args:
        tensors: the folder's tensors.
        configuration: what its config.json says.
        source: the folder.
    """
    shapes = published_shapes(configuration)
    for name, shape in shapes.items():
        if name not in tensors.facts:
            raise missing_tensor(name, source)
        check_shape(tensors.facts[name], shape, tensors.files[name])
    for name in sorted(tensors.facts.keys() - shapes.keys()):
        if not (_is_tied_head(name, configuration) or _is_frequencies(name, configuration)):
            raise surplus_tensor(name, tensors.files[name])


def _check_copies(tensors: TensorFolder, wanted: list[PublishedTensor], configuration: DecoderConfiguration) -> None:
    """Refuse a second head that is not the tied one, and rotary frequencies that are not those of the config."""
    table = next(theirs for theirs, ours in wanted if ours == ("embedding.weight",))
    for name, file in tensors.files.items():
        if _is_tied_head(name, configuration):
            if not torch.equal(tensors.read(TIED_HEAD), tensors.read(table)):
                raise UserError(
                    f"'{TIED_HEAD}' differs from the embedding table, though config.json says that they are one",
                    where=file,
                    fix="set tie_word_embeddings to false in config.json if the head was trained apart",
                )
        elif _is_frequencies(name, configuration):
            ours = RotaryPosition(configuration.head_dim, configuration.rope_theta).frequencies
            theirs = tensors.read(name).float()
            if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=0.01):  # It may be bfloat16.
                raise UserError(
                    f"'{name}' holds other rotary frequencies than config.json says",
                    where=file,
                    fix="use weights with plain rotary positions",
                )


def _is_tied_head(name: str, configuration: DecoderConfiguration) -> bool:
    return name == TIED_HEAD and configuration.tie_embeddings


def _is_frequencies(name: str, configuration: DecoderConfiguration) -> bool:
    return name.endswith(_FREQUENCIES) and configuration.position == "rotary"


def published_shapes(configuration: DecoderConfiguration) -> dict[str, tuple[int, ...]]:
    """The shape of each of the family's tensors in the file."""
    with Unfilled(torch.float32, torch.device("meta")):
        state = Decoder(configuration).state_dict()
    shapes = {}
    for name, ours in load_family(configuration.family).published_tensors(configuration):
        parts = [state[part] for part in ours]
        shapes[name] = (sum(map(len, parts)), *parts[0].shape[1:])
    return shapes
