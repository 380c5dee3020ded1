"""What a corpus is made of and how it is cleaned: the keys below `do: curate` in a recipe."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from vernacular.corpus.quality.configuration import QualityFilter
from vernacular.corpus.synthetic.configuration import SyntheticConfiguration
from vernacular.corpus.synthetic.endpoint import EndpointConfiguration
from vernacular.foundation.configuration import Configuration
from vernacular.foundation.errors import UserError

Format = Literal["text", "markdown", "jsonl", "parquet", "html", "warc", "epub", "csv", "tsv", "dataset"]

_KINDS = ("path", "huggingface", "synthetic", "endpoint")
_SPLITS = ("document", "line", "blank-lines", "chapter")
_LANGUAGE_CODE = r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*$"


class Html(Configuration):
    """How text is taken out of web pages."""

    extractor: Literal["resiliparse", "trafilatura"] = Field(
        "resiliparse", description="resiliparse: fast; trafilatura: leaves out more of what is no article, slower"
    )
    main_content: bool = Field(True, description="resiliparse: leave out menus, headers and footers")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.extractor == "trafilatura" and not self.main_content:
            raise ValueError("trafilatura takes the main content only; set extractor: resiliparse for whole pages")
        return self


class Source(Configuration):
    """One source of documents: exactly one of `path`, `huggingface`, `synthetic` and `endpoint`."""

    name: str = Field(
        "", description="what the source is called in documents and reports; without it, the last part of its path"
    )
    path: str | None = Field(None, min_length=1, description="file, folder, glob or fsspec URL (s3://…, https://…)")
    huggingface: str | None = Field(None, description="dataset id on the Hugging Face hub, or a saved dataset's folder")
    synthetic: SyntheticConfiguration | None = Field(None, description="settings of the built-in generator")
    endpoint: EndpointConfiguration | None = Field(None, description="a server whose language model writes documents")

    format: Format | None = Field(None, description="the files' format; without it, by their extension")
    only: tuple[str, ...] | None = Field(None, description='read only files whose name or path fits, as ["*.txt"]')
    text: str | int = Field("text", description="field or column of the text; without header its number, from 0")
    language: str | None = Field(None, pattern=_LANGUAGE_CODE, description="language that all its documents are in")
    language_field: str | int | None = Field(
        None, description="field or column naming each document's language (WARC: a header)"
    )
    id_field: str | int | None = Field(None, description="field or column named in provenance beside the line")
    split: str | None = Field(
        None,
        description="plain text: document (a file is one), line or blank-lines; EPUB: document or chapter; "
        "Hugging Face: the dataset's split",
    )
    html: Html = Field(Html(), description="how text is taken out of web pages (HTML, WARC)")
    subset: str | None = Field(None, description="Hugging Face: the dataset's configuration name")
    header: bool | None = Field(None, description="CSV and TSV: the first line names the columns (CSV: yes, TSV: no)")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("name"):
            return value
        place = value.get("path") or value.get("huggingface")
        written = "endpoint" if value.get("endpoint") else "synthetic"
        name = str(place).rstrip("/").rsplit("/", 1)[-1] if place else written
        return {**value, "name": name}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            given = " and ".join(kinds) or "none"
            raise ValueError(
                f"source '{self.name}': give exactly one of {', '.join(_KINDS[:-1])} and {_KINDS[-1]} (given: {given})"
            )
        if self.path is not None and self.split not in (None, *_SPLITS):
            raise ValueError(
                f"source '{self.name}': split must be {', '.join(_SPLITS[:-1])} or {_SPLITS[-1]}, not '{self.split}'"
            )
        if self.language and self.language_field is not None:
            raise ValueError(f"source '{self.name}': give language or language_field, not both")
        return self


class Normalisation(Configuration):
    """How text is repaired before anything is measured."""

    repair: bool = Field(True, description="turn mojibake, HTML entities and stray controls back into text (ftfy)")
    keep_indentation: bool = Field(False, description="keep white space at the start of lines (code, nested lists)")


class Identification(Configuration):
    """How languages are told apart."""

    restrict: bool = Field(False, description="consider only the recipe's languages (others are then never found)")
    prior: float = Field(4.0, ge=1, description="how many times likelier a language of the recipe is beforehand")
    minimum_probability: float | None = Field(
        None, ge=0, le=1, description='below it a document is undecided, "und"; null: calibrated for each language'
    )
    romanised: bool = Field(True, description="know languages of India in Latin letters (hi-Latn, hi-Latn+en)")
    minimum_letters: int = Field(12, ge=1, description="with fewer, only a script can decide")
    sample_bytes: int = Field(1024, ge=64, description="UTF-8 bytes of each document that are looked at")


class Filters(Configuration):
    """Rules that remove documents. A threshold left out is the one of the document's language or script
    (`corpus/data/thresholds.yaml`, `corpus/data/languages/`).
    """

    families: tuple[str, ...] = Field(
        ("general",),
        description="families of rules: general (ours), gopher_repetition, gopher_quality, c4, mc4, fineweb, granite",
    )
    thresholds: dict[str, float] = Field(
        {}, description="bounds of the published families' rules, as {gopher_quality.too_few_words: 30}"
    )
    fitted: str | None = Field(None, description="thresholds per language that `vernacular fit-thresholds` wrote")
    disable: tuple[str, ...] = Field((), description="names of rules not to apply, as in the report's reasons")
    minimum_characters: int | None = Field(None, ge=1, description="too_short: graphemes")
    maximum_characters: int | None = Field(None, ge=1, description="too_long: graphemes")
    minimum_words: int | None = Field(None, ge=1, description="too_short: words, in scripts that separate them")
    maximum_broken: float | None = Field(None, ge=0, le=1, description="broken_encoding: share of damaged characters")
    minimum_letters: float | None = Field(None, ge=0, le=1, description="few_letters: share of non-space characters")
    maximum_digits: float | None = Field(None, ge=0, le=1, description="digits: share of non-space characters")
    maximum_symbols: float | None = Field(None, ge=0, le=1, description="symbols: share of non-space characters")
    minimum_word_length: float | None = Field(None, ge=0, description="word_length: mean graphemes a word, at least")
    maximum_word_length: float | None = Field(None, ge=0, description="word_length: mean graphemes a word, at most")
    maximum_repeated_lines: float | None = Field(
        None, ge=0, le=1, description="repeated_lines: share of characters in lines that stood before"
    )
    maximum_repeated_ngrams: float | None = Field(
        None, ge=0, le=1, description="repeated_ngrams: share of word 5-grams that stood before"
    )
    maximum_top_word: float | None = Field(
        None, ge=0, le=1, description="repeated_words: share of the commonest word that is no stop word"
    )
    minimum_variety: float | None = Field(
        None, ge=0, description="repeated_words: different words divided by the square root of all words"
    )
    maximum_boilerplate: float | None = Field(
        None, ge=0, le=1, description="boilerplate: share of characters in sentences with a phrase of menus and notices"
    )
    maximum_spam: float | None = Field(
        None, ge=0, le=1, description="spam: share of characters in sentences with a phrase of spam, or in links"
    )
    minimum_stop_words: float | None = Field(
        None, ge=0, le=1, description="no_prose: share of words that are the language's stop words (longer documents)"
    )

    def bounds(self) -> dict[str, float]:
        """The thresholds of the general rules that are given."""
        named = (name for name in type(self).model_fields if name.startswith(("minimum_", "maximum_")))
        return {name: getattr(self, name) for name in named if getattr(self, name) is not None}


class Repairs(Configuration):
    """What is cut out of a text, line by line."""

    notices: bool = Field(True, description="menus, and lines of banners, forms and terms, where there are two or more")
    running_heads: bool = Field(False, description="short lines that stand on many pages, and page numbers (books)")
    c4_lines: bool = Field(False, description="whatever C4's rules for lines do not take for prose")


PersonalKind = Literal["email", "phone", "address", "pesel", "nip", "aadhaar", "pan", "iban", "card", "ip"]


class PersonalData(Configuration):
    """Personal data that is masked, each kind by a mark of its own, as [EMAIL]."""

    mask: tuple[PersonalKind, ...] = Field(
        get_args(PersonalKind), description="kinds that are masked; [] leaves texts as they are"
    )


class ExactDuplicates(Configuration):
    """Of equal documents one stays; of equal paragraphs or lines too, by wish."""

    unit: Literal["document", "paragraph", "line"] = Field(
        "document",
        description="the smallest piece of text of which one stays in the corpus; paragraphs end at blank lines",
    )
    minimum_characters: int = Field(
        30, ge=1, description="paragraphs and lines of fewer code points stay, however often they stand"
    )


class NearDuplicates(Configuration):
    """Near-duplicate removal: MinHash finds candidates, the exact Jaccard similarity of their shingles decides."""

    enabled: bool = Field(True, description="remove near-duplicates")
    threshold: float = Field(0.8, gt=0, le=1, description="Jaccard similarity from which two documents are duplicates")
    unit: Literal["word", "grapheme"] = Field(
        "word", description="what shingles are made of; in scripts that separate no words every letter is a word"
    )
    shingle: int = Field(4, ge=1, le=32, description="words (or graphemes) a shingle")
    hashes: int = Field(128, ge=16, le=1024, description="MinHash values per document")
    bands: int | None = Field(
        None, ge=1, description="bands they are cut into; null: as wide as recall 0.999 at the threshold allows"
    )
    groupings: int = Field(
        1, ge=1, le=16, description="ways in which they are cut into bands; each finds pairs that the others miss"
    )

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.bands is not None and self.bands > self.hashes:
            raise ValueError(f"bands ({self.bands}) must not exceed hashes ({self.hashes})")
        if self.bands is not None and self.groupings > self.bands:
            raise ValueError(f"groupings ({self.groupings}) must not exceed bands ({self.bands})")
        return self


class Decontamination(Configuration):
    """Which benchmarks the corpus is searched for, and what becomes of the documents that hold their items."""

    tasks: tuple[str, ...] = Field(
        (), description="harness tasks (folder of YAML, YAML file, stage that gives tasks), or folders of JSON Lines"
    )
    only: tuple[str, ...] = Field((), description="names of the tasks to search for, * and ? allowed (default: all)")
    suite: str | None = Field(
        None, description="a card's suite, as krutrim-1: its built-in tasks; with `tasks`, only those of them"
    )
    data: str | None = Field(None, description="folder with the data of tasks that have none beside their YAML")
    only_available: bool = Field(False, description="leave out built-in tasks without data in that folder")
    fields: tuple[str, ...] = Field((), description="JSON Lines: the fields that make up an item (default: all text)")
    task_code: bool = Field(False, description="whether tasks may bring their own Python; it runs unprotected")
    action: Literal["drop", "cut", "report"] = Field(
        "drop", description="drop: remove the documents; cut: take the passages out of them; report: leave them"
    )
    coverage: float | None = Field(
        None, gt=0, le=1, description="share of an item that a document must hold; null: corpus/data/overlaps.yaml"
    )
    sizes: dict[str, int] = Field(
        {}, description="units of a run by script, as {Deva: 8}, in place of those in corpus/data/overlaps.yaml"
    )
    margin: int = Field(200, ge=0, description="cut: characters that go on both sides of a passage (as for GPT-3)")
    minimum_characters: int = Field(
        200, ge=1, description="cut: what is left between passages goes too if it is shorter (as for GPT-3)"
    )

    @model_validator(mode="after")
    def _something_to_search_for(self) -> Self:
        if not self.tasks and self.suite is None:
            raise ValueError("name the benchmarks to search for, by `tasks`, `suite` or both")
        return self


class Heldout(Configuration):
    """Documents set aside, per language, never trained on."""

    share: float = Field(0.02, ge=0, le=0.5, description="share of each language's documents")
    at_least: int = Field(8, ge=0, description="documents of each language, where a fifth of it is as many")


_MEMORY = r"^[0-9]+(\.[0-9]+)? ?(MB|GB|TB)$"
_UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
# What a process takes that reads documents (Python, Arrow, tables of characters, language models, what it has in hand),
# and one that hands them out to others.
_BYTES_TO_WORK, _BYTES_TO_HAND_OUT = 700 * 10**6, 400 * 10**6


class Engine(Configuration):
    """What the work runs on. Nothing here changes the result."""

    runner: Literal["native", "ray"] = Field("native", description="native: this machine; ray: a Ray cluster")
    address: str | None = Field(None, description="of the Ray cluster; null: the one at hand, or one on this machine")
    workers: int | None = Field(
        None, ge=1, description="processes; null: one per core, as far as memory allows (ray: per core of the cluster)"
    )
    memory: str = Field("8GB", pattern=_MEMORY, description="what all processes on a machine may take together")

    @property
    def memory_bytes(self) -> int:
        """The memory in bytes."""
        return int(float(self.memory[:-2]) * _UNITS[self.memory[-2:]])

    def fitting_workers(self) -> int:
        """How many processes of one machine the memory has room for, at least one.

        Raises:
            UserError: not for as many as are asked for.
        """
        several = (self.memory_bytes - _BYTES_TO_HAND_OUT) // _BYTES_TO_WORK
        fitting = several if several > 1 else int(self.memory_bytes >= _BYTES_TO_WORK)
        asked = self.workers or 1
        if asked > fitting:
            processes = "a process" if asked == 1 else f"{asked} processes"
            raise UserError(
                f"{self.memory} of memory are too little for {processes} of about 0.7 GB",
                where="engine.memory",
                fix="allow more memory, or fewer `workers`" if asked > 1 else "allow 700MB at least",
            )
        return fitting

    @model_validator(mode="after")
    def _address_fits(self) -> Self:
        if self.address is not None and self.runner != "ray":
            raise ValueError("address is that of a Ray cluster; set runner: ray, or leave it out")
        return self


class CurateConfiguration(Configuration):
    """Settings of the stage `curate`: sources of text in, clean deduplicated documents out."""

    sources: tuple[Source, ...] = Field(min_length=1, description="where documents come from")
    languages: tuple[str, ...] | None = Field(
        None,
        description="languages to keep (ISO 639), others are removed as wrong_language; null keeps all",
    )
    normalisation: Normalisation = Field(Normalisation(), description="repair of encoding and white space")
    identification: Identification = Field(Identification(), description="language identification")
    filters: Filters = Field(Filters(), description="rules that remove documents")
    repairs: Repairs = Field(Repairs(), description="lines that are cut out of texts")
    personal_data: PersonalData = Field(PersonalData(), description="personal data that is masked")
    quality: QualityFilter | None = Field(None, description="the classifier that grades documents, and what it keeps")
    exact_duplicates: ExactDuplicates = Field(ExactDuplicates(), description="removal of equal pieces of text")
    near_duplicates: NearDuplicates = Field(NearDuplicates(), description="near-duplicate removal")
    decontamination: Decontamination | None = Field(None, description="benchmarks that the corpus is searched for")
    heldout: Heldout = Field(Heldout(), description="documents set aside for evaluation")
    strict: bool = Field(False, description="stop at the first broken record instead of setting it aside")
    seed: int = Field(0, ge=0, description="decides which documents are set aside, and the MinHash permutations")
    engine: Engine = Field(Engine(), description="what the work runs on", json_schema_extra={"changes_result": False})

    @field_validator("languages")
    @classmethod
    def _languages_are_codes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        import re

        for code in value or ():
            if not re.match(_LANGUAGE_CODE, code):
                raise ValueError(f"'{code}' is not a language code; write ISO 639 codes such as hi, pl, en")
        if value is not None and not value:
            raise ValueError("languages is empty; name at least one, or write null to keep all")
        return value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called '{twice[0]}'; give each its own `name`")
        return self
