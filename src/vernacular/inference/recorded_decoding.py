"""Decoding on a GPU: the step of one token for each row, recorded once for each size and then replayed.

Such a step is some hundred short kernels, and a GPU that is told of each by Python waits most of the time. A recorded
step (a CUDA graph) starts all of them by one call, but always works on the same memory in the same shapes. So inputs
are copied into buffers of fixed sizes: rows and pages are filled up to the next power of two. A row of padding holds
the page after all others, which nobody reads.

PyTorch's compiler is given the step in three pieces: what comes before the blocks, a block, and what comes after. To it
all blocks are one program, since nothing but tensors tells them apart: a block's weights and its layer's pages are
arguments. A step compiled as a whole took minutes for 24 layers.

Shapes: B rows, W pages of each, L = W · PAGE_TOKENS keys, D hidden, K key/value heads, C head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental import _config as symbols

from vernacular.foundation.errors import UserError
from vernacular.inference.gathered_attention import attend_pages, first_page, mask_of
from vernacular.inference.paged_memory import PagedMemory
from vernacular.inference.pages import PAGE_TOKENS
from vernacular.inference.scheduler import Chunk
from vernacular.models.attention import Heads
from vernacular.models.decoder import Block, Decoder

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


Piece = Callable[..., Any]
"""A function of a module and tensors."""


class Recorder(Protocol):
    """How steps are recorded."""

    def compile(self, piece: Piece) -> Piece:
        """What computes a piece of the step from now on; asked once for each."""
        ...

    def record(self, step: Callable[[Buffers], Tensor], buffers: Buffers) -> Callable[[], Tensor]:
        """Make of a step and its buffers a call that computes it on what the buffers then hold."""
        ...


class PlainCalls:
    """No recording: the step itself, for a device that has none."""

    def compile(self, piece: Piece) -> Piece:
        """As `Recorder`."""
        return piece

    def record(self, step: Callable[[Buffers], Tensor], buffers: Buffers) -> Callable[[], Tensor]:
        """As `Recorder`."""
        return lambda: step(buffers)


class CudaGraphs:
    """Records steps as CUDA graphs of compiled pieces.

    PyTorch's compiler makes one program of a piece for one row and one for all other sizes; a graph for each size then
    shares its memory with the others. https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    Args:
        backend: what compiles, as `torch.compile` names it.
    """

    WARM_UPS = 3

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        self._backend = backend
        self._pool: Any = None

    def compile(self, piece: Piece) -> Piece:
        """As `Recorder`. A piece that would need more programs than the compiler keeps is an error of its."""
        # Programs are counted by code object, and each decoder's are to be counted for themselves.
        assert isinstance(piece, FunctionType)
        own = FunctionType(piece.__code__.replace(), piece.__globals__, piece.__name__)
        compiled = torch.compile(own, fullgraph=True, dynamic=True, backend=self._backend)

        def call(*given: Any) -> Any:
            # Sizes that happen to be equal the first time, such as 8 rows of 8 pages, are not taken to be one size; and
            # only sizes may change, not the modules' numbers.
            with symbols.patch(use_duck_shape=False), torch._dynamo.config.patch(specialize_float=True):  # type: ignore[attr-defined]
                return compiled(*given)

        return call

    def record(self, step: Callable[[Buffers], Tensor], buffers: Buffers) -> Callable[[], Tensor]:
        """As `Recorder`. What the buffers hold is computed some times over, each time into the same places."""
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UPS):
                step(buffers)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            scores_BV = step(buffers)

        def replay() -> Tensor:
            graph.replay()
            return scores_BV

        return replay


class RecordedDecoding:
    """Steps of one token for each row, by recordings.

    Args:
        decoder: in evaluation mode, on its device.
        memory: where keys and values are; by PyTorch's kernels.
        recorder: how a step is recorded.

    Raises:
        UserError: the decoder's step cannot be recorded.
    """

    def __init__(self, decoder: Decoder, memory: PagedMemory, recorder: Recorder) -> None:
        check_can_be_recorded(decoder)
        self._decoder, self._recorder = decoder, recorder
        self._padding_page = memory.padding_page
        self._device = decoder.embedding.weight.device
        # What a recorded step reads must lie on its device before.
        if decoder.rotary is not None:
            decoder.rotary.frequencies = decoder.rotary.frequencies.to(self._device)
        if decoder.heads.slopes_H is not None:
            decoder.heads = decoder.heads._replace(slopes_H=decoder.heads.slopes_H.to(self._device))
        # [slots, K, C] for each layer.
        self._slots = [(keys.flatten(0, 1), values.flatten(0, 1)) for keys, values in memory.layers]
        for pool in chain.from_iterable(self._slots):
            torch._dynamo.mark_static(pool)
        self._begin, self._through, self._end = (recorder.compile(piece) for piece in (begin, through, end))
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
            self._recorded[size] = buffers, self._recorder.record(self._step, buffers)
        buffers, replay = self._recorded[size]
        for buffer, values in zip(buffers, given, strict=True):
            buffer.copy_(torch.from_numpy(values), non_blocking=True)
        return replay()[: len(step)]

    def _given(
        self, step: Sequence[Chunk], firsts: Sequence[int], ends: Sequence[int], num_rows: int, num_pages: int
    ) -> tuple[np.ndarray, ...]:
        """The values of `Buffers`; where there is no row, that of padding."""
        padding = self._padding_page
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

    def _step(self, buffers: Buffers) -> Tensor:
        """What is recorded: tensors only, nothing that asks the device. Scores, float32 [B, V]."""
        x_B1D, angles, mask = self._begin(self._decoder, buffers)
        for block, (k_slots, v_slots) in zip(self._decoder.blocks, self._slots, strict=True):
            x_B1D = self._through(self._decoder, block, x_B1D, angles, mask, buffers, k_slots, v_slots)
        return self._end(self._decoder, x_B1D)


def begin(decoder: Decoder, buffers: Buffers) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor]:
    """What the blocks read: the rows' vectors [B, 1, D], the angles of their positions, a bias for what they see."""
    x_B1D = decoder.embed(buffers.ids_B[:, None])
    positions_B1 = buffers.positions_B[:, None]
    mask = mask_of(positions_B1, buffers.oldest_B[:, None], buffers.table_BW.shape[1], decoder.heads, x_B1D.dtype)
    if mask.dtype == torch.bool:  # which attention would make a bias of in each layer
        mask = torch.zeros_like(mask, dtype=x_B1D.dtype).masked_fill(~mask, -torch.inf)
    return x_B1D, decoder.angles(positions_B1, x_B1D.dtype), mask


