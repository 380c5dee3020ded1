"""Settings of the tokenizer and of token shards. Light: the command line and the JSON schema load this module."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from vernacular.foundation.configuration import Configuration

CONTROL_TOKENS = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
UNKNOWN_TOKEN = "<unk>"
"""What a SentencePiece model must have; no text ever becomes it where there are bytes to fall back on."""
NUM_BYTES = 256


class SampleConfiguration(Configuration):
    """Which text of a curated artifact a tokenizer learns from."""

    sample_bytes: int | None = Field(
        2**30, gt=0, description="bytes of text to learn from; null learns from as many as there are"
    )
    language_exponent: float = Field(
        1.0,
        ge=0,
        le=1,
        description="a language's share of the sample is its bytes to this power: 1 in proportion, 0 all alike;"
        " text of a language that has less than its share is read more than once",
    )
    language_shares: dict[str, float] | None = Field(
        None, description="each language's share of the sample, instead of language_exponent; others are left out"
    )
    max_words: int = Field(
        8_000_000,
        gt=1,
        description="different words counted at one time, about 120 bytes of memory each; when there are more, the"
        " rarest are dropped, and the report states by how much a count can be short",
    )
    min_frequency: int = Field(2, ge=1, description="how often a pair must occur to be merged")
    max_token_bytes: int = Field(
        64, ge=4, description="longest token in bytes; keeps boilerplate out of the vocabulary"
    )

    @field_validator("language_shares")
    @classmethod
    def _shares_are_positive(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None and (not shares or min(shares.values()) <= 0):
            raise ValueError("language_shares needs at least one language, each with a share above 0")
        return shares


class TokenizerConfiguration(SampleConfiguration):
    """A tokenizer trained on a curated artifact; whatever the text, there are bytes to write it with."""

    algorithm: Literal["bpe", "unigram"] = Field(
        "bpe", description="bpe: byte pairs, merged by frequency; unigram: the likeliest pieces"
    )
    writing: Literal["byte-level", "sentencepiece"] = Field(
        "byte-level",
        description="byte-level: pieces of bytes, cut beforehand by our pattern; sentencepiece: pieces of characters,"
        " a blank written as ▁, which a SentencePiece .model and llama.cpp's own tokenizer say exactly; the character ▁"
        " in a text then comes back as a blank",
    )
    character_coverage: float = Field(
        0.9995,
        gt=0,
        le=1,
        description="writing: sentencepiece: the share of the text's characters that have pieces; rarer ones are"
        " written in bytes",
    )
    vocab_size: int = Field(
        32768, gt=0, description="size of the vocabulary, the 256 bytes and all special tokens included"
    )
    digits: Literal["individual", "groups"] = Field(
        "individual", description="a number is cut into single digits, or into groups of up to three from the left"
    )
    normalisation: Literal["none", "nfc"] = Field(
        "none",
        description="none: what is encoded decodes to itself; nfc: to itself in Unicode's composed form, in which"
        " letters that look alike are spelt alike",
    )
    reserved_tokens: int = Field(16, ge=0, description="how many special tokens <|reserved_0|>… are kept for later use")
    special_tokens: tuple[str, ...] = Field((), description="further special tokens, after the control tokens")
    max_positions: int = Field(4096, gt=0, description="model_max_length in tokenizer_config.json, in tokens")

    @property
    def all_special_tokens(self) -> tuple[str, ...]:
        """Every special token; its place is its id."""
        reserved = tuple(f"<|reserved_{number}|>" for number in range(self.reserved_tokens))
        unknown = (UNKNOWN_TOKEN,) if self.writing == "sentencepiece" else ()
        return CONTROL_TOKENS + self.special_tokens + reserved + unknown

    @model_validator(mode="after")
    def _has_room(self) -> TokenizerConfiguration:
        tokens = self.all_special_tokens
        if len(set(tokens)) < len(tokens) or not all(tokens):
            raise ValueError("special_tokens must be distinct, not empty, and none of the control or reserved tokens")
        if self.writing == "sentencepiece" and self.normalisation != "none":
            raise ValueError(
                f"normalisation {self.normalisation} cannot be said in a SentencePiece model as the tokenizers library"
                " does it; use normalisation: none, or writing: byte-level"
            )
        least = NUM_BYTES + len(tokens)
        if self.vocab_size < least:
            raise ValueError(
                f"vocab_size {self.vocab_size} has no room for {NUM_BYTES} bytes and {len(tokens)} special tokens;"
                f" make it at least {least}"
            )
        return self


class OwnCharacters(Configuration):
    """What a new piece must hold, so that text without it keeps its ids."""

    scripts: tuple[str, ...] = Field((), description="scripts by ISO 15924 code or Unicode's name: Deva, Devanagari")
    characters: str = Field("", description="further characters, one after the other: ąćęłńóśźżĄĆĘŁŃÓŚŹŻ")

    @model_validator(mode="after")
    def _holds_something(self) -> OwnCharacters:
        if not self.scripts and not self.characters:
            raise ValueError("name scripts or characters, or leave the setting out")
        return self


class ExtendTokenizerConfiguration(SampleConfiguration):
    """New pieces for a BPE tokenizer, learned on the text of a curated artifact."""

    new_pieces: int = Field(gt=0, description="how many pieces to add, after the last id")
    only_with: OwnCharacters | None = Field(
        None,
        description="each new piece holds one of these characters, and so every text without them keeps its exact ids;"
        " null: pieces of any characters, and old text may come out shorter",
    )
    sample_bytes: int | None = Field(
        2**27, gt=0, description="bytes of text to learn from; null learns from as many as there are"
    )


class TrimTokenizerConfiguration(Configuration):
    """Which pieces of a BPE tokenizer stay: those that a curated artifact's text uses, and what they are made of."""

    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="languages whose text counts (default: all in the documents)"
    )
    min_count: int = Field(1, ge=1, description="how often a piece must occur to stay")


