"""Addresses: one syntax for every back-end, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from vernacular.foundation.errors import UserError
from vernacular.inference.backends.address import Address, read_address
from vernacular.inference.backends.opening import open_model
from vernacular.inference.model import LocalModel


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("runs/demo/instruct", Address("vernacular", "runs/demo/instruct", {})),
        ("vernacular:runs/x?dtype=int8", Address("vernacular", "runs/x", {"dtype": "int8"})),
        (
            "openai:http://localhost:8000/v1?model=mały/model&concurrency=2",
            Address("openai", "http://localhost:8000/v1", {"model": "mały/model", "concurrency": "2"}),
        ),
        (
            "llama.cpp:modele/łoś%3F.gguf?weights=a%26b+c",
            Address("llama.cpp", "modele/łoś?.gguf", {"weights": "a&b+c"}),
        ),
        ("vllm:/w?tensor_parallel=2&executor=ray", Address("vllm", "/w", {"tensor_parallel": "2", "executor": "ray"})),
    ],
)
def test_an_address_is_read(text: str, expected: Address) -> None:
    assert read_address(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lama.cpp:x.gguf", "did you mean 'llama.cpp'"),
        ("http://localhost:8000/v1", "unknown back-end 'http'"),
        ("openai:?model=x", "names no model"),
        ("openai:http://h/v1?model", "'model' is not a setting"),
        ("openai:http://h/v1?model=a&&", "'' is not a setting"),
        ("openai:http://h/v1?model=a&model=b", "'model' stands twice"),
        ("openai:http://h/v1", "'model' is missing"),
        ("openai:http://h/v1?modle=a", "did you mean 'model'"),
        ("openai:http://h/v1?model=a&retries=many", "retries"),
        ("openai:http://h/v1?model=a&template=ours", "template"),
        ("openai:http://h/v1?model=a&template=local", "template=local needs a template"),
        ("openai:http://user:password@h/v1?model=a", "holds a password"),
        ("openai:ftp://h/v1?model=a", "not a URL of a server"),
        ("llama.cpp:x.gguf", "'weights' is missing"),
        ("vllm:x?tensor_parallel=0", "above 0"),
        ("vernacular:x?dtyp=int8", "did you mean 'dtype'"),
        ("does/not/exist", "does not exist"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        open_model(text)
    assert said in str(caught.value)
    assert "password@" not in str(caught.value)


def test_a_folder_is_opened_by_our_engine_whatever_its_name(checked_weights: Path, tmp_path: Path) -> None:
    odd = tmp_path / "openai:model?x"
    odd.symlink_to(checked_weights)
    opened = open_model(str(odd), dtype="bfloat16")
    assert isinstance(opened, LocalModel)
    assert opened.identity["dtype"] == "bfloat16"
    named = open_model(f"vernacular:{checked_weights}?dtype=bfloat16&kernels=torch")
    assert isinstance(named, LocalModel)
    assert named.engine.kernels == "torch"


def test_settings_of_our_engine_are_refused_beside_other_addresses(checked_weights: Path) -> None:
    with pytest.raises(UserError, match="'dtype' is a setting of our own engine"):
        open_model("openai:http://h/v1?model=a", dtype="int8")
    with pytest.raises(UserError, match="stands in the address and beside it"):
        open_model(f"vernacular:{checked_weights}?dtype=bfloat16", dtype="int8")
