"""A mixture gives every cell its share at any moment, reads no row twice in an epoch, and holds to its caps."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.foundation.errors import UserError
from vernacular.tokens.apportionment import Apportionment
from vernacular.tokens.configuration import MixtureConfiguration, PhaseConfiguration
from vernacular.tokens.measures import TextCounts, count_texts
from vernacular.tokens.mixed_rows import open_cells
from vernacular.tokens.mixture import cell_shares, cells_given, describe_phases, plan_mixture
from vernacular.tokens.order import MixtureOrder
from vernacular.tokens.shard_writer import ShardWriter, write_index

property_settings = settings(max_examples=60, deadline=None, derandomize=True)
SIZES = {"en": 4000, "hi": 900, "pl": 70}


def counted(text: str, ids: Sequence[int]) -> TextCounts:
    return count_texts([text], [len(ids)])[0]


def mixture(**values: object) -> tuple[PhaseConfiguration, ...]:
    return (phase(1.0, **values),)


def phase(until: float, **values: object) -> PhaseConfiguration:
    return PhaseConfiguration(until=until, mixture=MixtureConfiguration.model_validate({"by": "language", **values}))


def order_of(
    phases: tuple[PhaseConfiguration, ...], sizes: dict[str, int], *, steps: int, batch_size: int, seed: int = 0
) -> MixtureOrder:
    return MixtureOrder(sizes, plan_mixture(phases, sizes, steps=steps, batch_size=batch_size), batch_size, seed)


def cells_of(order: MixtureOrder, rows: list[int]) -> list[tuple[str, int]]:
    """The cell of each row, and its number there."""
    starts = np.cumsum([0, *order.sizes.values()])
    names = list(order.sizes)
    parts = np.searchsorted(starts, rows, side="right") - 1
    return [(names[part], int(row - starts[part])) for row, part in zip(rows, parts, strict=True)]


counts_of_cells = st.lists(st.integers(0, 300), min_size=1, max_size=12).filter(any)


@property_settings
@given(counts=counts_of_cells)
def test_every_prefix_is_less_than_a_row_from_the_even_share(counts: list[int]) -> None:
    length = sum(counts)
    cells, ordinals = Apportionment(counts).assign(0, length)
    had = np.zeros(len(counts))
    for slot, cell in enumerate(cells):
        assert ordinals[slot] == had[cell]
        had[cell] += 1
        assert np.abs(had - np.array(counts) * (slot + 1) / length).max() < 1
    assert had.tolist() == counts


@property_settings
@given(
    counts=st.lists(st.integers(1, 10**11), min_size=2, max_size=20),
    place=st.floats(0, 1),
    count=st.integers(1, 300),
)
def test_long_sequences_are_even_anywhere(counts: list[int], place: float, count: int) -> None:
    apportionment = Apportionment(counts)
    first = int(place * (apportionment.length - 1))
    cells, ordinals = apportionment.assign(first, first + count)
    had = np.array(apportionment.prefix(first))
    for slot, (cell, ordinal) in enumerate(zip(cells, ordinals, strict=True)):
        assert ordinal == had[cell]
        had[cell] += 1
        # a number over all may be too large for a float; 2 rows and a half are the bound that the docstring gives
        off = [
            abs(h * apportionment.length - c * (first + slot + 1)) for h, c in zip(had.tolist(), counts, strict=True)
        ]
        if first + slot + 1 <= apportionment.length:
            assert 2 * max(off) < 5 * apportionment.length
    assert had.tolist() == apportionment.prefix(first + count)
    assert apportionment.prefix(apportionment.length) == counts


@property_settings
@given(step=st.integers(0, 250), world=st.sampled_from([1, 2, 4, 8]))
def test_seeking_is_iterating_and_ranks_share_out_the_batch(step: int, world: int) -> None:
    phases = (phase(0.4, exponent=0.3, max_epochs=4), phase(1.0, shares={"hi": 25, "en": 75}))
    one, other = (order_of(phases, SIZES, steps=200, batch_size=8, seed=5) for _ in range(2))
    before = [one.indices(number) for number in range(step + 1)]
    assert other.indices(step) == before[step]
    assert [row for rank in range(world) for row in other.indices(step, rank, world)] == before[step]
    read = Counter(cell for rows in before[:step] for cell, _ in cells_of(one, rows))
    assert {cell: account.rows for cell, account in other.account(step).items()} == {cell: read[cell] for cell in SIZES}


def test_no_row_comes_twice_in_an_epoch_and_caps_hold() -> None:
    order = order_of(mixture(exponent=0.0, max_epochs=3), SIZES, steps=300, batch_size=8, seed=1)
    seen: dict[str, list[int]] = {cell: [] for cell in SIZES}
    for step in range(300):
        for cell, row in cells_of(order, order.indices(step)):
            seen[cell].append(row)
    assert len(seen["pl"]) == 3 * SIZES["pl"], "a third of 2,400 rows is more than it may give"
    assert abs(len(seen["en"]) - len(seen["hi"])) <= 1, "the others give the rest alike"
    for cell, rows in seen.items():
        for start in range(0, len(rows), SIZES[cell]):
            epoch = rows[start : start + SIZES[cell]]
            assert len(set(epoch)) == len(epoch)
    assert seen["pl"][:70] != seen["pl"][70:140], "each epoch has its own order"


@property_settings
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=8),
    exponent=st.floats(0, 1),
    most=st.floats(0.5, 6),
    steps=st.integers(1, 400),
)
def test_what_capped_cells_cannot_give_is_given_by_the_others(
    sizes: list[int], exponent: float, most: float, steps: int
) -> None:
    cells = {f"cell {number}": size for number, size in enumerate(sizes)}
    rooms = {cell: math.floor(most * size) for cell, size in cells.items()}
    phases = mixture(exponent=exponent, max_epochs=most)
    if sum(rooms.values()) < steps * 8:
        with pytest.raises(UserError, match="max_epochs"):
            plan_mixture(phases, cells, steps=steps, batch_size=8)
        return
    (planned,) = plan_mixture(phases, cells, steps=steps, batch_size=8)
    assert planned.length == steps * 8
    assert all(planned.rows[cell] <= room for cell, room in rooms.items())
    free = [cell for cell in cells if cell not in planned.capped]
    for one in free:
        for other in free:  # those that are not capped keep their proportion
            ratio = planned.wanted[one] / planned.wanted[other]
            assert abs(planned.rows[one] - ratio * planned.rows[other]) <= 1 + ratio
    for cell in planned.capped:
        assert planned.rows[cell] == rooms[cell]


def test_shares_follow_the_formula_of_mt5_and_xlm_r() -> None:
    shares = cell_shares(MixtureConfiguration(by="language", exponent=0.3), SIZES)
    total = sum(size**0.3 for size in SIZES.values())
    assert shares == pytest.approx({cell: size**0.3 / total for cell, size in SIZES.items()})
    assert cell_shares(MixtureConfiguration(by="language"), SIZES)["hi"] == pytest.approx(900 / 4970)
    percentages = MixtureConfiguration(by="language", shares={"hi": 25, "en": 75})
    assert cell_shares(percentages, SIZES) == {"en": 0.75, "hi": 0.25, "pl": 0.0}


def test_a_curriculum_keeps_count_of_epochs_from_phase_to_phase() -> None:
    phases = (phase(0.5, shares={"pl": 1, "en": 1}, max_epochs=2), phase(1.0, shares={"pl": 1, "en": 3}, max_epochs=3))
    order = order_of(phases, SIZES, steps=100, batch_size=8)
    assert order.account(50)["pl"] == (140, 2.0)
    assert order.account(100)["pl"] == (210, 3.0)
    drawn = [cells_of(order, order.indices(step)) for step in range(100)]
    polish = [row for rows in drawn for cell, row in rows if cell == "pl"]
    assert [sorted(polish[start : start + 70]) for start in (0, 70, 140)] == [list(range(70))] * 3
    first, second = describe_phases(order.phases, SIZES)
    assert first == (
        "phase 1 of 2: en 65.00% (0.07 epochs), pl 35.00% (2.00 epochs);"
        " capped by max_epochs, the rest given to the others: pl (for 50.00%); left out: hi"
    )
    assert "pl 17.50% (1.00 epochs)" in second


def test_another_language_does_not_stir_the_rows_of_the_first() -> None:
    alone = order_of(mixture(shares={"hi": 1}), {"hi": 900}, steps=50, batch_size=8)
    beside = order_of(mixture(shares={"hi": 1, "pl": 1}), {"hi": 900, "pl": 70}, steps=50, batch_size=8)
    first = [row for step in range(20) for row in alone.indices(step)]
    mixed = [row for step in range(30) for cell, row in cells_of(beside, beside.indices(step)) if cell == "hi"]
    assert mixed == first[: len(mixed)]


def test_the_order_of_a_mixture_is_kept_between_versions() -> None:
    order = order_of(mixture(exponent=0.3, max_epochs=4), SIZES, steps=100, batch_size=8, seed=3)
    assert order.indices(0) == [3718, 1721, 4467, 3226, 4782, 4953, 3885, 3082]


def test_the_billionth_step_costs_what_the_first_costs() -> None:
    sizes = {f"language {number}": 10**8 * (number + 1) for number in range(40)}
    phases = (phase(0.8, exponent=0.3), phase(1.0, exponent=0.7))
    order = order_of(phases, sizes, steps=2 * 10**9, batch_size=1024)
    order.indices(5)

    def cost(step: int) -> float:
        begun = time.process_time()
        assert len(order.indices(step)) == 1024
        return time.process_time() - begun

    first = min(cost(step) for step in range(1000, 1020))
    assert min(cost(step) for step in range(10**9, 10**9 + 20)) < 5 * first + 0.02


def test_unknown_cells_and_empty_phases_are_refused() -> None:
    with pytest.raises(UserError, match="unknown language 'hin'") as refused:
        plan_mixture(mixture(shares={"hin": 1}), SIZES, steps=10, batch_size=8)
    assert "did you mean 'hi'" in str(refused.value.fix)
    with pytest.raises(UserError, match="phase 1 of the curriculum has none of the 10 steps"):
        plan_mixture((phase(0.01), phase(1.0)), SIZES, steps=10, batch_size=8)
    with pytest.raises(ValueError, match="exclude each other"):
        MixtureConfiguration(by="language", shares={"hi": 1}, exponent=0.3)
    with pytest.raises(ValueError, match="none below 0"):
        MixtureConfiguration(by="language", shares={"hi": -1, "pl": 2})


class Numbers:
    """Stands in for a tokenizer where only its ids matter."""

    vocab_size, hash, begin_id, end_id, pad_id = 50_000, "0" * 64, 1, 2, 0


def write(folder: Path, documents: list[tuple[str, str, int]]) -> Path:
    """Token shards of documents (language, source, id of all their tokens), 7 tokens each."""
    with ShardWriter(folder, "train", vocab_size=50_000, tokens_per_shard=20, weighted=False) as writer:
        for number, (language, source, token) in enumerate(documents):
            name = hashlib.sha256(f"{folder}{number}".encode()).hexdigest()[:32]
            writer.add([token] * 7, name=name, language=language, source=source, count=counted("क", [token] * 7))
    write_index(folder, Numbers(), {"train": writer.entry})  # type: ignore[arg-type]
    return folder


def test_a_row_belongs_to_one_cell(tmp_path: Path) -> None:
    kinds = {("hi", "web"): 10, ("hi", "books"): 11, ("pl", "web"): 12}
    one = write(tmp_path / "one", [(*kind, token) for _ in range(6) for kind, token in kinds.items()])
    two = write(tmp_path / "two", [("pl", "news", 13)] * 5)
    expected = {
        "language": {"hi": {10, 11}, "pl": {12, 13}},
        "source": {"books": {11}, "news": {13}, "web": {10, 12}},
        "tokens": {"one": {10, 11, 12}, "two": {13}},
        "cell": {"books:hi": {11}, "news:pl": {13}, "web:hi": {10}, "web:pl": {12}},
    }
    for by, cells in expected.items():
        rows = open_cells({"one": one, "two": two}, "train", by, 9)  # type: ignore[arg-type]
        assert list(rows.sizes) == list(cells)
        assert sum(part.reader.num_tokens for part in rows.cells.values()) == 23 * 7
        row = 0
        for cell, size in rows.sizes.items():
            ids = {int(token) for index in range(row, row + size) for token in rows.batch([index]).ids_BT.flatten()}
            assert ids - {0} == cells[cell]
            row += size
        backwards = rows.batch(list(range(len(rows)))[::-1])
        assert (backwards.ids_BT[::-1] == rows.batch(range(len(rows))).ids_BT).all()


def test_tokens_that_are_not_parted_by_quality_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "one", [("hi", "web", 10)] * 5)
    with pytest.raises(UserError, match="not parted by quality") as refused:
        open_cells({"one": folder}, "train", "quality", 9)
    assert "quality_bands" in str(refused.value.fix)


def test_the_account_of_a_mixture_adds_up() -> None:
    phases = plan_mixture(
        (phase(0.5, exponent=0.3, max_epochs=3), phase(1.0, shares={"hi": 1, "en": 3}, max_epochs=3)),
        SIZES,
        steps=100,
        batch_size=32,
    )
    given = cells_given(phases, SIZES)
    assert sum(cell.rows for cell in given.values()) == 3200
    for total in ("before", "weight", "after"):
        assert math.isclose(sum(getattr(cell, total) for cell in given.values()), 1)
    assert given["en"].before == 4000 / 4970
    # Half of the time it was to have so much, and it has no more than three times 70 rows.
    assert math.isclose(given["pl"].weight, 0.5 * cell_shares(phase(1, exponent=0.3).mixture, SIZES)["pl"])
    assert (given["pl"].rows, given["pl"].epochs, given["pl"].after) == (210, 3.0, 210 / 3200)
    assert given["pl"].after < given["pl"].weight
