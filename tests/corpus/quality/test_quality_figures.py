"""Figures and calibration, against scikit-learn where it has them."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.isotonic
import sklearn.metrics

from vernacular.corpus.quality import calibration, figures
from vernacular.corpus.quality.labelling.agreement import cohens_kappa
from vernacular.foundation.errors import UserError

RANDOM = np.random.default_rng(5)
GRADES = RANDOM.integers(0, 3, 400)
FOUND = np.where(RANDOM.random(400) < 0.7, GRADES, RANDOM.integers(0, 3, 400))


def scores_of(grades: np.ndarray, sharpness: float) -> np.ndarray:
    """Margins whose probabilities are right on average if `sharpness` is 1, and too bold if it is more."""
    random = np.random.default_rng(9)
    odds = random.normal(size=(len(grades), 3))
    probabilities = calibration.softmax(2 * odds)
    drawn = (random.random((len(grades), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    grades[:] = np.minimum(drawn, 2)
    return sharpness * 2 * odds


def test_precision_recall_and_f1_are_those_of_scikit_learn() -> None:
    ours = figures.grade_figures(GRADES, FOUND)
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(GRADES, FOUND)
    for place, one in enumerate(ours["grades"].values()):
        assert [one["precision"], one["recall"], one["f1"]] == pytest.approx(
            [precision[place], recall[place], f1[place]]
        )
        assert one["documents"] == support[place]
    assert ours["macro_f1"] == pytest.approx(sklearn.metrics.f1_score(GRADES, FOUND, average="macro"))
    called = figures.damage_figures(GRADES, np.where(FOUND == 0, 0.6, 0.4))
    binary = sklearn.metrics.f1_score(GRADES == 0, FOUND == 0, average="macro")
    assert called["macro_f1"] == pytest.approx(binary)
    clear = GRADES != 1
    assert called["clear_macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(GRADES[clear] == 0, FOUND[clear] == 0, average="macro")
    )
    assert ours["confusion"] == sklearn.metrics.confusion_matrix(GRADES, FOUND).tolist()


def test_kappa_is_that_of_scikit_learn() -> None:
    names = np.array(["HIGH", "MEDIUM", "LOW"])
    pairs = list(zip(names[GRADES].tolist(), names[FOUND].tolist(), strict=True))
    assert cohens_kappa(pairs) == pytest.approx(sklearn.metrics.cohen_kappa_score(GRADES, FOUND))
    assert cohens_kappa([]) is None
    assert cohens_kappa([("HIGH", "HIGH")] * 5) is None
    assert cohens_kappa([("HIGH", "HIGH"), ("LOW", "LOW")]) == 1


@pytest.mark.parametrize("way", ["isotonic", "temperature"])
def test_calibration_makes_bold_probabilities_honest(way: str) -> None:
    grades = np.zeros(4000, dtype=int)
    scores = scores_of(grades, sharpness=3.0)
    half = 2000
    fitted = calibration.fit(scores[:half], grades[:half], np.ones(half), way)
    before = figures.reliability(calibration.softmax(scores[half:]), grades[half:], np.ones(half))
    after = figures.reliability(fitted.apply(scores[half:]), grades[half:], np.ones(half))
    for grade in ("HIGH", "MEDIUM", "LOW"):
        assert figures.calibration_error(after, grade) < 0.4 * figures.calibration_error(before, grade)
        assert figures.calibration_error(after, grade) < 0.04
    np.testing.assert_allclose(fitted.apply(scores).sum(axis=1), 1)
    again = calibration.Calibration.from_json(fitted.as_json())
    np.testing.assert_array_equal(again.apply(scores), fitted.apply(scores))


def test_isotonic_steps_are_those_of_scikit_learn() -> None:
    before, right = RANDOM.random(300), RANDOM.random(300) < 0.5
    steps = calibration._steps(before, right, np.ones(300))
    theirs = sklearn.isotonic.IsotonicRegression(out_of_bounds="clip").fit(before, right)
    points = np.linspace(before.min(), before.max(), 500)
    np.testing.assert_allclose(np.interp(points, *steps), theirs.predict(points), atol=1e-6)


def test_one_grade_alone_is_refused_and_two_are_enough() -> None:
    with pytest.raises(UserError, match="the same grade"):
        calibration.fit(np.zeros((4, 3)), np.array([2, 2, 2, 2]), np.ones(4), "isotonic")
    scores = np.array([[3.0, -9, 0], [2, -9, 0], [0, -9, 2], [0, -9, 3]])
    fitted = calibration.fit(scores, np.array([0, 0, 2, 2]), np.ones(4), "isotonic")
    assert fitted.apply(scores).argmax(axis=1).tolist() == [0, 0, 2, 2]


def test_the_threshold_curve_counts_what_it_keeps() -> None:
    probability = np.array([0.95, 0.92, 0.6, 0.1])
    rows = figures.threshold_curve(
        probability,
        np.array([True, False, True, False]),
        np.array([10.0, 20, 30, 40]),
        np.array([True, False, True, True]),
    )
    at = {row["threshold"]: row for row in rows}
    assert at[0.0]["documents_kept"] == 1
    assert at[0.9] == {
        "threshold": 0.9,
        "documents_kept": pytest.approx(1 / 3),
        "words_kept": pytest.approx(10 / 80),
        "precision": 0.5,
        "recall": 0.5,
    }
    assert at[0.99]["precision"] is None
