"""A tokenizer gets pieces for a new language, and keeps its promises to the old ones.

New merges stand after all old ones and make tokens that were not there. So a word is first joined by the old merges as
far as they go, into its old ids, and then the new merges join some of these. From this follows, for every text:

1. The old ids are the new ids with each new token replaced by the old ones it is made of.
2. So a text without new tokens has exactly its old ids. With `only_with`, that is every text without those characters.
3. Boundaries between tokens only vanish. What was not cut before, a grapheme cluster say, is not cut now; and what
   came back as it was, still does.

For the first to hold, a new token has one merge, is none of the old tokens, and its old pieces are those that the old
merges make of it by itself. For the second, a new token is whole characters, or the beginning of a single one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vernacular.foundation.errors import InternalError, UserError
from vernacular.foundation.files import write_json
from vernacular.foundation.progress import progress
from vernacular.tokens.byte_pairs import BytePairs
from vernacular.tokens.change_report import describe_change
from vernacular.tokens.characters import Characters, begins_a_character, whole_text
from vernacular.tokens.configuration import ExtendTokenizerConfiguration
from vernacular.tokens.documents import document_files
from vernacular.tokens.pair_learning import Pair, PairLearner
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.token_map import TokenMap, map_tokens
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import count_bytes, sample_texts, share_bytes
from vernacular.tokens.word_counts import WordCounts


def extend_tokenizer(
    configuration: ExtendTokenizerConfiguration, source: Path, documents: Path, folder: Path
) -> dict[str, Any]:
    """Learn new pieces on the split `train` of a curated artifact and write the extended tokenizer's folder.

    Args:
        configuration: how many pieces, of which characters, from which text.
        source: the folder of the tokenizer to extend.
        documents: the curated artifact with text of the new language.
        folder: receives the tokenizer's files, its chat template if it has one, token_map.json and report.json.

    Returns:
        The summary: sizes, hashes, what is promised, and the fit by language before and after.

    Raises:
        UserError: the tokenizer is none of byte pairs, a script is unknown, or the text supports fewer pieces.
    """
    old = BytePairs(source)
    template = ChatTemplate.find(source)
    own = configuration.only_with
    characters = Characters(own.scripts, own.characters, where="only_with") if own is not None else None
    found = _NewPieces(old, configuration, characters)
    words = _count_words(configuration, old, documents)
    found.learn(words.counts)
    if len(found.forms) < configuration.new_pieces:
        raise UserError(
            f"the text supports {len(found.forms)} new pieces, fewer than new_pieces {configuration.new_pieces}",
            where=documents,
            fix=f"set new_pieces to at most {len(found.forms)}, give it more text, or widen only_with",
        )
    new = Tokenizer(old.extended(found.letters, found.merges), where=folder)
    new.save(folder)
    if template is not None:
        template.save(folder)
    tokens = map_tokens(old, new)
    _check(tokens, found)
    tokens.save(folder)
    report = {
        "vocab_size": new.vocab_size,
        "old_vocab_size": old.tokenizer.vocab_size,
        "new_pieces": len(found.forms),
        "counts_short_by_at_most": words.shortfall,
        "tokenizer_hash": new.hash,
        "old_tokenizer_hash": old.tokenizer.hash,
        "template_hash": template and template.hash,
        "ids_kept_without": None if characters is None else characters.shown_by_any(map(old.writing.read, found.forms)),
        **describe_change(old.tokenizer, new, tokens, documents),
    }
    write_json(folder / "report.json", report)
    return report


def _count_words(configuration: ExtendTokenizerConfiguration, old: BytePairs, documents: Path) -> WordCounts:
    """How often each word of the sample occurs, as the vocabulary writes it."""
    paths = document_files(documents, "train")
    available = count_bytes(paths)
    wanted = share_bytes(configuration, available, documents)
    words = WordCounts(old.words, configuration.max_words)
    for texts in sample_texts(paths, available, wanted):
        words.add(texts)
    return words


class _NewPieces:
    """The tokens that are added: single characters first (of a byte fallback), then what merges make.

    Attributes:
        letters: characters that the old vocabulary spelt in bytes.
        merges: pairs of tokens as they are written.
        forms: every new token as it is written, in the order of the new ids.
    """

    def __init__(
        self, old: BytePairs, configuration: ExtendTokenizerConfiguration, characters: Characters | None
    ) -> None:
        self._old = old
        self._configuration = configuration
        self._characters = characters
        self._first = old.tokenizer.vocab_size
        self._forms = {token_id: token for token, token_id in old.ids.items()}
        self._known = set(self._forms.values())
        self._unjoined = old.added_ids | (old.byte_ids if old.writing.name == "sentencepiece" else frozenset())
        self._spelling: dict[int, tuple[int, ...]] = {}
        self.letters: list[str] = []
        self.merges: list[tuple[str, str]] = []
        self.forms: list[str] = []

    def learn(self, words: Counter[str]) -> None:
        """Find the pieces."""
        if self._old.writing.name == "sentencepiece":
            self._learn_letters(words)
        new_letters = {letter: self._first + place for place, letter in enumerate(self.letters)}
        cut: Counter[tuple[int, ...]] = Counter()
        with progress(doing="cutting words", total=len(words), unit="words") as bar:
            for word, times in words.items():
                cut[self._cut(word, new_letters)] += times
                bar.update(1)
        self._join(cut)

    def _join(self, words: Counter[tuple[int, ...]]) -> None:
        """Make the pair that occurs most a new token, unless that would break a promise, and so on."""
        ids = np.array([token for word in words for token in word], dtype=np.int32)
        most, least = self._configuration.new_pieces, self._configuration.min_frequency
        with (
            PairLearner(ids, list(map(len, words)), list(words.values()), min_frequency=least) as learner,
            progress(doing="learning pieces", total=most, initial=len(self.forms), unit="pieces") as bar,
        ):
            while len(self.forms) < most and (best := learner.best()):
                if not self._take(best):
                    learner.pass_over(best)
                    continue
                learner.join(best, self._first + len(self.forms) - 1)
                self.merges.append((self._forms[best.left], self._forms[best.right]))
                bar.update(1)

    def spelling(self, token: int) -> tuple[int, ...]:
        """The old ids that a token, old or new, is made of."""
        return self._spelling.get(token, (token,))

    def _learn_letters(self, words: Counter[str]) -> None:
        """The most frequent characters that are spelt in bytes, each a token of its own."""
        times: Counter[str] = Counter()
        for word, count in words.items():
            for letter in word:
                if letter not in self._known:
                    times[letter] += count
        ordered = sorted(times.items(), key=lambda pair: (-pair[1], pair[0]))
        for letter, count in ordered:
            if len(self.letters) < self._configuration.new_pieces and count >= self._configuration.min_frequency:
                self._add(letter, tuple(self._old.cut(letter)), self.letters)

    def _add(self, form: str, spelling: tuple[int, ...], into: list[str] | None = None) -> bool:
        """Take a new token if it keeps the promises; its id is the next one."""
        content = self._old.writing.read(form)
        whole = whole_text(content) is not None or begins_a_character(content)
        fits = len(content) <= self._configuration.max_token_bytes and form not in self._known
        shows = self._characters is None or (whole and self._characters.shown_by(content))
        if not (whole and fits and shows and tuple(self._old.cut(form)) == spelling):
            return False
        token = self._first + len(self.forms)
        self._forms[token] = form
        self._known.add(form)
        self._spelling[token] = spelling
        self.forms.append(form)
        if into is not None:
            into.append(form)
        return True

    def _take(self, pair: Pair) -> bool:
        """Whether two tokens may be joined; if so, what they make is a new token."""
        left, right, _ = pair
        if left in self._unjoined or right in self._unjoined:
            return False
        return self._add(self._forms[left] + self._forms[right], self.spelling(left) + self.spelling(right))

    def _cut(self, word: str, new_letters: Mapping[str, int]) -> tuple[int, ...]:
        """The ids of a word before any new merge: its old ones, new characters in the place of their bytes."""
        if not new_letters or not any(letter in new_letters for letter in word):
            return tuple(self._old.cut(word))
        ids: list[int] = []
        pending = ""
        for letter in word:
            if letter not in new_letters:
                pending += letter
                continue
            ids += self._old.cut(pending) if pending else []
            ids.append(new_letters[letter])
            pending = ""
        return tuple(ids + (self._old.cut(pending) if pending else []))


def _check(tokens: TokenMap, found: _NewPieces) -> None:
    """What the map says of the new tokens is what they were made of."""
    first = tokens.new_size - len(found.forms)
    for place, form in enumerate(found.forms):
        if tokens.pieces.get(first + place) != found.spelling(first + place):
            raise InternalError(f"the piece '{form}' is not made of what it was learned from", where="token_map.json")
