"""Plans for GPUs: layouts that fit, predictions against published runs, and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vernacular.foundation.errors import UserError
from vernacular.lifecycle.forecast import Cluster, assumption, forecast, forecast_layout, open_cluster, utilisations
from vernacular.lifecycle.layout import Layout, propose
from vernacular.lifecycle.memory import training_memory
from vernacular.models.configuration import DecoderConfiguration, ModelShape
from vernacular.models.family import configure
from vernacular.parallel.configuration import ParallelConfiguration
from vernacular.training.configuration import TrainingConfiguration
from vernacular.training.hardware import find_gpu
from vernacular.training.optimisers.eight_bit import BLOCK
from vernacular.training.throughput import find_peak

FOUR_MILLION = 4_194_304


def shape(vocab_size: int, positions: int = 4096, **settings: Any) -> DecoderConfiguration:
    return configure(ModelShape(**settings), vocab_size, positions)


def granite(hidden: int, layers: int, heads: int, inner: int, experts: int | None = None) -> DecoderConfiguration:
    mixture = {} if experts is None else {"family": "granitemoe", "num_experts": experts, "experts_per_token": 8}
    return shape(
        49155,
        **{"family": "granite", **mixture},
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_key_value_heads=8,
        intermediate_size=inner,
        tie_embeddings=True,
    )


BIELIK = shape(
    32000,
    family="mistral",
    hidden_size=4096,
    num_layers=32,
    num_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    window=4096,
)
GRANITE = {
    "1B": granite(1024, 24, 16, 512, experts=32),
    "3B": granite(1536, 32, 24, 512, experts=40),
    "2B": granite(2048, 40, 32, 8192),
    "8B": granite(4096, 40, 32, 12800),
}
# Published: GPU-hours, tokens, GPUs, layout.
GRANITE_RUNS: dict[str, tuple[float, float, int, dict[str, int]]] = {
    "1B": (71_171, 10e12, 128, {"zero_stage": 1}),
    "3B": (133_308, 10e12, 256, {"zero_stage": 1}),
    "2B": (192_030, 12e12, 256, {"tensor": 2}),
    "8B": (832_102, 12e12, 768, {"tensor": 4, "pipeline": 4}),
}


def training(steps: int | None = 1, **more: Any) -> TrainingConfiguration:
    values = {
        "steps": steps,
        "sequence_length": 4096,
        "batch_tokens": FOUR_MILLION,
        "precision": "bfloat16",
        "optimiser": {"learning_rate": 1e-4},
        **more,
    }
    return TrainingConfiguration(**values)


def given(shape: DecoderConfiguration, stage: TrainingConfiguration, cluster: Cluster, **parallel: Any) -> Layout:
    configuration = ParallelConfiguration(**parallel)
    sizes = configuration.sizes(cluster.gpus)
    memory = training_memory(shape, stage, configuration, sizes, 1)
    return Layout(configuration, sizes, 1, stage.batch_rows // sizes.data, memory)


def predicted_granite_hours(name: str) -> float:
    _, tokens, gpus, parallel = GRANITE_RUNS[name]
    # Ours alone counts the experts' choices in passes of their own, unless every pass balances by itself.
    cluster, stage = open_cluster("h100", gpus), training(round(tokens / FOUR_MILLION), load_balance="pass")
    hours = forecast_layout(GRANITE[name], stage, cluster, given(GRANITE[name], stage, cluster, **parallel)).gpu_hours
    assert hours is not None
    return hours


def test_bieliks_run_is_predicted_within_15_percent() -> None:
    # 17,350 steps of 4,194,304 tokens at 9,200 tokens/s on each of 256 GH200s: 8.6 h. The plan was not fitted to it.
    stage, cluster = training(17_350, micro_batch_tokens=16_384), open_cluster("gh200", 256)
    found = forecast(BIELIK, stage, cluster)
    known = FOUR_MILLION / (256 * 9200)
    assert 17_350 * known / 3600 == pytest.approx(8.6, abs=0.05)
    assert found.situation == "sharded"
    assert 1 / 1.15 < found.step_seconds / known < 1.15
    assert found.layout.memory.total < 0.9 * 96e9
    assert BIELIK.num_parameters() == 7_241_732_096


@pytest.mark.parametrize(("name", "factor"), [("3B", 1.15), ("8B", 1.5)])
def test_granites_other_runs_are_predicted(name: str, factor: float) -> None:
    assert 1 / factor < predicted_granite_hours(name) / GRANITE_RUNS[name][0] < factor


@pytest.mark.parametrize("name", ["1B", "2B"])
def test_the_runs_that_two_assumptions_come_from_are_met(name: str) -> None:
    assert predicted_granite_hours(name) == pytest.approx(GRANITE_RUNS[name][0], rel=0.01)


def test_granites_operations_are_those_published() -> None:
    # Theirs, 8.35e23, are 6 · active weights · tokens of rounded sizes; a plan's also count attention.
    weights = sum(6 * GRANITE[name].num_active_parameters() * run[1] for name, run in GRANITE_RUNS.items())
    assert weights == pytest.approx(8.35e23, rel=0.02)
    everything = sum(3 * GRANITE[name].forward_flops_per_token(4096) * run[1] for name, run in GRANITE_RUNS.items())
    assert everything == pytest.approx(8.35e23, rel=0.14)
    assert everything > weights


def test_the_assumption_for_sharded_runs_follows_from_its_source() -> None:
    # llm-foundry, 64 H100s, rows of 2,048: weights (tied), layers, width, tokens/s a GPU.
    for weights, layers, width, speed in ((2_651_837_440, 32, 2560, 22_525), (12_853_954_560, 40, 5120, 4_800)):
        operations = 3 * (2 * weights + 4 * layers * width * 1024)
        assert operations * speed / 989e12 == pytest.approx(utilisations()["sharded"].value, abs=0.003)


def test_energy_and_time_follow_their_formulas() -> None:
    cluster = open_cluster("h100", 128, pue=1.1, kg_co2_per_kwh=0.7)
    found = forecast(GRANITE["1B"], training(1000), cluster)
    assert found.seconds is not None
    assert found.gpu_hours is not None
    assert found.kwh is not None
    assert found.seconds == pytest.approx(1000 * found.step_seconds / assumption("availability").value)
    assert found.gpu_hours == pytest.approx(128 * found.seconds / 3600)
    assert found.kwh == pytest.approx(found.gpu_hours * 0.7 * 1.1)
    assert found.kg_co2 == pytest.approx(found.kwh * 0.7)
    by_epochs = forecast(GRANITE["1B"], training(None, epochs=2), cluster)
    assert (by_epochs.seconds, by_epochs.kwh) == (None, None)
    assert by_epochs.step_seconds == found.step_seconds


def test_what_is_computed_again_takes_time_and_is_no_use() -> None:
    stage, cluster = training(), open_cluster("h100", 8)
    once, twice = (
        forecast_layout(BIELIK, stage, cluster, given(BIELIK, stage, cluster, activation_checkpointing=mode))
        for mode in ("none", "full")
    )
    assert twice.step_seconds == pytest.approx(once.step_seconds * 4 / 3)
    assert twice.step_flops == once.step_flops
    # A mixture's choices are counted first where a batch goes through in several passes.
    mixture, cluster = GRANITE["1B"], open_cluster("h100", 256)
    alone, counted, both = (
        forecast_layout(mixture, stage, cluster, given(mixture, stage, cluster, **parallel)).step_seconds
        for stage, parallel in (
            (training(load_balance="pass"), {}),
            (training(), {}),
            (training(), {"activation_checkpointing": "full"}),
        )
    )
    assert counted == pytest.approx(alone * 4 / 3)
    assert both == pytest.approx(alone * 5 / 3)
    whole = propose(mixture, training(), find_gpu("h100"), 256, fill=0.9)
    assert whole.micro_batches == 1
    assert forecast_layout(mixture, training(), cluster, whole).step_seconds == pytest.approx(alone)


LARGE = shape(128256, hidden_size=8192, num_layers=80, num_heads=64, num_key_value_heads=8, intermediate_size=28672)
MANY_EXPERTS = shape(
    32000,
    family="granitemoe",
    hidden_size=6144,
    num_layers=40,
    num_heads=48,
    num_key_value_heads=8,
    intermediate_size=4096,
    num_experts=64,
    experts_per_token=8,
)


DECODERS = {"1B": GRANITE["1B"], "7B": BIELIK, "70B": LARGE, "experts": MANY_EXPERTS}
# 16 bytes a weight, divided over the GPUs, as a share of their memory.
SHARES = {
    (name, gpus, gpu): 16 * decoder.num_parameters() / gpus / find_gpu(gpu).memory
    for name, decoder in DECODERS.items()
    for gpus in (8, 64, 512)
    for gpu in ("h100", "h200", "gh200", "a100-40", "a100-80", "b200")
}


@pytest.mark.parametrize(("name", "gpus", "gpu"), [case for case, share in SHARES.items() if share < 0.3])
def test_what_is_proposed_fits_and_adds_up(name: str, gpus: int, gpu: str) -> None:
    decoder, stage, machine = DECODERS[name], training(), find_gpu(gpu)
    layout = propose(decoder, stage, machine, gpus, fill=0.9)
    sizes = layout.parallel.sizes(gpus)
    layout.parallel.check(decoder, 4096, device="cuda")
    assert sizes == layout.sizes
    assert layout.memory.total <= 0.9 * machine.memory
    assert layout.micro_rows * layout.micro_batches * sizes.data == stage.batch_rows
    assert layout.micro_batches >= sizes.pipeline
    assert sizes.tensor <= machine.node
    assert layout.memory == training_memory(decoder, stage, layout.parallel, sizes, layout.micro_rows)


@pytest.mark.parametrize(("name", "gpus", "gpu"), [case for case, share in SHARES.items() if share > 0.9])
def test_what_cannot_fit_is_refused(name: str, gpus: int, gpu: str) -> None:
    with pytest.raises(UserError, match="least memory of any layout"):
        propose(DECODERS[name], training(), find_gpu(gpu), gpus, fill=0.9)


def test_a_tensor_that_parts_blocks_of_8_bit_averages_is_not_proposed() -> None:
    # 8 rows use 64 GPUs by cuts alone, and 7168 / 8 is no multiple of the 256 values that share a scale.
    decoder = shape(32000, hidden_size=2048, num_layers=32, num_heads=16, num_key_value_heads=8, intermediate_size=7168)
    usual, eight_bit = (
        propose(
            decoder,
            training(batch_tokens=32_768, optimiser={"name": name, "learning_rate": 1e-4}),
            find_gpu("h100"),
            64,
            fill=0.9,
        )
        for name in ("adamw", "adamw-8bit")
    )
    assert usual.sizes.tensor == 8
    assert 7168 // eight_bit.sizes.tensor % BLOCK == 0


def test_what_a_stage_excludes_is_not_proposed() -> None:
    # 96 rows among 5 GPUs need a pipeline of 5, which the load balance of single passes excludes.
    few = MANY_EXPERTS.model_copy(update={"hidden_size": 1024, "num_experts": 8})
    batch = {"batch_tokens": 96 * 4096}
    assert propose(few, training(**batch), find_gpu("h200"), 5, fill=0.9).sizes.pipeline == 5
    with pytest.raises(UserError, match="cannot be divided over 5 GPUs"):
        propose(few, training(**batch, load_balance="pass"), find_gpu("h200"), 5, fill=0.9)
    # The blocks of a mixture are compiled or checkpointed.
    eager, compiled = (
        propose(MANY_EXPERTS, training(compile=compile), find_gpu("h100"), 64, fill=0.9) for compile in (False, True)
    )
    assert (eager.parallel.activation_checkpointing, eager.sizes.tensor) == ("full", 1)
    assert (compiled.parallel.activation_checkpointing, compiled.sizes.tensor) == ("none", 8)
    with pytest.raises(UserError, match="native kernels compute on a CPU only"):
        propose(BIELIK, training(kernels="native"), find_gpu("h100"), 256, fill=0.9)


def test_the_simplest_layout_that_fits_is_proposed() -> None:
    small = propose(GRANITE["1B"], training(), find_gpu("h100"), 128, fill=0.9)
    assert (small.parallel.zero_stage, small.parallel.activation_checkpointing, small.sizes.tensor) == (1, "none", 1)
    large = propose(LARGE, training(), find_gpu("h100"), 512, fill=0.9)
    assert large.parallel.zero_stage == 3
    assert large.sizes.data_shard * large.sizes.tensor > 8, (
        "16 bytes for each of 70B weights are more than a node holds"
    )
    alone = propose(GRANITE["1B"], training(batch_tokens=65_536), find_gpu("h100"), 1, fill=0.9)
    assert alone.sizes.world == 1


def test_the_recipes_micro_batch_is_not_exceeded() -> None:
    layout = propose(GRANITE["1B"], training(micro_batch_tokens=4096), find_gpu("h200"), 8, fill=0.9)
    assert layout.micro_rows == 1


def test_what_cannot_be_is_refused_with_what_to_change() -> None:
    with pytest.raises(UserError, match="cannot be divided over 7 GPUs"):
        propose(GRANITE["1B"], training(), find_gpu("h100"), 7, fill=0.9)
    with pytest.raises(UserError, match="unknown GPU 'h1000'") as error:
        find_gpu("h1000")
    assert "h100" in str(error.value.fix)
    with pytest.raises(UserError, match="a building does not draw"):
        open_cluster("h100", 8, pue=0.5)
    with pytest.raises(UserError, match="train nothing"):
        open_cluster("h100", 0)


def test_data_sheets_are_complete_and_plausible() -> None:
    for name in ("h100", "h200", "gh200", "a100-40", "a100-80", "b200"):
        gpu = find_gpu(name)
        assert gpu.float32 < gpu.bfloat16 < 1e16
        assert gpu.float8 is None or gpu.float8 == pytest.approx(2 * gpu.bfloat16, rel=0.01)
        assert 40e9 <= gpu.memory <= 192e9
        assert gpu.interconnect < gpu.bandwidth
        assert 400 <= gpu.watts <= 1000
    assert (find_gpu("A100-40").float8, find_gpu("H200").memory) == (None, 141e9)


def test_a_variant_of_a_gpu_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756.5e12,
        "NVIDIA GH200 480GB": 989e12,
        "NVIDIA H200": 989e12,
        "NVIDIA A100-PCIE-40GB": 312e12,
        "NVIDIA A100 80GB PCIe": 312e12,
        "NVIDIA B200": 2250e12,
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None,
        "NVIDIA A100-SXM-64GB": None,
    }
    for name, peak in peaks.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        found = find_peak("bfloat16", torch.device("cuda"))
        assert (None if found is None else found.flops) == peak, name


def test_a_stage_of_unknown_shape_says_so(run_cli: Any, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    training = {
        "sequence_length": 64,
        "batch_tokens": 1024,
        "steps": 1,
        "optimiser": {"learning_rate": 0.001},
        "weights": "weights",
        "tokens": "weights",
    }
    recipe = {"name": "unknown", "stages": {"base": {"do": "pretrain", **training}}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    words = run_cli("plan", "recipe.yaml", "--gpus", "8", "--gpu", "h100", cwd=tmp_path).stdout
    assert "base: not planned" in words


def test_the_command_prints_every_part_with_its_formula(run_cli: Any, repository: Path, tmp_path: Path) -> None:
    recipe = repository / "recipes" / "demo.yaml"
    words = run_cli("plan", recipe, "--out", tmp_path, "--gpus", "2", "--gpu", "GH200").stdout
    for part in (
        "weights",
        "gradients",
        "adamw (8)",
        "gathered",
        "activations",
        "logits",
        "GPU-hours",
        "PUE 1.3",
        "kgCO₂",
    ):
        assert part in words
    assert "~ estimates for 2 × gh200" in words
    # What a plan counts on are settings of the stage, the micro-batch among them.
    line = next(line for line in words.splitlines() if line.startswith("  settings"))
    settings = yaml.safe_load("{" + line.removeprefix("  settings") + "}")
    rows, length = re.findall(r"micro-batches of (\d+) rows? of (\d+) tokens", words)[0]
    assert settings["micro_batch_tokens"] == int(rows) * int(length)
    taken = [f"stages.base.{key}={json.dumps(value)}" for key, value in settings.items()]
    assert line in run_cli("plan", recipe, *taken, "--out", tmp_path, "--gpus", "2", "--gpu", "GH200").stdout
    assert "llm-foundry" in words
    assert "epochs: 2.5" in words
    lone = run_cli("plan", recipe, "--gpus", "2", code=2)
    assert "belong together" in lone.stderr
    assert "PUE" not in run_cli("plan", recipe, "--out", tmp_path).stdout
    unknown = run_cli("plan", recipe, "--gpus", "2", "--gpu", "rtx", code=2).stderr
    known = unknown.split(": ")[-1].split()
    assert known[-1] == "h200"
    offered = " ".join(run_cli("plan", "--help").stdout.split())
    assert all(name.strip(",") in offered for name in known)
