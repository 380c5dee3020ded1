"""The promises on real text in hundreds of languages, read in place where it is there."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from vernacular.tokens.tokenizer import Tokenizer

DECLARATION = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "text" / "udhr" / "udhr.jsonl.gz"


@pytest.mark.skipif(not DECLARATION.is_file(), reason="../shared/data/text/udhr is not there")
def test_the_declaration_of_human_rights_comes_back_in_every_language(tokenizer: Tokenizer) -> None:
    with gzip.open(DECLARATION, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    assert len(texts) > 300
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert tokenizer.decode(ids) == text