def through(
    decoder: Decoder,
    block: Block,
    x_B1D: Tensor,
    angles: tuple[Tensor, Tensor] | None,
    mask: Tensor,
    buffers: Buffers,
    k_slots: Tensor,
    v_slots: Tensor,
) -> Tensor:
    """The rows' vectors after a block; its keys and values of these rows are in the pool then, [slots, K, C] each."""
    return block(x_B1D, angles, RowAttend(buffers.slots_B, buffers.table_BW, mask, k_slots, v_slots), decoder.heads)


def end(decoder: Decoder, x_B1D: Tensor) -> Tensor:
    """Scores of the next token, float32 [B, V]."""
    return decoder.logits(decoder.final_norm(x_B1D[:, 0]))


class RowAttend(NamedTuple):
    """`Attend` of one token for each row, in one layer: whichever layer it is, the pools are that layer's."""

    slots_B: Tensor
    table_BW: Tensor
    mask: Tensor
    k_slots: Tensor
    v_slots: Tensor

    def __call__(self, layer: int, q_BH1C: Tensor, k_BK1C: Tensor, v_BK1C: Tensor, heads: Heads) -> Tensor:
        """As `Attend`."""
        # Into the argument itself: for writes into a view of it PyTorch's compiler copies the whole pool, twice.
        self.k_slots.index_copy_(0, self.slots_B, k_BK1C[:, :, 0])
        self.v_slots.index_copy_(0, self.slots_B, v_BK1C[:, :, 0])
        k_pool, v_pool = (slots.unflatten(0, (-1, PAGE_TOKENS)) for slots in (self.k_slots, self.v_slots))
        return attend_pages(q_BH1C, k_pool, v_pool, self.table_BW, self.mask, heads)


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