class TokenizeConfiguration(Configuration):
    """How a curated artifact's documents become token shards."""

    tokens_per_shard: int = Field(2**26, gt=0, description="most tokens in a shard, unless one document alone has more")
    splits: tuple[str, ...] = Field(("train", "heldout"), min_length=1, description="which splits to tokenize")
    quality_bands: tuple[float, ...] = Field(
        (), description="part documents by the classifier's probability: [0.95] gives cells 0+ and 0.95+ of a mixture"
    )

    @model_validator(mode="after")
    def _bands_rise(self) -> TokenizeConfiguration:
        if list(self.quality_bands) != sorted({band for band in self.quality_bands if 0 < band < 1}):
            raise ValueError("quality_bands are probabilities between 0 and 1, each above the one before")
        return self


class ConversationsConfiguration(Configuration):
    """How conversations become token shards with a loss weight for each token."""

    tokens_per_shard: int = Field(2**26, gt=0, description="most tokens in a shard, unless one conversation has more")
    heldout_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the conversations, picked by the hash of their id, kept as split heldout"
    )
    strict: bool = Field(
        False, description="stop at a malformed conversation, instead of writing it to quarantine.jsonl with its line"
    )


class TokenCacheConfiguration(Configuration):
    """Where token shards that lie elsewhere are kept while they are read, and how they are fetched."""

    folder: str | None = Field(
        None,
        min_length=1,
        description="a folder on a disk of this machine, which its processes share (default: below $XDG_CACHE_HOME or"
        " ~/.cache)",
    )
    max_bytes: int = Field(2**35, gt=0, description="most bytes of shards in it; those used longest ago go")
    attempts: int = Field(6, gt=0, description="how often a file is asked for before the run ends with an error")
    first_wait_seconds: float = Field(
        1.0, ge=0, description="wait after the first failure; each further one waits twice as long, up to a minute"
    )


class MixtureConfiguration(Configuration):
    """How much of each language, source, band of quality or token stage a training stage reads."""

    by: Literal["language", "source", "quality", "cell", "tokens"] = Field(
        description="what a cell of the mixture is: a language, a source, a band of quality, all three together"
        " (SOURCE:LANGUAGE:BAND, without the band where there is none), or the tokens of one of several stages"
    )
    shares: dict[str, float] | None = Field(
        None,
        description="each cell's share of the rows, by its name; divided by their sum, so that percentages will do;"
        " cells that are not named are left out",
    )
    exponent: float = Field(
        1.0,
        ge=0,
        le=1,
        description="instead of shares: a cell's share is its rows to this power. 1: in proportion; 0: all alike;"
        " 0.3: mT5's and XLM-R's. It is 1/T where others give a temperature T",
    )
    max_epochs: float | None = Field(
        None,
        gt=0,
        description="how often the rows of a cell are read at most; what it cannot give, the others give in proportion"
        " to their shares",
    )

    @model_validator(mode="after")
    def _one_weighting(self) -> MixtureConfiguration:
        if self.shares is not None:
            if "exponent" in self.model_fields_set:
                raise ValueError("shares and exponent exclude each other; leave one of them out")
            if not self.shares or min(self.shares.values()) < 0 or not 0 < sum(self.shares.values()) < float("inf"):
                raise ValueError("shares needs at least one cell, none below 0 and not all of them 0")
        return self


class PhaseConfiguration(Configuration):
    """A part of a training stage with a mixture of its own."""

    until: float = Field(gt=0, le=1, description="where it ends: a fraction of the stage's steps; the last ends at 1")
    mixture: MixtureConfiguration = Field(description="the mixture of this part")
