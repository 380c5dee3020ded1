"""What a changed tokenizer costs each language, beside the old one, on the same text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vernacular.tokens.measures import TextCounts, describe_fit
from vernacular.tokens.token_map import TokenMap
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import measured_texts


def describe_change(old: Tokenizer, new: Tokenizer, tokens: TokenMap, documents: Path) -> dict[str, Any]:
    """`measured_on`, and by language the fit `before` and `after` and the share of documents whose ids are the same.

    Ids are the same where the map turns the new ones into the old ones.

    Args:
        old: the tokenizer before.
        new: the tokenizer after.
        tokens: which old token each new one is.
        documents: a curated artifact; its held-out documents where it has some.
    """
    measured_on, batches = measured_texts(documents)
    before: dict[str, TextCounts] = {}
    after: dict[str, TextCounts] = {}
    same: dict[str, int] = {}
    for languages, texts in batches:
        pairs = zip(old.encode_batch(texts), new.encode_batch(texts), strict=True)
        for language, text, (old_ids, new_ids) in zip(languages, texts, pairs, strict=True):
            before.setdefault(language, TextCounts()).add(text, len(old_ids))
            after.setdefault(language, TextCounts()).add(text, len(new_ids))
            same[language] = same.get(language, 0) + ([tokens.kept.get(one) for one in new_ids] == old_ids)
    fits = describe_fit(before), describe_fit(after)
    return {
        "measured_on": measured_on,
        "languages": {
            language: {
                "before": fits[0][language],
                "after": fits[1][language],
                "documents_with_the_same_ids": round(same[language] / before[language].documents, 4),
            }
            for language in sorted(before)
        },
    }
