"""What is made ready ahead changes the time of a start, not what is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vernacular.foundation.errors import UserError
from vernacular.inference import loading, model
from vernacular.kernels import reserve
from vernacular.kernels.linear import FORMATS


@pytest.mark.parametrize("dtype", FORMATS)
def test_memory_cleared_ahead_holds_the_same_weights(weights_folder: Path, dtype: str) -> None:
    ahead, plain = loading.load(weights_folder, dtype), model.load(weights_folder, dtype)
    assert reserve.claim() is None, "the weights have taken it"
    ids = ahead.encode_prompt("गाँव के पास एक पुराना")
    assert torch.equal(ahead.logits(ids), plain.logits(ids))


def test_clearing_begins_before_pytorch_is_there() -> None:
    code = "import sys, vernacular.inference.loading; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_what_is_wrong_with_a_folder_is_said_as_without(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        said = []
        for load in (loading.load, model.load):
            with pytest.raises(UserError) as caught:
                load(folder)
            said.append(str(caught.value))
        assert said[0] == said[1]


def test_memory_that_nobody_claims_harms_nobody() -> None:
    reserve.clear_ahead(40 << 20)
    reserve.clear_ahead(1)
    claimed = reserve.claim()
    assert claimed is not None
    assert len(claimed) == 2 << 20
    assert reserve.claim() is None
