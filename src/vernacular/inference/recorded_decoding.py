"""Decoding on a GPU: the step of one token for each row, recorded once for each size and then replayed.

Such a step is some hundred short kernels, and a GPU that is told of each by Python waits most of the time. A recorded
step (a CUDA graph) starts all of them by one call, but always works on the same memory in the same shapes. So inputs
are copied into buffers of fixed sizes: rows and pages are filled up to the next power of two. A row of padding holds
the page after all others, which nobody reads.

Shapes: B rows, W pages of each, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vernacular.foundation.errors import UserError
from vernacular.inference.gathered_attention import GatheredAttention, first_page
from vernacular.inference.paged_memory import PagedAttend, PagedMemory, Placement
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.inference.scheduler import Chunk
from vernacular.models.decoder import Decoder

FEWEST_PAGES = 8
"""Pages of the shortest recorded step: below it another recording costs more than it saves."""


class Buffers(NamedTuple):
    """What a recorded step reads, on the device.

    Attributes:
        ids_B: int64, the token of each row.
        positions_B: int64, its position.
        slots_B: int64, where its key and value go.
        oldest_B: int64, the position of the first key in the row's pages.
        table_BW: int64, the pages that the row looks at, the oldest first.
    """

    ids_B: Tensor
    positions_B: Tensor
    slots_B: Tensor
    oldest_B: Tensor
    table_BW: Tensor


Step = Callable[..., Tensor]
"""Of the five tensors of `Buffers`: scores, float32 [B, V]."""
Record = Callable[[Step, Buffers], Callable[[], Tensor]]
"""Makes of a step and its buffers a call that computes it on what the buffers then hold."""


def call_plainly(step: Step, buffers: Buffers) -> Callable[[], Tensor]:
    """No recording: the step itself, for a device that has none."""
    return lambda: step(*buffers)


class CudaGraphs:
    """Records steps as CUDA graphs of a compiled step.

    PyTorch's compiler makes one program of the step, whatever its sizes; a graph for each size then shares its memory
    with the others. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    """

    WARM_UPS = 3

    def __init__(self) -> None:
        self._compiled: dict[Step, Step] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step, buffers: Buffers) -> Callable[[], Tensor]:
        """As `Record`. What the buffers hold is computed some times over, each time into the same places."""
        if step not in self._compiled:
            self._compiled[step] = torch.compile(step, fullgraph=True, dynamic=True)
        compiled = self._compiled[step]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UPS):
                compiled(*buffers)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            scores_BV = compiled(*buffers)

        def replay() -> Tensor:
            graph.replay()
            return scores_BV

        return replay


class RecordedDecoding:
    """Steps of one token for each row, by recordings.

    Args:
        decoder: in evaluation mode, on its device.
        memory: where keys and values are; by PyTorch's kernels.
        record: how a step is recorded.

    Raises:
        UserError: the decoder's step cannot be recorded.
    """

    def __init__(self, decoder: Decoder, memory: PagedMemory, record: Record) -> None:
        check_can_be_recorded(decoder)
        self._decoder, self._memory, self._record = decoder, memory, record
        self._device = decoder.embedding.weight.device
        # What a recorded step reads must lie on its device before.
        if decoder.rotary is not None:
            decoder.rotary.frequencies = decoder.rotary.frequencies.to(self._device)
        if decoder.heads.slopes_H is not None:
            decoder.heads = decoder.heads._replace(slopes_H=decoder.heads.slopes_H.to(self._device))
        self._recorded: dict[tuple[int, int], tuple[Buffers, Callable[[], Tensor]]] = {}

    def scores(self, step: Sequence[Chunk]) -> Tensor:
        """Scores of the token after each chunk, float32 [B, V], valid until the next call; chunks of one token."""
        window = self._decoder.configuration.window
        firsts = [first_page(chunk.start, window) for chunk in step]
        ends = [chunk.start // PAGE_TOKENS + 1 for chunk in step]
        num_rows = _power_of_two(len(step))
        num_pages = max(FEWEST_PAGES, _power_of_two(max(np.subtract(ends, firsts))))
        given = self._given(step, firsts, ends, num_rows, num_pages)
        size = num_rows, num_pages
        if size not in self._recorded:
            buffers = Buffers(*(torch.from_numpy(values).to(self._device) for values in given))
            self._recorded[size] = buffers, self._record(self._step, buffers)
        buffers, replay = self._recorded[size]
        for buffer, values in zip(buffers, given, strict=True):
            buffer.copy_(torch.from_numpy(values))
        return replay()[: len(step)]

    def _given(
        self, step: Sequence[Chunk], firsts: Sequence[int], ends: Sequence[int], num_rows: int, num_pages: int
    ) -> tuple[np.ndarray, ...]:
        """The values of `Buffers`; where there is no row, that of padding."""
        padding = self._memory.padding_page
        ids_B, positions_B, oldest_B = (np.zeros(num_rows, dtype=np.int64) for _ in range(3))
        slots_B = np.full(num_rows, padding * PAGE_TOKENS, dtype=np.int64)
        table_BW = np.full((num_rows, num_pages), padding, dtype=np.int64)
        for row, (chunk, first, end) in enumerate(zip(step, firsts, ends, strict=True)):
            pages = np.frombuffer(chunk.request.pages, dtype=np.int32)[first:end]
            ids_B[row], positions_B[row] = chunk.request.tokens[chunk.start], chunk.start
            slots_B[row] = int(pages[-1]) * PAGE_TOKENS + chunk.start % PAGE_TOKENS
            oldest_B[row] = first * PAGE_TOKENS
            table_BW[row, : len(pages)] = pages
        return ids_B, positions_B, slots_B, oldest_B, table_BW

    def _step(self, ids_B: Tensor, positions_B: Tensor, slots_B: Tensor, oldest_B: Tensor, table_BW: Tensor) -> Tensor:
        """What is recorded: tensors only, nothing that asks the device."""
        attention = GatheredAttention.of_rows(
            positions_B, oldest_B, table_BW, self._decoder.heads, self._decoder.embedding.weight.dtype
        )
        placement = Placement(positions_B, positions_B, table_BW, slots_B, None, ())
        hidden_1BD = self._decoder(
            ids_B[None],
            positions_BT=positions_B[None],
            attend=PagedAttend(self._memory, placement, attention),
        )
        return self._decoder.logits(hidden_1BD[0])


def check_can_be_recorded(decoder: Decoder) -> None:
    """Refuse a decoder whose step asks the device on its way, which no recording can hold."""
    weight = decoder.embedding.weight
    if decoder.configuration.num_experts and weight.is_cuda and weight.dtype != torch.bfloat16:
        raise UserError(
            "the decoding of a mixture of experts is recorded in bfloat16 only",
            where="recorded",
            fix="choose dtype bfloat16, or engine settings with recorded false",
        )


def _power_of_two(number: int) -> int:
    """The least power of two that is not below the number."""
    return 1 << (int(number) - 1).bit_length()
