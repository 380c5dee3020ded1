"""The back-end of vLLM, against an imitation of its documented interface."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import imitation_vllm
from vernacular.foundation.errors import InternalError, MachineError, UserError
from vernacular.inference.backends.opening import open_model
from vernacular.inference.backends.vllm import VllmModel
from vernacular.inference.model import LocalModel
from vernacular.models.language_model import LanguageModel, Sampling

PAIRS = [("गाँव के पास", " एक कुआँ"), ("Gdzie kupię ", "chleb"), ("", "மழை")]
PROMPTS = ["Żółta łódka", "क्षण भर", "في الصباح"]


@pytest.fixture
def vllm(checked_weights: Path, monkeypatch: pytest.MonkeyPatch) -> VllmModel:
    monkeypatch.setitem(sys.modules, "vllm", imitation_vllm.imitation())
    opened = open_model(f"vllm:{checked_weights}?tensor_parallel=2&executor=ray&dtype=float32&gpu_memory=0.5")
    assert isinstance(opened, VllmModel)
    return opened


def test_the_settings_reach_vllm(vllm: VllmModel, checked_lm: LocalModel) -> None:
    assert isinstance(vllm, LanguageModel)
    made = imitation_vllm.LLM.made[-1]
    assert (made["tensor_parallel_size"], made["distributed_executor_backend"]) == (2, "ray")
    assert (made["dtype"], made["gpu_memory_utilization"], made["max_model_len"]) == ("float32", 0.5, 320)
    assert made["trust_remote_code"] is False
    shared = {name: checked_lm.identity[name] for name in ("dtype", "weights", "tokenizer", "template")}
    assert vllm.identity == {**shared, "backend": "vllm 0.10.imitation", "tensor_parallel": "2"}


def test_scores_are_ours(vllm: VllmModel, checked_lm: LocalModel) -> None:
    for ours, theirs in zip(checked_lm.loglikelihood(PAIRS), vllm.loglikelihood(PAIRS), strict=True):
        assert theirs.log_probability == pytest.approx(ours.log_probability, abs=1e-4)
        assert theirs.is_greedy == ours.is_greedy
    text = "deszcz dudni o dach " * 60
    assert vllm.text_loglikelihood([text, ""])[0].num_tokens == len(checked_lm.tokenizer.encode(text)) > 320


@pytest.mark.parametrize("stop", [(), ("w", "ा")])
def test_answers_are_ours(vllm: VllmModel, checked_lm: LocalModel, stop: tuple[str, ...]) -> None:
    asked = [Sampling(max_new_tokens=20, stop=stop, log_probabilities=2)] * len(PROMPTS)
    for ours, theirs in zip(checked_lm.complete(PROMPTS, asked), vllm.complete(PROMPTS, asked), strict=True):
        assert (theirs.text, theirs.ids, theirs.stopped_by) == (ours.text, ours.ids, ours.stopped_by)
        for a, b in zip(ours.log_probabilities, theirs.log_probabilities, strict=True):
            assert b.log_probability == pytest.approx(a.log_probability, abs=1e-4)
            assert [best[0] for best in b.best] == [best[0] for best in a.best]
    assert "".join(vllm.stream(PROMPTS[0], asked[0])) == checked_lm.complete(PROMPTS[:1], asked[:1])[0].text


def test_what_it_cannot_do_is_refused(vllm: VllmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="does not hold answers to a schema"):
        vllm.complete(["क"], [Sampling(json_schema="{}")])
    one = imitation_vllm.LLM.one

    def breaks_off(self: imitation_vllm.LLM, prompt: list[int], asked: imitation_vllm.SamplingParams) -> object:
        output = one(self, prompt, asked)
        output.outputs[0].finish_reason = "abort"
        return output

    monkeypatch.setattr(imitation_vllm.LLM, "one", breaks_off)
    with pytest.raises(InternalError, match="broke an answer off: abort"):
        vllm.complete(["क"], [Sampling(max_new_tokens=3)])


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vllm is installed")
def test_without_the_package_the_extra_is_named(checked_weights: Path) -> None:
    with pytest.raises(MachineError, match=r"pip install 'vernacular\[vllm\]'"):
        open_model(f"vllm:{checked_weights}")
