"""A weights folder that answers: text in, numbers or text out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from vernacular.foundation.allocator import keep_freed_memory
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import MachineError, UserError, unknown_name
from vernacular.inference.answer import Answer, Pieces
from vernacular.inference.constraint import make_constraint
from vernacular.inference.encoding import TokenPair
from vernacular.inference.engine import Engine, EngineSettings
from vernacular.inference.likelihood import likelihoods
from vernacular.inference.packing import arithmetic_of, load_packed
from vernacular.inference.paged_memory import KERNELS, Kernels
from vernacular.inference.reader import Reader
from vernacular.inference.weight_only import check_can_be_quantised, quantise_weights
from vernacular.kernels.linear import FORMATS, QUANTISED
from vernacular.models.decoder import Decoder
from vernacular.models.language_model import Generation, Likelihood, Message, Report, Sampling, TextLikelihood
from vernacular.models.weights import load_decoder, read_config, weights_hash

BACKEND = "vernacular"


def load(
    folder: str | Path,
    dtype: str = "float32",
    device: str = "cpu",
    *,
    kernels: Kernels | None = None,
    window: int | None = None,
    engine: EngineSettings | None = None,
) -> LocalModel:
    """Load a weights folder: config.json, safetensors, tokenizer, and, for chats, a chat template.

    Args:
        folder: the folder, in Hugging Face layout.
        dtype: of the weights: "float32", "bfloat16", "int8" or "int4". The arithmetic around whole numbers of 8 or 4
            bits is in bfloat16.
        device: where it runs, as torch names it: "cpu", "cuda", "cuda:1".
        kernels: "native", our own, on a CPU (the default there), or "torch", PyTorch's, anywhere.
        window: keys a token may look at, itself included, where that is not to be what config.json says; 0: all.
        engine: how much is answered at once.

    Raises:
        UserError: a part is missing, truncated, or does not belong to the others; or the dtype does not go with the
            model on these kernels.
        MachineError: the native kernels cannot be compiled here.
    """
    folder = Path(folder)
    if dtype not in FORMATS:
        raise unknown_name("dtype", dtype, FORMATS, where="dtype")
    kernels = _choose_kernels(kernels, device)
    vocab_size = read_config(folder).vocab_size
    reader = Reader(folder)
    if reader.tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"the tokenizer has {reader.tokenizer.vocab_size} tokens, the weights only {vocab_size}",
            where=folder,
            fix="put the tokenizer the weights were trained with into the folder",
        )
    keep_freed_memory()
    decoder = load_packed(folder, dtype) if kernels == "native" else _load_for_torch(folder, dtype, device)
    if window is not None:
        _set_window(decoder, window)
    return LocalModel(reader, decoder, dtype, engine=Engine(decoder, engine, kernels=kernels))


def _load_for_torch(folder: Path, dtype: str, device: str) -> Decoder:
    """The decoder as PyTorch's kernels take it."""
    if dtype in QUANTISED:
        check_can_be_quantised(read_config(folder), dtype)
    decoder = load_decoder(folder, arithmetic_of(dtype), device)
    if dtype in QUANTISED:
        quantise_weights(decoder, dtype)
    return decoder


def _set_window(decoder: Decoder, window: int) -> None:
    if window < 0:
        raise UserError(f"a window of {window} keys", where="window", fix="give a number of keys, or 0 for all")
    changed = window or None
    decoder.configuration = decoder.configuration.model_copy(update={"window": changed})
    decoder.heads = decoder.heads._replace(window=changed)


def _choose_kernels(kernels: Kernels | None, device: str) -> Kernels:
    named = re.fullmatch(r"cpu|cuda(?::([0-9]{1,9}))?", device)
    if named is None:
        raise UserError(f"unknown device '{device}'", where="device", fix="choose cpu, cuda or cuda:NUMBER")
    is_cpu = device == "cpu"
    if kernels is None:
        kernels = "native" if is_cpu else "torch"
    if kernels not in KERNELS:
        raise unknown_name("kernels", kernels, KERNELS)
    if kernels == "native" and not is_cpu:
        raise UserError("the native kernels run on a CPU", where="kernels", fix="choose device cpu or kernels torch")
    if not is_cpu:
        _check_gpu(int(named[1] or 0))
    return kernels


def _check_gpu(number: int) -> None:
    """Refuse a GPU that this machine does not have."""
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not present:
        raise MachineError(f"this machine has no GPU that PyTorch can use: cuda:{number}", fix="choose device cpu")
    if number >= present:
        its = "its only GPU is cuda:0" if present == 1 else f"its GPUs are cuda:0 to cuda:{present - 1}"
        raise MachineError(f"this machine has no cuda:{number}: {its}", fix="choose one that it has")


