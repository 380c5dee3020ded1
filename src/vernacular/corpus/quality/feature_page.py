"""The page of the documentation that lists the features: `python -m vernacular.corpus.quality.feature_page`."""

from __future__ import annotations

from itertools import groupby

from vernacular.corpus.quality.features import NUM_FEATURES, catalogue

_HEAD = f"""# The {NUM_FEATURES} features

What the [quality classifier](quality.md) reads of a document, made from `corpus/data/features.yaml` by `python -m
vernacular.corpus.quality.feature_page`. The card of Bielik-7B-v0.1 says that its classifier reads 93 features and
names four; the others were never published. These are ours, after the names its authors published for later versions
and the measures of StyloMetrix.

Shares are of the visible characters (no white space), words or lines that the name speaks of. A word is a run of
letters, marks, digits and joiners; in scripts that separate no words, a letter. A sentence ends with a line, or where
white space follows a mark that ends sentences in its script. A feature is null where what it divides by is not there,
and where what it needs of the language is not known:

- function words: the language has a file in `corpus/data/languages`;
- a lexicon: one is asked for in the recipe (`lexicons: [pl, hi]`), and installed;
- parts of speech: that lexicon knows them (Polish, by Morfeusz).
"""
_NEEDS = {"": "", "stop_words": "function words", "lexicon": "a lexicon", "parts": "parts of speech"}


def feature_page() -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    number = 0
    for group, members in groupby(catalogue(), key=lambda feature: feature.group):
        parts.append(f"\n## {group.capitalize()}\n\n| | feature | is | needs |\n|---|---|---|---|\n")
        for feature in members:
            number += 1
            formula = feature.formula.replace("|", "\\|")
            parts.append(f"| {number} | `{feature.name}` | {formula} | {_NEEDS[feature.needs]} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(feature_page(), end="")
