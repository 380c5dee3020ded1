"""A GGUF file in llama.cpp: token ids in, scores of the next token out."""

from __future__ import annotations

import ctypes
import importlib.util
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from vernacular.foundation.errors import InternalError, MachineError, UserError, missing_extra

_TOKENS_PER_BATCH = 256
_MAGIC = b"GGUF"
# The file's type, as its `general.file_type` numbers it, by our name.
_FILE_TYPES = {"0": "float32", "1": "float16", "7": "q8_0", "32": "bfloat16"}
_MOST_TEXT = 256
_ERROR = 4
_complaints: deque[str] = deque(maxlen=2)
"""What llama.cpp said last about errors."""
_listeners: list[object] = []
"""Kept alive: llama.cpp calls it for as long as the process lives."""


class LlamaContext:
    """A model of llama.cpp and its cache of one sequence. What two calls have in common at their start is read once.

    Args:
        file: the GGUF file.
        context: longest sequence in tokens; None: as long as the file says.
        threads: of a forward pass; None: llama.cpp's choice.

    Attributes:
        num_positions: longest sequence in tokens.
        file_type: precision of most tensors.
        vocab_size: V, rows of the file's head.
    """

    def __init__(self, file: Path, *, context: int | None = None, threads: int | None = None) -> None:
        self._library = library = _library()
        _check_is_gguf(file)
        settings = library.llama_model_default_params()
        self._model = library.llama_model_load_from_file(str(file).encode(), settings)
        if not self._model:
            raise UserError(
                f"llama.cpp cannot load the file: {'; '.join(_complaints)}",
                where=file,
                fix="export it again, or update the package",
            )
        weakref.finalize(self, library.llama_model_free, self._model)
        self._vocabulary = library.llama_model_get_vocab(self._model)
        self.vocab_size = int(library.llama_vocab_n_tokens(self._vocabulary))
        number = self._said("general.file_type")
        self.file_type = _FILE_TYPES.get(number, f"GGUF file type {number}")
        trained = int(library.llama_model_n_ctx_train(self._model))
        if context is not None and not 0 < context <= trained:
            raise UserError(f"the file's context is {trained} tokens, not {context}", where="context")
        self.num_positions = context or trained
        self._context = library.llama_init_from_model(self._model, self._context_settings(threads))
        if not self._context:
            raise MachineError(
                f"llama.cpp cannot make a context of {self.num_positions} tokens",
                where=file,
                fix="give it less with context=NUMBER",
            )
        weakref.finalize(self, library.llama_free, self._context)
        self._memory = library.llama_get_memory(self._context)
        self._batch = library.llama_batch_init(_TOKENS_PER_BATCH, 0, 1)
        weakref.finalize(self, library.llama_batch_free, self._batch)
        self._read: list[int] = []

    def token_text(self, token_id: int) -> str | None:
        """The token as the file's vocabulary writes it."""
        text = self._library.llama_vocab_get_text(self._vocabulary, token_id)
        return None if text is None else text.decode("utf-8", errors="replace")

    def is_used(self, token_id: int) -> bool:
        """Whether the id stands for a token, and does not only fill the vocabulary up."""
        attributes: int = self._library.llama_vocab_get_attr(self._vocabulary, token_id)
        return not attributes & self._library.LLAMA_TOKEN_ATTR_UNUSED

    def scores(self, ids: Sequence[int], first: int) -> Iterator[Tensor]:
        """Scores of the token after each place of `ids` from `first` on: float32 [K, V], batch by batch."""
        start = 0
        most = min(first, len(self._read))
        while start < most and self._read[start] == ids[start]:
            start += 1
        if not self._library.llama_memory_seq_rm(self._memory, 0, start, -1):
            self._library.llama_memory_clear(self._memory, True)
            start = 0
        del self._read[start:]
        for begin in range(start, len(ids), _TOKENS_PER_BATCH):
            end = min(begin + _TOKENS_PER_BATCH, len(ids))
            self._decode(ids, begin, end, first)
            wanted = range(max(begin, first), end)
            if wanted:
                rows = [self._row(place - begin) for place in wanted]
                yield torch.from_numpy(np.stack(rows))

    def last_scores(self, ids: Sequence[int]) -> Tensor:
        """Scores of the token after `ids`: float32 [1, V]."""
        (scores_1V,) = self.scores(ids, len(ids) - 1)
        return scores_1V

    # ------------------------------------------------------------------------------------------ within

    def _context_settings(self, threads: int | None) -> ctypes.Structure:
        settings = self._library.llama_context_default_params()
        settings.n_ctx = self.num_positions
        settings.n_batch = settings.n_ubatch = _TOKENS_PER_BATCH
        settings.flash_attn_type = self._library.LLAMA_FLASH_ATTN_TYPE_DISABLED
        # llama.cpp's own choice is half precision, which would blur what a file of whole numbers keeps.
        kind = "GGML_TYPE_F32" if self.file_type == "float32" else "GGML_TYPE_F16"
        settings.type_k = settings.type_v = getattr(self._library, kind)
        if threads is not None:
            settings.n_threads = settings.n_threads_batch = threads
        return settings

    def _decode(self, ids: Sequence[int], begin: int, end: int, first: int) -> None:
        batch = self._batch
        batch.n_tokens = end - begin
        for slot, place in enumerate(range(begin, end)):
            batch.token[slot] = ids[place]
            batch.pos[slot] = place
            batch.n_seq_id[slot] = 1
            batch.seq_id[slot][0] = 0
            batch.logits[slot] = place >= first
        code = self._library.llama_decode(self._context, batch)
        if code:
            self._library.llama_memory_clear(self._memory, True)
            self._read.clear()
            raise InternalError(f"llama.cpp could not read the tokens: llama_decode gave {code}")
        self._read += ids[begin:end]

    def _row(self, slot: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        pointer = self._library.llama_get_logits_ith(self._context, slot)
        return np.ctypeslib.as_array(pointer, shape=(self.vocab_size,))

    def _said(self, key: str) -> str:
        text = ctypes.create_string_buffer(_MOST_TEXT)
        length = self._library.llama_model_meta_val_str(self._model, key.encode(), text, _MOST_TEXT)
        return text.value.decode("utf-8", errors="replace") if length >= 0 else "unknown"


@cache
def _library() -> ModuleType:
    """llama.cpp's functions. What it would print is left out, but for its last errors, which ours repeat."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise missing_extra("llama-cpp-python", "llama-cpp", "the back-end llama.cpp")
    import llama_cpp

    library = llama_cpp.llama_cpp
    listener = library.llama_log_callback(_listen)
    _listeners.append(listener)
    library.llama_log_set(listener, None)
    library.llama_backend_init()
    return library


def _listen(level: int, text: bytes, _: object) -> None:
    if level == _ERROR:
        _complaints.append(text.decode("utf-8", errors="replace").strip())


def llama_cpp_version() -> str:
    """Version of the package."""
    from importlib.metadata import version

    return version("llama-cpp-python")


def _check_is_gguf(file: Path) -> None:
    """llama.cpp prints its reasons to the terminal, so the plain ones are found first."""
    try:
        with file.open("rb") as stream:
            begins_well = stream.read(len(_MAGIC)) == _MAGIC
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError("there is no such GGUF file", where=file, fix="vernacular export WEIGHTS FILE.gguf") from error
    if not begins_well:
        raise UserError("this is not a GGUF file", where=file, fix="vernacular export WEIGHTS FILE.gguf")
