"""What the tasks ask about, and the rest, from which documents and conversations are made.

Numbers and dates that are asked about stand in no document and in no conversation, in no form. Territories that are
asked about do stand in documents (a currency cannot be guessed), but no conversation mentions them.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from random import Random

from vernacular.corpus.synthetic.configuration import SyntheticConfiguration
from vernacular.corpus.synthetic.facts import long_date, territory_codes
from vernacular.corpus.synthetic.numerals import number_in_words

FIRST_DAY = datetime.date(1950, 1, 1)
NUM_DAYS = (datetime.date(2049, 12, 31) - FIRST_DAY).days + 1
NUMBERS = range(100, 1000)
# No zero units, so that no held-out number's words are the beginning of another's.
_CANDIDATES = [number for number in NUMBERS if number % 10]
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DIGITS = re.compile(r"\d+")


class HeldOut:
    """Draws what is held out from the seed, and draws everything else for those who write.

    Attributes:
        numbers: held-out numbers, asked about in both directions (digits to words, words to digits).
        dates: held-out days.
        territories: positions in `facts.territories(…)` of the held-out ones; `taught` has the others.
    """

    def __init__(self, configuration: SyntheticConfiguration) -> None:
        random = Random(f"{configuration.seed}:held out")
        items = configuration.items
        self.numbers = random.sample(_CANDIDATES, items)
        self.dates = [FIRST_DAY + datetime.timedelta(days) for days in random.sample(range(NUM_DAYS), items)]
        order = random.sample(range(len(territory_codes())), len(territory_codes()))
        self.territories, self.taught = order[:items], order[items:]
        self._number_set = set(self.numbers)
        self._date_set = set(self.dates)
        self._languages = configuration.languages
        self._phrases = self._forbidden_phrases()

    def draw_number(self, random: Random) -> int:
        """A number of three digits that is not held out."""
        while True:
            number = random.choice(NUMBERS)
            if number not in self._number_set:
                return number

    def draw_date(self, random: Random) -> datetime.date:
        """A day from 1950 to 2049 that is not held out."""
        while True:
            day = FIRST_DAY + datetime.timedelta(random.randrange(NUM_DAYS))
            if day not in self._date_set:
                return day

    def leaked(self, text: str) -> str | None:
        """The first held-out number or date that stands in `text`, in digits or in words; None if there is none."""
        for iso in _ISO_DATE.findall(text):
            if iso in self._phrases:
                return str(iso)
        for digits in _DIGITS.findall(text):
            if int(digits) in self._number_set:
                return str(digits)
        return next((phrase for phrase in self._phrases if _stands_in(phrase, text)), None)

    def _forbidden_phrases(self) -> dict[str, None]:
        phrases: list[str] = [day.isoformat() for day in self.dates]
        for language in self._languages:
            phrases += [number_in_words(number, language) for number in sorted(self._number_set)]
            phrases += [long_date(day, language) for day in self.dates]
        return dict.fromkeys(phrases)


def _stands_in(phrase: str, text: str) -> bool:
    """Whether `phrase` stands in `text` as whole words: "sixty" does not in "sixty-two", nor "7 May" in "17 May"."""
    at = text.find(phrase)
    while at >= 0:
        before, after = text[at - 1 : at], text[at + len(phrase) :][:1]
        if not _continues(before) and not _continues(after):
            return True
        at = text.find(phrase, at + 1)
    return False


def _continues(character: str) -> bool:
    return character == "-" or unicodedata.category(character or " ")[0] in "LMN"
