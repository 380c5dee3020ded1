"""The pairs that are joined: those of the tokenizers library, and those of the definition, word by word."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from vernacular.tokens.byte_pair_training import train_byte_pairs
from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.pair_learning import Pair, PairLearner
from vernacular.tokens.pre_tokenizer import split_pattern, word_cutter
from vernacular.tokens.word_counts import WordCounts

counted_words = st.dictionaries(
    st.lists(st.integers(0, 3), min_size=1, max_size=9).map(tuple), st.integers(1, 20), min_size=1, max_size=12
)


def learner_of(words: dict[tuple[int, ...], int], min_frequency: int = 1) -> PairLearner:
    ids = np.array([token for word in words for token in word], dtype=np.int32)
    return PairLearner(ids, list(map(len, words)), list(words.values()), min_frequency=min_frequency)


def counts_by_definition(words: dict[tuple[int, ...], int]) -> Counter[tuple[int, int]]:
    counts: Counter[tuple[int, int]] = Counter()
    for word, count in words.items():
        for pair in pairwise(word):
            counts[pair] += count
    return counts


def joined(word: tuple[int, ...], pair: tuple[int, int], token: int) -> tuple[int, ...]:
    result: list[int] = []
    for number in word:
        if result and (result[-1], number) == pair:
            result[-1] = token
        else:
            result.append(number)
    return tuple(result)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(words=counted_words, min_frequency=st.integers(1, 4))
def test_each_join_is_that_of_the_definition(words: dict[tuple[int, ...], int], min_frequency: int) -> None:
    current = dict(words)
    tokens = ["a", "b", "c", "d"]
    with learner_of(words, min_frequency) as learner:
        while best := learner.best():
            counts = counts_by_definition(current)
            assert best == Pair(*min(counts, key=lambda pair: (-counts[pair], pair)), max(counts.values()))
            text = tokens[best.left] + tokens[best.right]
            if text not in tokens:  # another pair may have made the same token before
                tokens.append(text)
            learner.join(best, tokens.index(text))
            merged: Counter[tuple[int, ...]] = Counter()
            for word, count in current.items():
                merged[joined(word, best[:2], tokens.index(text))] += count
            current = dict(merged)
        assert max(counts_by_definition(current).values(), default=0) < min_frequency


def test_a_pair_that_was_passed_over_is_never_offered_again() -> None:
    with learner_of({(0, 1, 2): 5, (1, 2): 2}) as learner:
        assert learner.best() == Pair(1, 2, 7)
        learner.pass_over(Pair(1, 2, 7))
        assert learner.best() == Pair(0, 1, 5)
        learner.join(Pair(0, 1, 5), 3)
        assert learner.best() == Pair(3, 2, 5)
        learner.join(Pair(3, 2, 5), 4)
        assert learner.best() is None


def test_no_words_have_no_pairs() -> None:
    with learner_of({}) as learner:
        assert learner.best() is None


@pytest.mark.parametrize("longest", [64, 8])
def test_vocabulary_and_merges_are_those_of_the_tokenizers_library(
    sentences: dict[str, list[str]], horrible: list[str], longest: int
) -> None:
    texts = [text * (1 + number % 3) for group in sentences.values() for number, text in enumerate(group)] + horrible
    configuration = TokenizerConfiguration(vocab_size=1400, max_token_bytes=longest, min_frequency=1, reserved_tokens=0)
    words = WordCounts(word_cutter(), most=10_000)
    words.add(texts)
    ours = Tokenizer(train_byte_pairs(configuration, words))
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split_pattern()), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=configuration.vocab_size,
        min_frequency=1,
        special_tokens=list(configuration.all_special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=longest + 1,  # it makes tokens that are shorter than that
        show_progress=False,
    )
    theirs.train_from_iterator(texts, trainer)
    assert ours.get_vocab() == theirs.get_vocab()
    assert json.loads(ours.to_str())["model"]["merges"] == json.loads(theirs.to_str())["model"]["merges"]
