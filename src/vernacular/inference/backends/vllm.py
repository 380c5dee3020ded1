"""vLLM behind `LanguageModel`, for GPUs and clusters: token ids in, token ids out.

Written against the documented interface of vLLM 0.10 and later (`LLM`, `SamplingParams`, `prompt_logprobs`,
`RequestOutput`); it has been run with an imitation of that interface only, never with vLLM itself. `vernacular
check-backend` says whether what it gives is what our engine gives.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from vernacular.foundation.configuration import Configuration
from vernacular.foundation.errors import InternalError, UserError, missing_extra
from vernacular.inference.answer import Answer, TokenScores
from vernacular.inference.backends.address import VLLM
from vernacular.inference.backends.scoring import TokenScore
from vernacular.inference.backends.token_model import TokenModel
from vernacular.inference.constraint import Constraint
from vernacular.inference.encoding import TokenPair
from vernacular.inference.reader import Reader
from vernacular.models.language_model import Sampling
from vernacular.models.weights import read_config, weights_hash

_ENDS = ("stop", "length")


class VllmSettings(Configuration):
    """Settings of the back-end `vllm`."""

    dtype: Literal["bfloat16", "float16", "float32"] = Field("bfloat16", description="of weights and arithmetic")
    tensor_parallel: int = Field(1, gt=0, description="GPUs that share each layer")
    executor: Literal["mp", "ray"] | None = Field(
        None, description="who starts the GPUs' processes: mp on one machine, ray on a cluster (default: vLLM's choice)"
    )
    gpu_memory: float = Field(0.9, gt=0, le=1, description="share of each GPU's memory that vLLM takes")
    max_positions: int | None = Field(None, gt=0, description="longest sequence (default: what config.json says)")
    seed: int = Field(0, description="of vLLM itself; each request has its own beside it")


class VllmModel(TokenModel):
    """A weights folder in vLLM. Answers are drawn by vLLM, so sampled ones are not those of our engine.

    Stop strings and text are read by us from the tokens that vLLM gives. Its `LLM` does not stream: `stream` gives the
    whole answer as one piece.
    """

    def __init__(self, folder: Path, settings: VllmSettings) -> None:
        super().__init__(Reader(folder))
        self.folder = folder
        self._settings = settings
        self._vllm = _library()
        self._max_positions = settings.max_positions or read_config(folder).max_positions
        self._llm = self._vllm.LLM(
            model=str(folder),
            dtype=settings.dtype,
            seed=settings.seed,
            tensor_parallel_size=settings.tensor_parallel,
            distributed_executor_backend=settings.executor,
            gpu_memory_utilization=settings.gpu_memory,
            max_model_len=self._max_positions,
            trust_remote_code=False,
            # Without it vLLM puts the folder's own sampling settings under each request's.
            generation_config="vllm",
        )

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What answers: back-end, dtype, hashes, and how many GPUs share a layer."""
        return {
            "backend": f"{VLLM} {self._vllm.__version__}",
            "dtype": self._settings.dtype,
            "weights": weights_hash(self.folder),
            "tokenizer": self.reader.tokenizer.hash,
            "template": self.reader.template_hash,
            "tensor_parallel": str(self._settings.tensor_parallel),
        }

    @property
    def max_positions(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""
        return self._max_positions

    @property
    def most_scored(self) -> int:
        """Longest context and continuation together: vLLM reads all of it, and draws a token after it."""
        return self.max_positions - 1

    def token_scores(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, list[TokenScore]]]:
        """Each pair's number and the scores of its continuation."""
        settings = self._vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=1, detokenize=False)
        sequences = [[*context, *continuation] for context, continuation in pairs]
        for number, output in enumerate(self._generate(sequences, [settings] * len(pairs))):
            start = len(pairs[number].context)
            found = output.prompt_logprobs
            if found is None or len(found) != len(sequences[number]):
                raise InternalError("vLLM gave no log-probability for each token of the prompt")
            yield number, [_score(found[place], sequences[number][place]) for place in range(start, len(found))]

    def constraint(self, sampling: Sampling) -> Constraint | None:
        """Refuses schemas and grammars."""
        if sampling.json_schema is not None or sampling.grammar is not None:
            raise UserError(
                "the back-end vllm does not hold answers to a schema or a grammar",
                where="json_schema" if sampling.json_schema is not None else "grammar",
                fix="leave it out, or use our own engine or llama.cpp",
            )
        return None

    def run(self, answers: Sequence[Answer]) -> Iterable[Answer]:
        """All answers in one call, so that vLLM can batch them."""
        settings = [self._sampling(answer) for answer in answers]
        outputs = self._generate([list(answer.prompt) for answer in answers], settings)
        for answer, output in zip(answers, outputs, strict=True):
            _replay(answer, output.outputs[0])
            yield answer

    def grow(self, answer: Answer) -> Iterator[None]:
        """One answer, in one go."""
        for _ in self.run([answer]):
            yield

    def _generate(self, sequences: Sequence[Sequence[int]], settings: Sequence[Any]) -> list[Any]:
        if not sequences:
            return []
        prompts = [{"prompt_token_ids": list(ids)} for ids in sequences]
        outputs: list[Any] = self._llm.generate(prompts, sampling_params=list(settings), use_tqdm=False)
        return outputs

    def _sampling(self, answer: Answer) -> Any:
        sampling = answer.sampling
        return self._vllm.SamplingParams(
            max_tokens=answer.limit,
            temperature=sampling.temperature,
            top_k=sampling.top_k or -1,
            top_p=sampling.top_p or 1.0,
            min_p=sampling.min_p or 0.0,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            stop=list(sampling.stop) or None,
            # The stop string's tokens are to come, so that we find it ourselves.
            include_stop_str_in_output=True,
            stop_token_ids=sorted(self.reader.end_ids),
            logprobs=sampling.log_probabilities,
        )


def _score(found: Mapping[int, Any], token: int) -> TokenScore:
    best = max(one.logprob for one in found.values())
    return TokenScore(found[token].logprob, found[token].logprob >= best)


def _replay(answer: Answer, output: Any) -> None:
    """Hand the answer vLLM's tokens; both must come to an end at the same one."""
    if output.finish_reason not in _ENDS:
        raise InternalError(f"vLLM broke an answer off: {output.finish_reason}")
    wanted = answer.sampling.log_probabilities
    for place, token in enumerate(output.token_ids):
        if answer.stopped_by is not None:
            break
        scores = None if wanted is None else _token_scores(output.logprobs[place], token, wanted)
        answer.push(token, scores)
    if answer.stopped_by is None:
        raise InternalError("vLLM ended an answer where we find neither an end token nor a stop string")


def _token_scores(found: Mapping[int, Any], token: int, wanted: int) -> TokenScores:
    order = sorted(found, key=lambda other: -found[other].logprob)[:wanted]
    return TokenScores(found[token].logprob, tuple((other, found[other].logprob) for other in order))


def _library() -> Any:
    if importlib.util.find_spec("vllm") is None:
        raise missing_extra("vllm", "vllm", "the back-end vllm")
    import vllm

    return vllm
