"""Decoding by llama.cpp, one `llama_decode` a token: `llama_cpp_worker.py FILE.gguf DTYPE THREADS`.

Prompts of one length; each is a sequence of its own in the same batch.
"""

from __future__ import annotations

import ctypes
import sys

import llama_cpp
import numpy
from protocol import serve

CONTEXT = 512


def main(file: str, _dtype: str, threads: str) -> None:
    llama_cpp.llama_log_set(_quiet, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(file.encode(), llama_cpp.llama_model_default_params())
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    contexts: dict[int, object] = {}

    def context_of(sequences: int) -> object:
        if sequences not in contexts:
            parameters = llama_cpp.llama_context_default_params()
            parameters.n_ctx = CONTEXT * sequences
            parameters.n_batch = parameters.n_ubatch = 512
            parameters.n_seq_max = sequences
            parameters.n_threads = parameters.n_threads_batch = int(threads)
            contexts[sequences] = llama_cpp.llama_init_from_model(model, parameters)
        return contexts[sequences]

    def run(prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
        context = context_of(len(prompts))
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch = llama_cpp.llama_batch_init(512, 0, 1)

        def decode(tokens: list[tuple[int, int, int, bool]]) -> None:
            batch.n_tokens = len(tokens)
            for place, (token, position, sequence, asked) in enumerate(tokens):
                batch.token[place], batch.pos[place], batch.logits[place] = token, position, asked
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
            if llama_cpp.llama_decode(context, batch):
                raise RuntimeError("llama_decode failed")

        def best(place: int) -> int:
            logits = llama_cpp.llama_get_logits_ith(context, place)
            return int(numpy.ctypeslib.as_array(logits, (vocabulary,)).argmax())

        length, newest = len(prompts[0]), []
        for sequence, prompt in enumerate(prompts):
            decode([(token, place, sequence, place == length - 1) for place, token in enumerate(prompt)])
            newest.append(best(length - 1))
        answers = [[token] for token in newest]
        for step in range(1, new_tokens):
            decode([(token, length + step - 1, sequence, True) for sequence, token in enumerate(newest)])
            newest = [best(place) for place in range(len(prompts))]
            for answer, token in zip(answers, newest, strict=True):
                answer.append(token)
        llama_cpp.llama_batch_free(batch)
        return answers

    serve(run)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _quiet(_level: int, _text: bytes, _data: object) -> None:
    pass


if __name__ == "__main__":
    main(*sys.argv[1:])
