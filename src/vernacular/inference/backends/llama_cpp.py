"""llama.cpp behind `LanguageModel`: our GGUF export, our tokenizer, our choice of the next token, its arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from pydantic import Field

from vernacular.foundation.configuration import Configuration
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import sha256_file
from vernacular.inference.answer import Answer
from vernacular.inference.backends.address import LLAMA_CPP
from vernacular.inference.backends.llama_context import LlamaContext, llama_cpp_version
from vernacular.inference.backends.scoring import TokenScore
from vernacular.inference.backends.token_model import TokenModel
from vernacular.inference.constraint import Constraint, make_constraint
from vernacular.inference.encoding import TokenPair
from vernacular.inference.reader import Reader
from vernacular.inference.runner import token_scores
from vernacular.inference.sampling import choose, penalise
from vernacular.models.language_model import Sampling


class LlamaCppSettings(Configuration):
    """Settings of the back-end `llama.cpp`."""

    weights: Path = Field(description="folder with the tokenizer, the chat template and the end tokens")
    context: int | None = Field(None, gt=0, description="longest sequence in tokens; its cache is allocated at once")
    threads: int | None = Field(None, gt=0, description="threads of a forward pass (default: llama.cpp's choice)")


class LlamaCppModel(TokenModel):
    """A GGUF file that answers. Prompts are answered one after another; a shared beginning is read once.

    Args:
        file: what `vernacular export --format gguf` wrote, also with `--ids-only`.
        settings: the folder that it was exported from (its tensors are not needed), and the size of the context.
    """

    def __init__(self, file: Path, settings: LlamaCppSettings) -> None:
        super().__init__(Reader(settings.weights))
        self.file = file
        self._context = LlamaContext(file, context=settings.context, threads=settings.threads)
        self._check_vocabulary()

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What answers; `weights` is the hash of the GGUF file."""
        return {
            "backend": f"{LLAMA_CPP} (llama-cpp-python {llama_cpp_version()})",
            "dtype": self._context.file_type,
            "weights": sha256_file(self.file),
            "tokenizer": self.reader.tokenizer.hash,
            "template": self.reader.template_hash,
        }

    @property
    def max_positions(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""
        return self._context.num_positions

    @property
    def most_scored(self) -> int:
        """Longest context and continuation together: the last token is only predicted, so it needs no position."""
        return self.max_positions + 1

    def token_scores(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, list[TokenScore]]]:
        """Each pair's number and the scores of its continuation, pairs that begin alike one after another."""
        order = sorted(range(len(pairs)), key=lambda number: pairs[number])
        for number in order:
            context, continuation = pairs[number]
            left = list(continuation)
            found: list[TokenScore] = []
            for logits_KV in self._context.scores([*context, *continuation[:-1]], len(context) - 1):
                tokens_K1 = torch.tensor(left[: len(logits_KV)])[:, None]
                del left[: len(logits_KV)]
                own_K = logits_KV.log_softmax(dim=-1).gather(1, tokens_K1)[:, 0]
                best_K = logits_KV.argmax(dim=-1) == tokens_K1[:, 0]
                found += map(TokenScore, own_K.tolist(), best_K.tolist())
            yield number, found

    def constraint(self, sampling: Sampling) -> Constraint | None:
        """The schema or grammar of an answer, as our own engine reads it."""
        return make_constraint(
            self.reader.tokenizer, sampling, vocab_size=self._context.vocab_size, end_ids=self.reader.end_ids
        )

    def run(self, answers: Sequence[Answer]) -> Iterable[Answer]:
        """One answer after another."""
        for answer in answers:
            for _ in self.grow(answer):
                pass
            yield answer

    @torch.inference_mode()
    def _step(self, answer: Answer) -> None:
        ids = [*answer.prompt, *answer.ids]
        logits_1V = self._context.last_scores(ids)
        scores_1V, sampling = logits_1V, answer.sampling
        if sampling.repetition_penalty != 1:
            seen_1V = torch.zeros_like(logits_1V, dtype=torch.bool)
            seen_1V[0, ids] = True
            scores_1V = penalise(logits_1V, seen_1V, [sampling.repetition_penalty])
        if answer.constraint is not None:
            scores_1V = scores_1V.masked_fill(~torch.from_numpy(answer.constraint.allowed()), -torch.inf)
        token_1 = choose(scores_1V, [sampling], [answer.random])
        (scores,) = token_scores(logits_1V, token_1, [sampling.log_probabilities])
        answer.push(int(token_1), scores)

    def grow(self, answer: Answer) -> Iterator[None]:
        """One answer, token by token."""
        while answer.stopped_by is None:
            self._step(answer)
            yield
        if answer.constraint is not None and answer.constraint.problem is not None:
            raise UserError(
                f"the answer could not follow its schema or grammar to the end: {answer.constraint.problem}",
                where="json_schema" if answer.sampling.json_schema is not None else "grammar",
                fix="simplify it",
            )

    def _check_vocabulary(self) -> None:
        """Refuse a file whose tokens are not the tokenizer's: every id would mean something else."""
        tokenizer, context = self.reader.tokenizer, self._context
        for token_id in range(max(tokenizer.vocab_size, context.vocab_size)):
            ours = tokenizer.token_text(token_id) if token_id < tokenizer.vocab_size else None
            is_theirs = token_id < context.vocab_size and context.is_used(token_id)
            theirs = context.token_text(token_id) if is_theirs else None
            if ours != theirs:
                raise UserError(
                    f"token {token_id} is {_quoted(ours)} in the tokenizer and {_quoted(theirs)} in the GGUF file",
                    where=self.file,
                    fix="name the folder that the file was exported from with weights=FOLDER",
                )


def _quoted(text: str | None) -> str:
    return "none" if text is None else f"'{text}'"
