"""Personal data in texts: found by form, words around and checksums, and masked.

Which words stand before a telephone number, what an address looks like and what masks each kind is data
(`data/personal.yaml`). Numbers in any script's digits are found.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from ipaddress import AddressValueError, IPv4Address
from typing import Any

import numpy as np
import phonenumbers
import pyarrow as pa
import pyarrow.compute as pc
import regex
import yaml
from stdnum import iban, isbn, luhn
from stdnum.in_ import aadhaar, pan
from stdnum.pl import nip, pesel

from vernacular.corpus.normalisation import ANY_SPACE

# What every text with a mailbox or a number holds, as RE2 takes it, which looks for it in a whole batch at once.
# Of postal addresses the data says it.
_SIGNS = {
    "email": r"[\pL\pN._%+-](?:@|\s?[(\[{]\s?(?:at|AT|małpa|@)\s?[)\]}]\s?)[\pL\pN]",
    "number": r"\d(?:[ \x{A0}.()/–-]{0,3}\d){6}|(?:\d{1,3}\.){3}\d|[A-Z]{5}\d{4}[A-Z]"
    r"|[A-Z]{2}\d{2}[ \x{A0}]?[A-Z\d]{4}[ \x{A0}]?[A-Z\d]{4}",
}
# Latin letters only: scripts without spaces stand right beside an address.
_EMAIL = regex.compile(
    r"""(?<![\p{Latin}\p{N}._%+-])
    [\p{Latin}\p{N}_%+-]+(?:\.[\p{Latin}\p{N}_%+-]+)*
    (?:@|\s?[(\[{]\s?(?:at|AT|małpa|@)\s?[)\]}]\s?)
    (?:[\p{Latin}\p{N}](?:[\p{Latin}\p{N}-]*[\p{Latin}\p{N}])?(?:\.|\s?[(\[{]\s?(?:dot|DOT|kropka)\s?[)\]}]\s?))+[a-zA-Z]{2,24}
    (?![\p{Latin}\p{N}])""",
    regex.VERBOSE,
)
# Unified Payments Interface: an address without a domain, of a bank's handle.
_UPI = regex.compile(
    r"(?<![\p{L}\p{N}._-])[\p{L}\p{N}][\p{L}\p{N}._-]+@"
    r"(?:ok(?:axis|icici|sbi|hdfcbank)|upi|ybl|ibl|axl|paytm|apl|barodampay|icici|sbi|hdfcbank|axisbank)(?![\p{L}\p{N}.])"
)
_IBAN = regex.compile(r"(?<![\p{L}\p{N}])[A-Z]{2}\d{2}(?:[  ]?[A-Z\d]{4}){2,7}(?:[  ]?[A-Z\d]{1,4})?(?![\p{L}\p{N}])")
_PAN = regex.compile(r"(?<![\p{L}\p{N}])[A-Z]{5}\d{4}[A-Z](?![\p{L}\p{N}])")
_IP = regex.compile(r"(?<![\d.\p{L}])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
# A number: digits, with at most two marks or spaces between two of them.
_NUMBER = regex.compile(r"(?<![\p{L}\p{N}_.,/@-])\+?\(?\d(?:[  .()/–-]{0,3}\d){6,25}(?![\p{L}\p{N}_@%]|[.,/-]\d)")
_DATE = regex.compile(
    r"(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ]|(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|1[0-2])[-./](?:19|20)?\d\d"
)
_CARD_PREFIX = regex.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|3(?:0[0-5]|[68])|6(?:011|5|4[4-9]|0|2|7|8|9)|8[12]|508|35"
)
_OTHER_DIGIT = regex.compile(r"[^\D0-9]")
_BEFORE = 40


@dataclass(frozen=True)
class Span:
    """One piece of personal data: its kind and its code points in the text."""

    kind: str
    start: int
    end: int


def find_personal(text: str, language: str = "und") -> list[Span]:
    """The personal data of a text, in its order, none overlapping another.

    Args:
        text: any text.
        language: decides by which countries' plans a national telephone number is read.
    """
    return _find(text, language, frozenset(_signs()))


def _find(text: str, language: str, signs: frozenset[str]) -> list[Span]:
    """As `find_personal`, in a text that has these of `_signs` and no others."""
    # One code point becomes one, so that places stay.
    plain = text if text.isascii() else _OTHER_DIGIT.sub(_plain, text)
    found: list[Span] = []
    taken = bytearray(len(text))
    for span in _every(plain, language, signs):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\x01" * (span.end - span.start)
            found.append(span)
    return sorted(found, key=lambda span: span.start)


def mask(texts: pa.Array, languages: list[str], kinds: Iterable[str]) -> tuple[pa.Array, list[Counter[str]]]:
    """Put a mask in place of personal data.

    Args:
        texts: large_string [D] without nulls.
        languages: of each.
        kinds: which of `PersonalKind`.

    Returns:
        The texts, and per document how many of each kind were masked.
    """
    wanted = set(kinds)
    counts = [Counter[str]() for _ in languages]
    names = list(_signs())
    found = [pc.match_substring_regex(texts, sign).to_numpy(zero_copy_only=False) for sign in _signs().values()]
    suspicious = np.flatnonzero(np.any(found, axis=0))
    if not wanted or not len(suspicious):
        return texts, counts
    values = texts.to_pylist()
    for index in suspicious.tolist():
        signs = frozenset(name for name, has in zip(names, found, strict=True) if has[index])
        spans = [span for span in _find(values[index], languages[index], signs) if span.kind in wanted]
        for span in reversed(spans):
            values[index] = values[index][: span.start] + _data()["masks"][span.kind] + values[index][span.end :]
            counts[index][span.kind] += 1
    return pa.array(values, pa.large_string()), counts


def _every(text: str, language: str, signs: frozenset[str]) -> Iterator[Span]:
    """Candidates, the most certain kinds first."""
    if "email" in signs:
        for pattern in (_EMAIL, _UPI):
            for match in pattern.finditer(text):
                yield Span("email", *match.span())
    if "number" in signs:
        for match in _IBAN.finditer(text):
            if (end := _longest_valid(match[0], iban.is_valid)) is not None:
                yield Span("iban", match.start(), match.start() + end)
        for match in _PAN.finditer(text):
            if pan.is_valid(match[0]):
                yield Span("pan", *match.span())
    if "address" in signs:
        for pattern in _addresses():
            for match in pattern.finditer(text):
                yield Span("address", *match.span())
    if "number" in signs:
        for match in _IP.finditer(text):
            if _is_public(match[0]) and not _names_other(text[: match.start()]):
                yield Span("ip", *match.span())
        for match in _NUMBER.finditer(text):
            yield from _numbers(text, match.start(), match.end(), language)


def _numbers(text: str, start: int, end: int, language: str) -> Iterator[Span]:
    """What a number is; of several with spaces between them each by itself, if together they are nothing."""
    kind = _kind_of_number(text, start, end, language)
    if kind is not None:
        # A bracket that opens inside the number and closes behind it belongs to the sentence.
        yield Span(kind, start, end)
        return
    for piece in regex.finditer(r"\S+", text[start:end]):
        first, last = start + piece.start(), start + piece.end()
        if (first, last) != (start, end) and sum(map(str.isdigit, piece[0])) >= 7:
            kind = _kind_of_number(text, first, last, language)
            if kind is not None:
                yield Span(kind, first, last)


def _kind_of_number(text: str, start: int, end: int, language: str) -> str | None:
    written = text[start:end]
    digits = "".join(filter(str.isdigit, written))
    before = text[max(start - _BEFORE, 0) : start]
    is_other, is_phone = _names_other(before), _names_phone(before)
    if _DATE.match(written) or (
        len(digits) in (10, 13) and isbn.is_valid(digits) and _looks_like_book(written, before)
    ):
        return None
    if written[0] == "+":
        return "phone" if _is_phone(written, None) else None
    grouped = regex.fullmatch(r"\d{4}([  -])\d{4}\1\d{4}(?:\1\d{4})?", written) is not None
    alone = written.isdigit()
    checks: tuple[tuple[str, bool, Callable[[], bool]], ...] = (
        ("card", 13 <= len(digits) <= 19 and (alone or grouped or _is_amex(written)), lambda: _is_card(digits)),
        ("aadhaar", len(digits) == 12 and (alone or grouped), lambda: aadhaar.is_valid(digits)),
        ("pesel", len(digits) == 11 and alone, lambda: pesel.is_valid(digits)),
        ("nip", len(digits) == 10 and _is_written_as_nip(written, before), lambda: nip.is_valid(digits)),
    )
    for kind, fits, is_valid in checks:
        if fits and not (is_other and not _names(before, kind)) and not (is_phone and alone) and is_valid():
            return kind
    if is_other and not is_phone:
        return None
    regions = _data()["regions"]
    # With a word such as "tel." before it, a number of any country; by its form alone, one of the language's countries.
    likely = sorted({place for places in regions.values() for place in places}) if is_phone else []
    if not likely and _looks_like_phone(written, digits):
        likely = regions.get(language, regions["default"])
    if any(_is_phone(written, region) for region in likely):
        return "phone"
    return None


def _looks_like_phone(written: str, digits: str) -> bool:
    """Whether a number is written as telephone numbers are and other numbers are not."""
    return (
        # (22) 123 45 67, 022-2345-6789, 98765 43210, 98765-43210, 601-234-567, 0 98765 43210
        regex.fullmatch(r"\(\d{2,5}\)[  -]?\d{2,4}(?:[  -]?\d{2,4}){1,3}", written) is not None
        or regex.fullmatch(r"0\d{1,4}[-–  /]\d{3,8}(?:[  -]\d{2,4}){0,3}", written) is not None
        or regex.fullmatch(r"0?[  -]?[6-9]\d{4}[  -]\d{5}", written) is not None
        or regex.fullmatch(r"\d{3}-\d{3}-\d{3,4}", written) is not None
        or regex.fullmatch(r"\d{2}[  -]\d{3}[  -]\d{2}[  -]\d{2}", written) is not None
        or (len(digits) == 10 and written.isdigit() and digits[0] in "6789")
        or (written.startswith("00") and len(digits) >= 11)
    )


def _is_phone(written: str, region: str | None) -> bool:
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(written, region)))
    except phonenumbers.NumberParseException:
        return False


def _is_card(digits: str) -> bool:
    return _CARD_PREFIX.match(digits) is not None and len(set(digits)) > 2 and luhn.is_valid(digits)


def _is_amex(written: str) -> bool:
    return regex.fullmatch(r"3\d{3}[  -]\d{6}[  -]\d{5}", written) is not None


def _is_written_as_nip(written: str, before: str) -> bool:
    hyphens = regex.fullmatch(r"\d{3}-\d{3}-\d{2}-\d{2}|\d{3}-\d{2}-\d{2}-\d{3}", written) is not None
    return hyphens or bool(_words("nip_words").search(before))


def _looks_like_book(written: str, before: str) -> bool:
    return written.startswith(("978", "979")) or "isbn" in before.lower()


def _is_public(written: str) -> bool:
    try:
        return IPv4Address(written).is_global
    except AddressValueError:
        return False


def _longest_valid(written: str, is_valid: Callable[[str], bool]) -> int | None:
    """How much of what is written is valid: words in capitals may follow it."""
    ends = [match.start() for match in regex.finditer(r"[  ]", written)]
    return next((end for end in (len(written), *reversed(ends)) if is_valid(written[:end])), None)


def _names_phone(before: str) -> bool:
    return _last(before, _words("phone_words")) > _last(before, _words("other_words"))


def _names_other(before: str) -> bool:
    return _last(before, _words("other_words")) > _last(before, _words("phone_words"))


def _names(before: str, kind: str) -> bool:
    return kind in before.lower()


def _last(before: str, pattern: Any) -> int:
    """Where the last such word stands; -1 where none does. A sentence's end lies between it and the number: none."""
    matches = [match.start() for match in pattern.finditer(before)]
    return matches[-1] if matches and not regex.search(r"[.!?।]\s+\p{Lu}", before[matches[-1] :]) else -1


def _plain(digit: regex.Match[str]) -> str:
    """An ASCII digit for a digit of any script."""
    return str(unicodedata.decimal(digit[0], digit[0]))


@cache
def _signs() -> dict[str, str]:
    """By name the signs of mailboxes, numbers and postal addresses, with the white space and digits of all scripts."""
    signs = {**_SIGNS, "address": "|".join(entry["sign"] for entry in _data()["addresses"].values())}
    return {name: sign.replace(r"\s", ANY_SPACE).replace(r"\d", r"\pN") for name, sign in signs.items()}


@cache
def _words(key: str) -> Any:
    words = sorted(_data()[key], key=len, reverse=True)
    return regex.compile(
        r"(?<![\p{L}\p{M}])(?:" + "|".join(map(regex.escape, words)) + r")(?![\p{L}\p{M}])", regex.IGNORECASE
    )


@cache
def _addresses() -> tuple[Any, ...]:
    patterns = (entry["pattern"] for entry in _data()["addresses"].values())
    return tuple(regex.compile(pattern.strip()) for pattern in patterns)


@cache
def _data() -> dict[str, Any]:
    return yaml.safe_load(files("vernacular.corpus").joinpath("data", "personal.yaml").read_text(encoding="utf-8"))
