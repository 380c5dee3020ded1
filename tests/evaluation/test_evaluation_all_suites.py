"""Every suite on the real sets of ../shared/data/eval, with random weights: as much of it as there is data for."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tiny import make_tokenizer, make_weights

from vernacular.evaluation.command import HEADLINES, Places, evaluate_weights
from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.scores import rescore
from vernacular.evaluation.suites.selection import select
from vernacular.evaluation.suites.suite import read_suite, suites
from vernacular.foundation.files import read_json
from vernacular.inference.loading import load

SETS = Path(__file__).resolve().parents[3] / "shared" / "data" / "eval"
TASKS_OF_A_BENCHMARK = 1


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    return make_weights(folder / "weights", make_tokenizer(folder / "tokenizer"), max_positions=16384)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in suites() if name != "bharatbench"])
def test_a_suite_runs_end_to_end(name, weights, tmp_path) -> None:
    if not SETS.is_dir():
        pytest.skip("needs the shared data, ../shared/data/eval")
    suite = read_suite(name)
    there = select(suite, SETS, only_available=True, code=False, judge=False, encoder=False)
    names = [wanted.entry.name for wanted in there.tasks]
    chosen = [name for member in suite.members for name in [*filter(member.has, names)][:TASKS_OF_A_BENCHMARK]]
    places = Places(str(weights), tmp_path / "out", suite=name, data=SETS)
    settings = EvaluateConfiguration(limit=2, only=tuple(chosen), template="never")
    evaluate_weights(settings, places, lambda folder: load(folder, dtype="float32", device="cpu"))
    scores = rescore(tmp_path / "out")
    assert {score.task for score in scores} == set(chosen)
    assert all(score.n == 2 for score in scores)
    report = read_json(tmp_path / "out" / HEADLINES)
    assert all(headline["value"] is None for headline in report["headlines"])
    assert report["shares"]
    assert {note for note in report["notes"] if "at most 2" in note}


def test_a_suite_without_any_data_is_refused(tmp_path) -> None:
    from vernacular.foundation.errors import UserError

    with pytest.raises(UserError, match="of the suite 'bharatbench' no task can be run: its data is not there"):
        select(read_suite("bharatbench"), tmp_path, only_available=True)
