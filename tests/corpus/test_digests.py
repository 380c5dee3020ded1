"""Digests of many texts at once are those of each alone."""

from __future__ import annotations

import hashlib

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.corpus.digests import text_digests
from vernacular.corpus.document import document_id, document_ids

# A block is 64 bytes, and 9 more stand behind a text: both sides of every edge, more of them than a vector has lanes.
EDGES = ["ą" * (size // 2) + "x" * (size % 2) for size in [*range(200), 1023, 1024, 1025, 100_000]]


def _expected(texts: list[str]) -> list[bytes]:
    return [hashlib.sha256(text.encode()).digest() for text in texts]


def test_every_length_around_the_edges_of_blocks() -> None:
    assert [*map(bytes, text_digests(pa.array(EDGES, pa.large_string())))] == _expected(EDGES)


def test_part_of_an_array() -> None:
    texts = pa.array(EDGES, pa.large_string()).slice(70, 40)
    assert [*map(bytes, text_digests(texts))] == _expected(EDGES[70:110])


def test_no_texts_and_empty_ones() -> None:
    assert text_digests(pa.array([], pa.large_string())).shape == (0, 32)
    assert [*map(bytes, text_digests(pa.array(["", ""], pa.large_string())))] == _expected(["", ""])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), max_size=40))
def test_ids_are_those_of_the_texts_one_by_one(texts: list[str]) -> None:
    assert document_ids(pa.array(texts, pa.large_string())).to_pylist() == [document_id(text) for text in texts]
