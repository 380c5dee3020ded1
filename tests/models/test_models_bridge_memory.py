"""How much memory importing and loading take, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

MEASURE = """
import sys
from pathlib import Path
from vernacular.models.bridge import import_weights
from vernacular.models.weights import load_decoder

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

what, source, out, shard = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
import vernacular.models.published_tokens, vernacular.models.decoder
before = peak()
if what == "import":
    import_weights(source, out, shard_bytes=shard)
else:
    load_decoder(source, dtype="bfloat16")
print((peak() - before) * 1024)
"""


@pytest.mark.parametrize("legacy", [False, True])
def test_memory_stays_below_weights_and_a_shard(legacy: bool, publish: Callable[..., Path], tmp_path: Path) -> None:
    """200 MB in 20 MB shards: import holds two shards at most; loading the weights and one."""
    shard = 20_000_000
    source = publish(
        hidden_size=512, num_layers=24, num_heads=8, head_dim=64, intermediate_size=2048, num_key_value_heads=8,
        dtype="bfloat16", shard_bytes=shard,
    )  # fmt: skip
    total = sum(path.stat().st_size for path in source.glob("model-*.safetensors"))
    assert total > 190_000_000
    if legacy:
        files = sorted(source.glob("model-*.safetensors"))
        weight_map = {}
        for file in files:
            torch.save(load_file(file), file.with_suffix(".bin"))
            weight_map |= dict.fromkeys(load_file(file), file.with_suffix(".bin").name)
            file.unlink()
        (source / "model.safetensors.index.json").unlink()
        (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))

    def measure(what: str, folder: Path) -> int:
        words = [sys.executable, "-c", MEASURE, what, str(folder), str(tmp_path / "out"), str(shard)]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

    overhead = 15_000_000  # the tokenizer, code that is loaded on the way
    assert measure("import", source) <= 2 * shard + overhead
    assert measure("load", tmp_path / "out") <= total + shard + overhead
