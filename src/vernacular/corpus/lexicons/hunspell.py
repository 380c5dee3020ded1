"""Hunspell dictionaries: a list of stems and the affixes each may take, spelt out into all the words they stand for.

Format: hunspell(5). Read are SET, FLAG, AF, PFX and SFX (with conditions, cross products and one continuation),
NEEDAFFIX, FORBIDDENWORD and ONLYINCOMPOUND. Compounds are not made.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vernacular.foundation.errors import UserError

_AFFIXES = ("PFX", "SFX")
_RULE_FIELDS, _HEADER_FIELDS = 5, 4
_NOTHING = "0"


@dataclass(frozen=True)
class _Rule:
    """One line of an affix: take `strip` off, put `add` on, where `condition` holds; `flags` may follow."""

    strip: str
    add: str
    condition: re.Pattern[str] | None
    flags: tuple[str, ...]


@dataclass
class _Affixes:
    """What an .aff file says."""

    encoding: str = "iso-8859-1"
    flag_kind: str = "char"
    aliases: list[tuple[str, ...]] = field(default_factory=list)
    rules: dict[str, dict[str, list[_Rule]]] = field(
        default_factory=lambda: {kind: defaultdict(list) for kind in _AFFIXES}
    )
    crossing: set[str] = field(default_factory=set)
    no_word: set[str] = field(default_factory=set)
    needs_affix: set[str] = field(default_factory=set)

    def flags(self, text: str) -> tuple[str, ...]:
        """The flags behind a stem's or an affix's slash."""
        if self.aliases and text.isdigit():
            return self.aliases[int(text) - 1]
        if self.flag_kind == "long":
            return tuple(text[place : place + 2] for place in range(0, len(text), 2))
        return tuple(text.split(",")) if self.flag_kind == "num" else tuple(text)


def words(dictionary: Path) -> Iterator[str]:
    """Every word that a dictionary accepts, some of them more than once.

    Args:
        dictionary: the .dic file; the .aff file of the same name stands beside it.

    Raises:
        UserError: a file is missing, or is not in the encoding it names.
    """
    affixes = _read_affixes(dictionary.with_suffix(".aff"))
    for line in _read_lines(dictionary, affixes.encoding)[1:]:
        entry = line.split("\t")[0].split(" ")[0]
        stem, _, flags = entry.replace("\\/", "\0").partition("/")
        if stem and not stem.startswith("#"):
            yield from _spelt_out(stem.replace("\0", "/"), affixes.flags(flags), affixes)


def _spelt_out(stem: str, flags: tuple[str, ...], affixes: _Affixes) -> Iterator[str]:
    if affixes.no_word.intersection(flags):
        return
    if not affixes.needs_affix.intersection(flags):
        yield stem
    prefixes = [flag for flag in flags if flag in affixes.rules["PFX"]]
    for prefix in prefixes:
        yield from (form for form, _ in _prefixed(stem, prefix, affixes))
    for suffix in flags:
        for form, more in _suffixed(stem, suffix, affixes):
            yield form
            for second in more:
                yield from (twice for twice, _ in _suffixed(form, second, affixes))
            if suffix in affixes.crossing:
                for prefix in prefixes:
                    if prefix in affixes.crossing:
                        yield from (both for both, _ in _prefixed(form, prefix, affixes))


def _suffixed(stem: str, flag: str, affixes: _Affixes) -> Iterator[tuple[str, tuple[str, ...]]]:
    for rule in affixes.rules["SFX"].get(flag, ()):
        if stem.endswith(rule.strip) and (rule.condition is None or rule.condition.search(stem)):
            yield stem[: len(stem) - len(rule.strip)] + rule.add, rule.flags


def _prefixed(stem: str, flag: str, affixes: _Affixes) -> Iterator[tuple[str, tuple[str, ...]]]:
    for rule in affixes.rules["PFX"].get(flag, ()):
        if stem.startswith(rule.strip) and (rule.condition is None or rule.condition.match(stem)):
            yield rule.add + stem[len(rule.strip) :], rule.flags


def _read_affixes(path: Path) -> _Affixes:
    affixes = _Affixes()
    raw = path.read_bytes() if path.is_file() else b""
    named = re.search(rb"(?m)^\xef?\xbb?\xbf?SET[ \t]+(\S+)", raw)
    if named:
        affixes.encoding = named[1].decode("ascii").replace("microsoft-", "").lower()
    for line in _read_lines(path, affixes.encoding):
        fields = line.split()
        match fields:
            case ["FLAG", kind, *_]:
                affixes.flag_kind = kind.lower()
            case ["AF", flags, *_] if len(affixes.aliases) or not flags.isdigit():
                affixes.aliases.append(tuple(flags) if affixes.flag_kind == "char" else _plain(affixes, flags))
            case ["NEEDAFFIX" | "PSEUDOROOT", flag, *_]:
                affixes.needs_affix.add(flag)
            case ["FORBIDDENWORD" | "ONLYINCOMPOUND", flag, *_]:
                affixes.no_word.add(flag)
            case ["PFX" | "SFX" as kind, flag, *_] if len(fields) >= _RULE_FIELDS:
                affixes.rules[kind][flag].append(_rule(kind, fields, affixes))
            case ["PFX" | "SFX", flag, "Y", _] if len(fields) == _HEADER_FIELDS:
                affixes.crossing.add(flag)
    return affixes


def _plain(affixes: _Affixes, flags: str) -> tuple[str, ...]:
    aliases, affixes.aliases = affixes.aliases, []
    try:
        return affixes.flags(flags)
    finally:
        affixes.aliases = aliases


def _rule(kind: str, fields: list[str], affixes: _Affixes) -> _Rule:
    strip, added, condition = fields[2:5]
    add, _, flags = added.partition("/")
    return _Rule(
        "" if strip == _NOTHING else strip,
        "" if add == _NOTHING else add,
        _condition(kind, condition),
        affixes.flags(flags) if flags else (),
    )


@functools.cache
def _condition(kind: str, text: str) -> re.Pattern[str] | None:
    """A condition is a pattern of letters, dots and brackets, at the end of a stem or at its beginning."""
    if text == ".":
        return None
    pattern = "".join(
        part if part.startswith("[") or part == "." else re.escape(part) for part in re.findall(r"\[[^\]]*\]|.", text)
    )
    return re.compile(f"(?:{pattern})$" if kind == "SFX" else pattern)


def _read_lines(path: Path, encoding: str) -> list[str]:
    try:
        return path.read_text(encoding=encoding).lstrip("\ufeff").splitlines()
    except FileNotFoundError as error:
        raise UserError("this part of a dictionary is missing", where=path, fix="install the package again") from error
    except (UnicodeDecodeError, LookupError) as error:
        raise UserError(f"the dictionary cannot be read as {encoding}: {error}", where=path) from error
