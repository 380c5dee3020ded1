"""The quality classifier: 93 features in, a probability for each of HIGH, MEDIUM and LOW out.

At rest it is a folder: `model.ubj` (XGBoost's own format, read without running anything) and `quality.json` (grades,
features, lexicons, calibration). What it was trained with must be there when it is used: the same features, the same
lexicons in the same versions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vernacular.corpus.lexicons.lexicon import Lexicon, lexicon
from vernacular.corpus.quality.calibration import Calibration
from vernacular.corpus.quality.configuration import GRADES, Trees
from vernacular.corpus.quality.features import catalogue, measure
from vernacular.corpus.quality.scaling import Scaling
from vernacular.foundation.errors import UserError, missing_extra
from vernacular.foundation.files import atomic_path, read_json_object, write_json

if TYPE_CHECKING:
    import xgboost

_FORMAT = 1
_MODEL, _FACTS = "model.ubj", "quality.json"
_AGAIN = "run the recipe that makes it again"


def import_xgboost() -> Any:
    """The package, which is an extra.

    Raises:
        MachineError: it is not installed.
    """
    try:
        import xgboost
    except ImportError as error:
        raise missing_extra("xgboost-cpu", "quality", "the quality classifier") from error
    return xgboost


def open_lexicons(languages: Sequence[str]) -> dict[str, Lexicon]:
    """The lexicons of the languages.

    Raises:
        UserError: a language has none that we know of.
        MachineError: one is not installed.
    """
    return {language: lexicon(language) for language in languages}


def fit_trees(rows: np.ndarray, grades: np.ndarray, weights: np.ndarray, settings: Trees, seed: int) -> xgboost.Booster:
    """Train.

    Args:
        rows: float32 [D, 93].
        grades: int [D], places in `GRADES`.
        weights: float [D].
        settings: of the trees.
        seed: decides the rows and columns that each tree sees.
    """
    xgboost = import_xgboost()
    parameters = {
        "objective": "multi:softprob",
        "num_class": len(GRADES),
        "tree_method": "hist",
        "max_depth": settings.depth,
        "eta": settings.learning_rate,
        "subsample": settings.rows,
        "colsample_bytree": settings.columns,
        "nthread": settings.threads,
        "seed": seed,
        "verbosity": 0,
    }
    names = [feature.name for feature in catalogue()]
    data = xgboost.DMatrix(rows, label=grades, weight=weights, feature_names=names, nthread=settings.threads)
    return xgboost.train(parameters, data, num_boost_round=settings.rounds)


def margins(booster: xgboost.Booster, rows: np.ndarray) -> np.ndarray:
    """float32 [D, 3]: what the trees of each grade add up to."""
    if not len(rows):
        return np.zeros((0, len(GRADES)), dtype=np.float32)
    return booster.inplace_predict(rows, predict_type="margin", validate_features=False)


class QualityModel:
    """A trained classifier.

    Args:
        booster: the trees.
        scaling: what is usual in each language it was trained on.
        calibration: from scores to probabilities.
        lexicons: by language, those that its features read.
    """

    def __init__(
        self,
        booster: xgboost.Booster,
        scaling: Scaling,
        calibration: Calibration,
        lexicons: Mapping[str, Lexicon],
    ) -> None:
        self.booster = booster
        self.scaling = scaling
        self.calibration = calibration
        self.lexicons = lexicons

    @property
    def languages(self) -> frozenset[str]:
        """Those it was trained on; it knows nothing of documents in others."""
        return frozenset(self.scaling.by_language)

    def probabilities(self, texts: pa.Array, languages: Sequence[str]) -> np.ndarray:
        """The probability of each grade.

        Args:
            texts: large_string [D], normalised.
            languages: ISO 639 code of each.

        Returns:
            float64 [D, 3], in the order of `GRADES`; NaN for documents in a language it was not trained on.
        """
        known = np.array([language in self.languages for language in languages], dtype=bool)
        found = np.full((len(known), len(GRADES)), np.nan)
        if known.any():
            some = [language for language, is_known in zip(languages, known, strict=True) if is_known]
            rows = self.scaling.apply(measure(texts.filter(pa.array(known)), some, self.lexicons), some)
            found[known] = self.calibration.apply(margins(self.booster, rows))
        return found

    def save(self, folder: Path) -> None:
        """Write it into `folder`."""
        with atomic_path(folder / _MODEL) as temporary:
            temporary.write_bytes(bytes(self.booster.save_raw("ubj")))
        facts = {
            "format": _FORMAT,
            "grades": list(GRADES),
            "features": [feature.name for feature in catalogue()],
            "lexicons": {language: one.name for language, one in self.lexicons.items()},
            "scaling": self.scaling.as_json(),
            "calibration": self.calibration.as_json(),
        }
        write_json(folder / _FACTS, facts)

    @classmethod
    def load(cls, folder: Path) -> QualityModel:
        """Read it.

        Raises:
            UserError: there is none in `folder`, it was made for other features, or with another lexicon.
            MachineError: a package that it needs is not installed.
        """
        facts = read_json_object(folder / _FACTS)
        if facts.get("format") != _FORMAT or facts.get("features") != [feature.name for feature in catalogue()]:
            raise UserError("the classifier was made for other features", where=folder / _FACTS, fix=_AGAIN)
        lexicons = open_lexicons(list(facts["lexicons"]))
        for language, name in facts["lexicons"].items():
            if lexicons[language].name != name:
                raise UserError(
                    f"the classifier was trained with the lexicon {name}; here is {lexicons[language].name}",
                    where=folder / _FACTS,
                    fix=f"install that version, or {_AGAIN}",
                )
        booster = import_xgboost().Booster({"nthread": 1})
        raw = folder / _MODEL
        if not raw.is_file():
            raise UserError("the classifier's trees are missing", where=raw, fix=_AGAIN)
        booster.load_model(bytearray(raw.read_bytes()))
        scaling, calibration = Scaling.from_json(facts["scaling"]), Calibration.from_json(facts["calibration"])
        return cls(booster, scaling, calibration, lexicons)