class LocalModel:
    """Our own decoder as a `LanguageModel`, with the surface for people: `generate`, `chat`, `logits`."""

    def __init__(self, reader: Reader, decoder: Decoder, dtype: str, *, engine: Engine) -> None:
        self.reader = reader
        self.folder = reader.folder
        self.decoder = decoder
        self.tokenizer = reader.tokenizer
        self.template = reader.template
        self.dtype = dtype
        self.engine = engine

    @cached_property
    def identity(self) -> Mapping[str, str]:
        """What answers: `backend`, `dtype`, `kernels`, `device`, and the hashes of `weights`, `tokenizer`, `template`.

        The device is its kind, cpu or cuda: one GPU answers as another does. Also `window`, where that is not the one
        of config.json.
        """
        window = self.decoder.configuration.window
        changed = {} if window == read_config(self.folder).window else {"window": str(window or 0)}
        return {
            "backend": BACKEND,
            "dtype": self.dtype,
            "kernels": self.engine.kernels,
            "device": self.decoder.embedding.weight.device.type,
            "weights": weights_hash(self.folder),
            "tokenizer": self.tokenizer.hash,
            "template": self.reader.template_hash,
            **changed,
        }

    @property
    def max_positions(self) -> int:
        """Longest sequence in tokens, prompt and answer together."""
        return self.decoder.configuration.max_positions

    # ------------------------------------------------------------------------------------------ for people

    @overload
    def generate(self, prompt: str, **sampling: Any) -> str: ...
    @overload
    def generate(self, prompt: Sequence[str], **sampling: Any) -> list[str]: ...
    def generate(self, prompt: str | Sequence[str], **sampling: Any) -> str | list[str]:
        """Continue a prompt, or each of a list of prompts; the prompt is not repeated.

        Args:
            prompt: the text to continue.
            **sampling: the fields of `Sampling`: max_new_tokens, temperature, top_k, top_p, min_p, seed, stop, ….
        """
        prompts = [prompt] if isinstance(prompt, str) else prompt
        settings = _sampling(sampling)
        texts = [generation.text for generation in self.complete(prompts, [settings] * len(prompts))]
        return texts[0] if isinstance(prompt, str) else texts

    @overload
    def chat(self, messages: Sequence[Message], **sampling: Any) -> str: ...
    @overload
    def chat(self, messages: Sequence[Sequence[Message]], **sampling: Any) -> list[str]: ...
    def chat(self, messages: Any, **sampling: Any) -> str | list[str]:
        """The assistant's answer to a conversation of {"role", "content"} messages, or to each of a list of them.

        Sampling as in `generate`. What the messages say is never read as a control token.
        """
        is_one = not messages or isinstance(messages[0], Mapping)
        settings = _sampling(sampling)
        answers = [self.answer(self.encode_chat(one), settings) for one in ([messages] if is_one else messages)]
        for answer in self.engine.run(answers):
            _checked(answer)
        return answers[0].text if is_one else [answer.text for answer in answers]

    def stream(self, prompt: str, sampling: Sampling | None = None, **settings: Any) -> Iterator[str]:
        """As `generate` for one prompt, in pieces that never cut a grapheme cluster."""
        return self._stream(self.encode_prompt(prompt), sampling or _sampling(settings))

    def stream_chat(
        self, messages: Sequence[Message], sampling: Sampling | None = None, **settings: Any
    ) -> Iterator[str]:
        """As `chat`, in pieces that never cut a grapheme cluster."""
        return self._stream(self.encode_chat(messages), sampling or _sampling(settings))

    @torch.inference_mode()
    def logits(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Scores of the token after each of `ids`: float32 [tokens, vocabulary], on the CPU."""
        ids_1T = torch.as_tensor(ids, dtype=torch.int64, device=self.decoder.embedding.weight.device)[None]
        vocabulary = self.decoder.configuration.vocab_size
        if not 0 < ids_1T.numel() <= self.max_positions or ids_1T.dim() != 2:
            raise UserError(f"logits take 1 to {self.max_positions} token ids, not {list(ids_1T.shape[1:])}")
        if ids_1T.min() < 0 or ids_1T.max() >= vocabulary:
            raise UserError(f"a token id is outside the vocabulary of {vocabulary}", where="ids")
        return self.decoder.logits(self.decoder(ids_1T)[0]).cpu()

    # ------------------------------------------------------------------------------------------ LanguageModel

    def complete(
        self, prompts: Sequence[str], samplings: Sequence[Sampling], *, report: Report | None = None
    ) -> list[Generation]:
        """Continue each prompt; the begin token is put first unless the prompt starts with it."""
        encoded = self.reader.encode_prompts(prompts)
        answers = [self.answer(ids, sampling) for ids, sampling in zip(encoded, samplings, strict=True)]
        for answer in self.engine.run(answers):
            _checked(answer)
            if report is not None:
                report(1)
        return [answer.generation() for answer in answers]

    def loglikelihood(self, pairs: Sequence[tuple[str, str]], *, report: Report | None = None) -> list[Likelihood]:
        """Log-probability of each continuation given its context; `report(n)` is told of n more pairs done.

        A context that is too long loses tokens at its left. A continuation that is too long by itself is refused.
        """
        encoded = self.reader.encode_pairs(pairs)
        for number, (_, continuation) in enumerate(encoded, start=1):
            if len(continuation) > self.max_positions:
                raise UserError(
                    f"the continuation has {len(continuation)} tokens, {len(continuation) - self.max_positions} more "
                    f"than the model has positions",
                    where=f"pair {number} of {len(pairs)}",
                    fix="score long texts with text_loglikelihood, which reads them in windows",
                )
        return likelihoods(self.decoder, encoded, kernels=self.engine.kernels, report=report)

    def text_loglikelihood(self, texts: Sequence[str], *, report: Report | None = None) -> list[TextLikelihood]:
        """Log-probability of each whole text after the begin token, and its number of tokens.

        A text longer than the model's positions is read in windows; each token is predicted exactly once. A window
        starts with the last token of the one before; the last window reaches back as far as there is room. These are
        the windows of lm-evaluation-harness (`loglikelihood_rolling`). Control tokens in a text are letters.
        """
        encoded = self.tokenizer.encode_batch(list(texts))
        windows: list[TokenPair] = []
        owners: list[int] = []
        for number, ids in enumerate(encoded):
            for window in _windows(ids, self.tokenizer.begin_id, self.max_positions):
                windows.append(window)
                owners.append(number)
        totals = [0.0] * len(texts)
        shares = report and _by_share(report, len(windows), len(texts))
        scored = likelihoods(self.decoder, windows, kernels=self.engine.kernels, report=shares)
        for owner, likelihood in zip(owners, scored, strict=True):
            totals[owner] += likelihood.log_probability
        if report is not None and not windows:
            report(len(texts))
        return [TextLikelihood(total, len(ids)) for total, ids in zip(totals, encoded, strict=True)]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The conversation as the chat template writes it; refused where the weights have no template."""
        return self.reader.need_template().render(messages, add_generation_prompt=add_generation_prompt)

    # ------------------------------------------------------------------------------------------ for a server

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of a prompt; the begin token is put first unless the prompt starts with it."""
        (ids,) = self.reader.encode_prompts([text])
        return ids

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Tokens of a conversation, up to where the assistant answers; what it says is never a control token."""
        return self.reader.encode_chat(messages, tools=tools, documents=documents)

    def answer(self, ids: Sequence[int], sampling: Sampling, *, follow: bool = False) -> Answer:
        """A request for `engine.submit`: how to go on after the tokens; `follow` where its text is read on the way.

        Raises:
            UserError: the prompt is too long, or the schema or the grammar cannot be followed.
        """
        constraint = None
        if sampling.json_schema is not None or sampling.grammar is not None:
            constraint = make_constraint(
                self.tokenizer,
                sampling,
                vocab_size=self.decoder.configuration.vocab_size,
                end_ids=self.reader.end_ids,
            )
        return Answer(
            ids,
            sampling,
            max_positions=self.max_positions,
            end_ids=self.reader.end_ids,
            tokenizer=self.tokenizer,
            follow=follow,
            constraint=constraint,
        )

    # ------------------------------------------------------------------------------------------ within

    def _stream(self, ids: Sequence[int], sampling: Sampling) -> Iterator[str]:
        answer = self.answer(ids, sampling, follow=True)
        pieces = Pieces(answer)
        self.engine.submit(answer)
        try:
            while answer.stopped_by is None:
                self.engine.step()
                yield from pieces.take()
            yield from pieces.take()
        finally:
            self.engine.cancel(answer)
        _checked(answer)


def _checked(answer: Answer) -> Answer:
    """The answer; refused where it could not follow its form to the end."""
    if answer.constraint is not None and answer.constraint.problem is not None:
        raise UserError(
            f"the answer could not follow its schema or grammar to the end: {answer.constraint.problem}",
            where="json_schema" if answer.sampling.json_schema is not None else "grammar",
            fix="simplify it",
        )
    return answer


def _by_share(report: Report, num_windows: int, num_texts: int) -> Report:
    """Reports texts in proportion to the windows done: a text's windows are not read one after another."""
    windows_done = texts_done = 0

    def windows_are_done(number: int) -> None:
        nonlocal windows_done, texts_done
        windows_done += number
        share = windows_done * num_texts // num_windows
        if share > texts_done:
            report(share - texts_done)
            texts_done = share

    return windows_are_done


def _windows(ids: Sequence[int], begin_id: int, max_positions: int) -> Iterator[TokenPair]:
    """Windows of at most `max_positions` tokens read, that predict each of `ids` once."""
    whole = (begin_id, *ids)
    for start in range(0, len(ids), max_positions):
        end = min(start + max_positions, len(ids))
        first = 0 if start == 0 else end - max_positions
        yield TokenPair(whole[first : start + 1], whole[start + 1 : end + 1])


def _sampling(settings: Mapping[str, Any]) -> Sampling:
    stop = settings.get("stop")
    return validate(Sampling, {**settings, "stop": (stop,)} if isinstance(stop, str) else dict(settings))
