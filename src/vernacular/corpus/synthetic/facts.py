"""Facts from the Unicode CLDR by way of Babel: territories, their currencies and languages, dates, months."""

from __future__ import annotations

import datetime
import unicodedata
from dataclasses import dataclass
from functools import cache

from babel import Locale
from babel.dates import format_date
from babel.languages import get_official_languages
from babel.numbers import get_currency_name, get_territory_currencies

# Territories are kept when they have a plain name and one named currency in each of these, so that every
# language of the corpus is asked about the same places.
_ASKED_LANGUAGES = ("hi", "pl", "en")
# Marks of a name that is not one plain phrase: "Congo - Kinshasa", "Myanmar (Burma)", "[CFP] …".
_AWKWARD = ("(", "[", " - ", " – ")


@dataclass(frozen=True)
class Territory:
    """A country or territory as one language names it.

    `currency` is the only legal tender of today; `languages` are the official ones, maybe none.
    """

    code: str
    name: str
    currency_code: str
    currency: str
    languages: tuple[str, ...]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace(" & ", " and "))


@cache
def territory_codes() -> tuple[str, ...]:
    """ISO 3166 codes of the territories with one currency and plain names in Hindi, Polish and English, sorted."""
    codes = sorted(map(str, Locale("en").territories))
    return tuple(code for code in codes if len(code) == 2 and code.isalpha() and _is_plain(code))


def _is_plain(code: str) -> bool:
    currencies = get_territory_currencies(code)
    if len(currencies) != 1:
        return False
    names = [Locale(language).territories.get(code, "(") for language in _ASKED_LANGUAGES]
    names += [get_currency_name(currencies[0], count=1, locale=language) for language in _ASKED_LANGUAGES]
    return not any(mark in name for name in names for mark in _AWKWARD) and currencies[0] not in names


@cache
def territories(language: str) -> tuple[Territory, ...]:
    """All territories of `territory_codes()` named in `language`, in the order of their codes."""
    locale = Locale(language)
    found = []
    for code in territory_codes():
        (currency_code,) = get_territory_currencies(code)
        found.append(
            Territory(
                code=code,
                name=_plain(locale.territories.get(code, code)),
                currency_code=currency_code,
                currency=_plain(get_currency_name(currency_code, count=1, locale=locale)),
                languages=_official_languages(code, locale),
            )
        )
    return tuple(found)


def _official_languages(territory: str, locale: Locale) -> tuple[str, ...]:
    codes = dict.fromkeys(code.split("_")[0] for code in get_official_languages(territory))
    return tuple(_plain(locale.languages[code]) for code in codes if code in locale.languages)


def long_date(day: datetime.date, language: str) -> str:
    """The CLDR's long form of a date: "17 kwietnia 2031"."""
    return _plain(format_date(day, format="long", locale=language))


def weekday(day: datetime.date, language: str) -> str:
    """Name of the day of the week, as it stands alone."""
    return _plain(Locale(language).days["stand-alone"]["wide"][day.weekday()])


def months(language: str) -> tuple[str, ...]:
    """Names of the twelve months as they stand alone (in the nominative)."""
    names = Locale(language).months["stand-alone"]["wide"]
    return tuple(_plain(names[number]) for number in range(1, 13))
