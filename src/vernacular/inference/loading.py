"""A weights folder is loaded: its memory is made ready while PyTorch is still being imported. No tensors here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json_object
from vernacular.kernels.reserve import clear_ahead
from vernacular.models.family import from_published

if TYPE_CHECKING:
    from vernacular.inference.engine_settings import EngineSettings
    from vernacular.inference.model import LocalModel
    from vernacular.inference.paged_memory import Kernels

_BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5}


def load(
    folder: str | Path,
    dtype: str = "float32",
    device: str = "cpu",
    *,
    kernels: Kernels | None = None,
    window: int | None = None,
    engine: EngineSettings | None = None,
) -> LocalModel:
    """As `vernacular.inference.model.load`, which says what each of these is."""
    if device == "cpu" and kernels != "torch" and dtype in _BYTES:
        _clear_for_weights(Path(folder), _BYTES[dtype])
    from vernacular.inference.model import load as load_now

    return load_now(folder, dtype, device, kernels=kernels, window=window, engine=engine)


def _clear_for_weights(folder: Path, bytes_per_weight: float) -> None:
    """Begin to make ready what the packed weights take."""
    try:
        configuration = from_published(read_json_object(folder / "config.json"), folder / "config.json")
    except UserError:
        return  # What is wrong with the folder is said where it is read.
    table = 0 if configuration.tie_embeddings else configuration.vocab_size * configuration.hidden_size
    clear_ahead(int((configuration.num_parameters() - table) * bytes_per_weight))
