"""Has the shards of a run fetched before they are asked for, where they lie elsewhere; and asks first if they fit."""

from __future__ import annotations

from collections.abc import Sequence

from vernacular.tokens.mixed_rows import MixedRows
from vernacular.tokens.order import RowOrder
from vernacular.tokens.packing import PackedRows
from vernacular.tokens.shard import Shard
from vernacular.tokens.shard_cache import RemoteShard, ShardCache


class LookAhead:
    """Tells a cache what comes next, step by step.

    Args:
        cache: of the shards.
        rows: what the run reads.
        order: when it reads it.
        heldout: shards that are read again and again, and stay.

    Raises:
        UserError: the cache may not hold what is read at a time.
    """

    def __init__(
        self, cache: ShardCache, rows: PackedRows | MixedRows, order: RowOrder, heldout: Sequence[Shard]
    ) -> None:
        self._cache, self._order = cache, order
        self._shards = list(rows.shards)
        self._is_remote = any(isinstance(shard, RemoteShard) for shard in self._shards)
        staying = [shard for shard in heldout if isinstance(shard, RemoteShard)]
        cache.keep(staying)
        needed = order.bytes_needed([_bytes_to_fetch(shard) for shard in self._shards])
        cache.require(
            needed + sum(map(_bytes_to_fetch, staying)),
            "the shards that are read at a time, those that come next and the held-out text take",
            fix="raise it, set shuffle_shards or lower it, or tokenize with a lower tokens_per_shard",
        )

    def begin(self, step: int) -> None:
        """A step begins: what it reads, and what comes after that, is to be here soon."""
        if self._is_remote:
            upcoming = (self._shards[number] for number in self._order.upcoming(step))
            self._cache.expect([shard for shard in upcoming if isinstance(shard, RemoteShard)])


def _bytes_to_fetch(shard: Shard) -> int:
    return shard.total_bytes if isinstance(shard, RemoteShard) else 0
