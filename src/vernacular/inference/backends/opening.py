"""One door to every back-end: an address in, a `LanguageModel` out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from vernacular.foundation.configuration import Configuration, validate
from vernacular.foundation.errors import UserError
from vernacular.inference.backends.address import LLAMA_CPP, OPENAI, VLLM, Address, read_address

if TYPE_CHECKING:
    from vernacular.inference.backends.llama_cpp import LlamaCppModel
    from vernacular.inference.backends.openai import OpenAiModel
    from vernacular.inference.backends.vllm import VllmModel
    from vernacular.inference.model import LocalModel

    AnyModel = LocalModel | LlamaCppModel | OpenAiModel | VllmModel

_Settings = TypeVar("_Settings", bound=Configuration)


class OurSettings(Configuration):
    """Settings of our own engine: arguments of `load`, by its names."""

    dtype: str = Field("float32", description="float32, bfloat16, int8 or int4 of the weights")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, …")
    kernels: Any = Field(None, description="native: our own, on a CPU (default there); torch: PyTorch's, anywhere")
    window: int | None = Field(None, ge=0, description="keys a token may look at; 0: all before it")


def open_model(address: str, *, weights: Path | None = None, **settings: Any) -> AnyModel:
    """What answers at an address.

    - `runs/demo/instruct`, or `vernacular:runs/demo/instruct?dtype=int8`: a weights folder in our own engine;
    - `llama.cpp:model.gguf?weights=FOLDER`: a GGUF file in llama.cpp;
    - `openai:http://HOST/v1?model=NAME`: a server;
    - `vllm:FOLDER?tensor_parallel=2`: a weights folder in vLLM.

    Args:
        address: `BACKEND:WHERE?setting=value&…`.
        weights: the setting `weights` of an address that has such a setting and does not name it.
        **settings: settings of our own engine, by name; None counts as not given. Refused for other back-ends, and
            where the address names the same one.

    Raises:
        UserError: an unknown back-end or setting (the nearest is named), or a value that will not do.
        MachineError: the back-end's package is not installed; names the extra.
    """
    read = read_address(address)
    given = {name: value for name, value in settings.items() if value is not None}
    if read.backend == LLAMA_CPP:
        _refuse(given, read)
        from vernacular.inference.backends.llama_cpp import LlamaCppModel, LlamaCppSettings

        return LlamaCppModel(Path(read.where), _settings(LlamaCppSettings, address, read, weights))
    if read.backend == OPENAI:
        _refuse(given, read)
        from vernacular.inference.backends.openai import OpenAiModel, OpenAiSettings

        return OpenAiModel(read.where, _settings(OpenAiSettings, address, read, weights))
    if read.backend == VLLM:
        _refuse(given, read)
        from vernacular.inference.backends.vllm import VllmModel, VllmSettings

        return VllmModel(Path(read.where), _settings(VllmSettings, address, read, None))
    from vernacular.inference.loading import load

    for name in given.keys() & read.settings.keys():
        raise UserError(f"{name} stands in the address and beside it", where=address, fix="keep one of them")
    ours = _settings(OurSettings, address, Address(read.backend, read.where, {**read.settings, **given}), None)
    return load(read.where, ours.dtype, ours.device, kernels=ours.kernels, window=ours.window)


def _refuse(given: dict[str, Any], address: Address) -> None:
    for name in given:
        raise UserError(
            f"'{name}' is a setting of our own engine, not of the back-end {address.backend}",
            where=f"--{name}",
            fix="leave it out; what the back-end can be told stands in its address",
        )


def _settings(kind: type[_Settings], text: str, address: Address, weights: Path | None) -> _Settings:
    values: dict[str, Any] = dict(address.settings)
    if weights is not None:
        values.setdefault("weights", weights)
    try:
        return validate(kind, values)
    except UserError as error:
        raise UserError(error.message, where=f"{text} ({error.where})", fix=_as_setting(error.fix)) from error


def _as_setting(fix: str | None) -> str | None:
    """A fix worded for YAML, for an address."""
    return fix.replace(": …`", "=…` to the address") if fix is not None and fix.startswith("add `") else fix
