"""Packed rows are the documents, nothing lost, no loss across documents, names right."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vernacular.foundation.errors import UserError
from vernacular.tokens.measures import count_texts
from vernacular.tokens.packing import PackedRows, pack_best_fit
from vernacular.tokens.shard_writer import ShardWriter, write_index
from vernacular.tokens.shards import ShardReader


class Numbers:
    """Stands in for a tokenizer where only its ids matter."""

    vocab_size, hash, begin_id, end_id, pad_id = 50_000, "0" * 64, 1, 2, 0


def name_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def document(number: int, length: int) -> list[int]:
    """Ids that tell document and place: begin, then numbers found nowhere else, then end."""
    return [1, *(10 + number * 100 + place for place in range(length - 2)), 2][:length]


def shards(folder: Path, lengths: list[int], *, weighted: bool = False, tokens_per_shard: int = 120) -> ShardReader:
    with ShardWriter(
        folder, "train", vocab_size=50_000, tokens_per_shard=tokens_per_shard, weighted=weighted
    ) as writer:
        for number, length in enumerate(lengths):
            weights = [float(place > length // 2) * (1 + number) for place in range(length)] if weighted else None
            ids = document(number, length)
            (count,) = count_texts(["क"], [len(ids)])
            writer.add(ids, name=name_of(number), language="und", source="test", count=count, weights=weights)
    write_index(folder, Numbers(), {"train": writer.entry})  # type: ignore[arg-type]
    return ShardReader.open(folder, "train", verify=True)


lengths_of_documents = st.lists(st.integers(2, 30), min_size=1, max_size=20)
property_settings = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@property_settings
@given(lengths=lengths_of_documents, seq_length=st.integers(1, 40))
def test_a_stream_predicts_each_token_once_and_only_within_its_document(
    tmp_path: Path, lengths: list[int], seq_length: int
) -> None:
    rows = PackedRows(shards(tmp_path, lengths), seq_length)
    batch = rows.batch(range(len(rows)))
    assert batch.ids_BT.shape == (len(rows), seq_length)
    stream = [token for number, length in enumerate(lengths) for token in document(number, length)]
    real = batch.documents_BT >= 0
    assert batch.ids_BT[real].tolist() in (stream, stream[:-1])
    inside = [token for number, length in enumerate(lengths) for token in document(number, length)[1:]]
    assert batch.targets_BT[batch.weights_BT > 0].tolist() == inside
    assert set(batch.weights_BT.flatten().tolist()) <= {0.0, 1.0}
    assert batch.document_names() == [name_of(number) for number in range(len(lengths))]


@property_settings
@given(lengths=lengths_of_documents, seq_length=st.integers(29, 60))
def test_conversations_are_packed_whole_each_once(tmp_path: Path, lengths: list[int], seq_length: int) -> None:
    reader = shards(tmp_path, lengths, weighted=True)
    rows = PackedRows(reader, seq_length, "conversations")
    batch = rows.batch(range(len(rows)))
    seen = []
    for row in range(len(rows)):
        for place, name in enumerate(batch.names[row]):
            chosen = batch.documents_BT[row] == place
            number = [name_of(n) for n in range(len(lengths))].index(name)
            seen.append(number)
            ids = document(number, lengths[number])
            end = int(np.flatnonzero(chosen)[-1])
            # A conversation that ends exactly with the row has its last token as a target only.
            whole = [*batch.ids_BT[row][chosen].tolist(), *([ids[-1]] if end == seq_length - 1 else [])][: len(ids)]
            assert whole == ids
            assert batch.positions_BT[row][chosen].tolist() == list(range(chosen.sum()))
            weights = reader.weights(*reader.document_range(number))[1:]
            assert batch.weights_BT[row][chosen].tolist()[: len(weights)] == weights.tolist()
            assert sum(batch.weights_BT[row][chosen].tolist()) == sum(weights.tolist())
    assert sorted(seen) == list(range(len(lengths)))
    assert not batch.weights_BT[batch.documents_BT < 0].any()
    assert not batch.ids_BT[batch.documents_BT < 0].any()


@property_settings
@given(lengths=lengths_of_documents, seq_length=st.integers(1, 40))
def test_positions_restart_and_documents_count_up_within_a_row(
    tmp_path: Path, lengths: list[int], seq_length: int
) -> None:
    rows = PackedRows(shards(tmp_path, lengths), seq_length)
    batch = rows.batch(range(len(rows)))
    for positions, documents in zip(batch.positions_BT, batch.documents_BT, strict=True):
        for place in range(1, seq_length):
            if documents[place] == documents[place - 1] >= 0:
                assert positions[place] == positions[place - 1] + 1
            elif documents[place] >= 0:
                assert (positions[place], documents[place]) == (0, documents[place - 1] + 1)
        assert (positions[0], documents[0]) == (0, 0)


def test_a_row_as_it_stands(tmp_path: Path) -> None:
    rows = PackedRows(shards(tmp_path, [3, 4, 2]), 5)
    batch = rows.batch([1, 0])
    assert batch.ids_BT.tolist() == [[111, 2, 1, 2, 0], [1, 10, 2, 1, 110]]
    assert batch.targets_BT.tolist() == [[2, 1, 2, 0, 0], [10, 2, 1, 110, 111]]
    assert batch.weights_BT.tolist() == [[1, 0, 1, 0, 0], [1, 1, 0, 1, 1]]
    assert batch.positions_BT.tolist() == [[0, 1, 0, 1, 0], [0, 1, 2, 0, 1]]
    assert batch.documents_BT.tolist() == [[0, 0, 1, 1, -1], [0, 0, 0, 1, 1]]
    assert batch.names == ((name_of(1), name_of(2)), (name_of(0), name_of(1)))
    assert [array.dtype.name for array in (batch.ids_BT, batch.targets_BT, batch.positions_BT, batch.documents_BT)] == (
        ["int64"] * 4
    )
    assert batch.weights_BT.dtype == np.float32


def test_an_overlong_conversation_is_refused_by_name_truncated_or_dropped(tmp_path: Path) -> None:
    reader = shards(tmp_path, [5, 20, 12], weighted=True)
    with pytest.raises(UserError, match=f"{name_of(1)} has 20 tokens; a row holds 11") as refused:
        PackedRows(reader, 10, "conversations")
    assert "at least 19" in str(refused.value.fix)
    truncated = PackedRows(reader, 10, "conversations", overlong="truncate")
    assert (truncated.truncated, truncated.dropped) == (1, 1)  # of the one of 20, nothing with a weight is left
    assert sorted(truncated.batch(range(len(truncated))).document_names()) == sorted([name_of(0), name_of(2)])
    dropped = PackedRows(reader, 10, "conversations", overlong="drop")
    assert dropped.batch([0]).document_names() == [name_of(0)]
    assert (dropped.truncated, dropped.dropped) == (0, 2)


def test_the_listing_names_an_overlong_conversation_by_its_own_id(tmp_path: Path) -> None:
    reader = shards(tmp_path, [5, 20], weighted=True)
    lines = [
        f'{{"name": "{name_of(1)}", "id": "बातचीत", "line": 4, "tokens": 20}}',
        f'{{"name": "{name_of(0)}", "id": "a", "line": 1, "tokens": 5}}',
    ]
    (tmp_path / "train" / "conversations.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match=r"'बातचीत' \(line 4 of its file\)"):
        PackedRows(reader, 10, "conversations")


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row to train on"):
        PackedRows(shards(tmp_path, []), 10)
    with pytest.raises(UserError, match="at least 1"):
        PackedRows(shards(tmp_path, [5]), 0)


@property_settings
@given(lengths=st.lists(st.integers(1, 50), max_size=200), capacity=st.integers(50, 120))
def test_bins_hold_each_item_once_and_are_few(lengths: list[int], capacity: int) -> None:
    items, starts = pack_best_fit(np.array(lengths, dtype=np.int64), capacity)
    assert sorted(items.tolist()) == list(range(len(lengths)))
    bins = [items[start:stop] for start, stop in pairwise(starts)]
    filled = [sum(lengths[item] for item in chosen) for chosen in bins]
    assert all(0 < total <= capacity for total in filled)
    assert len(bins) <= 11 / 9 * -(-sum(lengths) // capacity) + 4  # the bound of best-fit decreasing
