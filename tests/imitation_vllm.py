"""An imitation of vLLM's documented interface, with our decoder in its place. Unknown arguments are errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

import torch

from vernacular.inference.model import load


@dataclass
class SamplingParams:
    n: int = 1
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    include_stop_str_in_output: bool = False


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = True


def found(scores: torch.Tensor, token: int, number: int) -> dict[int, Logprob]:
    """The token's log-probability and those of the best ones, as many as asked for."""
    best = scores.topk(number).indices.tolist() if number else []
    return {one: Logprob(float(scores[one])) for one in [token, *best]}


class LLM:
    """Greedy only."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        seed: int = 0,
        tensor_parallel_size: int = 1,
        distributed_executor_backend: str | None = None,
        gpu_memory_utilization: float = 0.9,
        max_model_len: int | None = None,
        trust_remote_code: bool = False,
        generation_config: str = "auto",
    ) -> None:
        LLM.made.append({name: value for name, value in locals().items() if name != "self"})
        self.lm = load(model)
        self.most = max_model_len

    def generate(
        self, prompts: list[dict[str, list[int]]], sampling_params: list[SamplingParams], use_tqdm: bool = True
    ) -> list[RequestOutput]:
        assert not use_tqdm
        return [self.one(prompt["prompt_token_ids"], one) for prompt, one in zip(prompts, sampling_params, strict=True)]

    def one(self, prompt: list[int], asked: SamplingParams) -> RequestOutput:
        assert asked.temperature == 0 and len(prompt) < self.most
        of_prompt = None
        if asked.prompt_logprobs is not None:
            scores = self.lm.logits(prompt).log_softmax(-1)
            places = range(1, len(prompt))
            of_prompt = [None, *(found(scores[p - 1], prompt[p], asked.prompt_logprobs) for p in places)]
        ids: list[int] = []
        scored = []
        reason = "length"
        while len(ids) < asked.max_tokens:
            scores = self.lm.logits([*prompt, *ids])[-1].log_softmax(-1)
            ids.append(int(scores.argmax()))
            scored.append(found(scores, ids[-1], asked.logprobs or 0))
            text = self.lm.tokenizer.decode(ids)
            if ids[-1] in (asked.stop_token_ids or ()) or any(stop in text for stop in asked.stop or ()):
                reason = "stop"
                break
        logprobs = None if asked.logprobs is None else scored
        output = CompletionOutput(0, self.lm.tokenizer.decode(ids), ids, None, logprobs, reason)
        return RequestOutput(prompt, of_prompt, [output])


def imitation() -> ModuleType:
    """The module."""
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    module.__version__ = "0.10.imitation"
    module.LLM, module.SamplingParams = LLM, SamplingParams
    return module
