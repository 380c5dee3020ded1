"""The engine: requests in, one forward pass per step over whatever is to be computed, answers out.

The scheduler says who gets how many tokens, the runner computes them; the engine stands between the two and hands
answers their tokens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vernacular.foundation.errors import UserError
from vernacular.inference.answer import Answer
from vernacular.inference.engine_settings import EngineSettings as EngineSettings
from vernacular.inference.paged_memory import PagedMemory
from vernacular.inference.pages import PAGE_TOKENS, Pages, pages_for
from vernacular.inference.recorded_decoding import CudaGraphs, Recorder
from vernacular.inference.runner import Runner
from vernacular.inference.scheduler import Request, Scheduler
from vernacular.models.decoder import Decoder

CACHE_BYTES_OF_A_CPU = 2 << 30
TOKENS_PER_STEP = {"cpu": 512}
TOKENS_PER_STEP_OF_A_GPU = 8192
MEMORY_OF_LINUX = Path("/proc/meminfo")
LEAST_PAGES = 2


@dataclass(frozen=True)
class Statistics:
    """What an engine is doing, and has done since it was made."""

    running: int
    waiting: int
    pages_used: int
    pages_total: int
    prompt_tokens: int
    generated_tokens: int
    prefix_hit_tokens: int
    preemptions: int


class Engine:
    """Answers many prompts with one decoder. Not thread-safe: one thread owns it.

    Args:
        decoder: in evaluation mode, on its device.
        settings: how much to take on at once.
        kernels: "native", our own, on a CPU; "torch", PyTorch's, anywhere.
        recorder: how steps of decoding are recorded, with PyTorch's kernels; default: as the settings say.

    Raises:
        UserError: the cache is too small, or decoding cannot be recorded as the settings ask.
    """

    def __init__(
        self,
        decoder: Decoder,
        settings: EngineSettings | None = None,
        *,
        kernels: str = "torch",
        recorder: Recorder | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        self.kernels = kernels
        weight, configuration = decoder.embedding.weight, decoder.configuration
        cache_bytes = settings.cache_bytes or _cache_bytes(weight.device)
        bytes_per_page = configuration.cache_bytes_per_token(weight.element_size()) * PAGE_TOKENS
        if cache_bytes < LEAST_PAGES * bytes_per_page:
            raise UserError(
                f"a cache of {cache_bytes} bytes holds less than {LEAST_PAGES} pages of {PAGE_TOKENS} tokens, which "
                f"take {LEAST_PAGES * bytes_per_page}",
                where="cache_bytes",
                fix=f"give it {LEAST_PAGES * bytes_per_page} at least, and enough for the longest prompt and answer",
            )
        # More pages than all rows at their longest could fill would never be used.
        most_pages = settings.most_rows * pages_for(configuration.max_positions)
        self._pages = Pages(min(cache_bytes // bytes_per_page, most_pages))
        self._scheduler = Scheduler(
            self._pages,
            tokens_per_step=settings.tokens_per_step
            or TOKENS_PER_STEP.get(weight.device.type, TOKENS_PER_STEP_OF_A_GPU),
            most_rows=settings.most_rows,
            window=configuration.window,
        )
        memory = PagedMemory(configuration, self._pages.total, weight.dtype, weight.device, kernels)
        self._runner = Runner(decoder, memory, recorder or _recorder(settings.recorded, weight.device))
        self._requests: dict[int, Request] = {}
        self._answers: dict[int, Answer] = {}
        self._prompt_tokens = self._generated_tokens = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._answers

    @property
    def statistics(self) -> Statistics:
        """Counts for whoever watches."""
        return Statistics(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            pages_used=self._pages.total - self._pages.num_free,
            pages_total=self._pages.total,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            prefix_hit_tokens=self._scheduler.num_hit_tokens,
            preemptions=self._scheduler.num_preemptions,
        )

    def submit(self, answer: Answer) -> None:
        """Queue an answer. Raises UserError where it needs more pages than there are."""
        request = self._scheduler.submit(answer)
        self._requests[id(answer)] = request
        self._answers[request.number] = answer
        self._prompt_tokens += len(answer.prompt)

    def step(self) -> list[Answer]:
        """One forward pass; the answers that received a token in it, finished ones included."""
        try:
            step = self._scheduler.plan()
            writing = [chunk.request for chunk in step if chunk.draws]
            answers = [self._answers[request.number] for request in writing]
            drawn = self._runner.run(step, answers) if step else []
            self._scheduler.advance(step)
        except BaseException:
            self._abandon()
            raise
        self._generated_tokens += len(drawn)
        for request, answer, (token, scores) in zip(writing, answers, drawn, strict=True):
            request.tokens.append(token)
            if answer.push(token, scores):
                self._remove(answer)
        return answers

    def cancel(self, answer: Answer) -> None:
        """Finish an answer where it stands; its pages are free at once. A finished one is left as it is."""
        if id(answer) in self._requests:
            self._remove(answer)
            answer.cancel()

    def run(self, answers: Sequence[Answer]) -> Iterator[Answer]:
        """Finish all answers, yielding each as it is finished. Those not finished when it is closed are cancelled."""
        pending = {id(answer): answer for answer in answers}
        try:
            for answer in answers:
                self.submit(answer)
            while pending:
                # Once idle, what is left was finished by another caller's steps.
                stepped = self.step() if not self.is_idle else list(pending.values())
                for answer in stepped:
                    if answer.stopped_by is not None and pending.pop(id(answer), None) is not None:
                        yield answer
        finally:
            for answer in pending.values():
                self.cancel(answer)

    def _remove(self, answer: Answer) -> None:
        request = self._requests.pop(id(answer))
        del self._answers[request.number]
        self._scheduler.remove(request)

    def _abandon(self) -> None:
        """A step broke off: what it was to compute is not there, so nothing that counts on it may stay."""
        for answer in list(self._answers.values()):
            self.cancel(answer)
        self._pages.forget()


def _recorder(recorded: bool | None, device: torch.device) -> Recorder | None:
    """What the setting asks for, on this device."""
    if recorded and device.type != "cuda":
        raise UserError(
            "decoding is recorded as CUDA graphs, which a CPU has not",
            where="recorded",
            fix="leave the setting out, or choose device cuda",
        )
    return CudaGraphs() if device.type == "cuda" and recorded is not False else None


def _cache_bytes(device: torch.device) -> int:
    """Half of the memory that can be had: a GPU's is there for this, a CPU's for others too."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    if MEMORY_OF_LINUX.exists():
        lines = dict(line.split(":") for line in MEMORY_OF_LINUX.read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].removesuffix("kB")) << 10
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return min(CACHE_BYTES_OF_A_CPU, free // 2)
