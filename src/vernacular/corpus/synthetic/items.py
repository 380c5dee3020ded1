"""Held-out items: a question, its answer, and for a choice three distractors of the same kind and size."""

from __future__ import annotations

import calendar
import datetime
from dataclasses import dataclass, replace
from random import Random

from vernacular.corpus.synthetic.facts import territories
from vernacular.corpus.synthetic.filling import fill_date, fill_territory
from vernacular.corpus.synthetic.held_out import NUMBERS, HeldOut
from vernacular.corpus.synthetic.numerals import number_in_words
from vernacular.corpus.synthetic.templates import templates

NUM_CHOICES = 4


@dataclass(frozen=True)
class Item:
    """One question. `choices` holds the answer and its distractors in random order; none where it is written freely."""

    question: str
    answer: str
    choices: tuple[str, ...] = ()


def _shuffled(question: str, answer: str, distractors: list[str], random: Random) -> Item:
    choices = [answer, *distractors]
    random.shuffle(choices)
    return Item(question, answer, tuple(choices))


def number_items(language: str, held_out: HeldOut, random: Random) -> list[Item]:
    """Digits to words, to choose; a distractor has one digit changed, or two neighbours exchanged."""
    question = templates(language).questions.numbers
    items = []
    for number in held_out.numbers:
        values = [number, *_similar_numbers(number, random)]
        answers = [question.answer.format(words=number_in_words(value, language)) for value in values]
        items.append(_shuffled(question.asked.format(number=number), answers[0], answers[1:], random))
    return items


def _similar_numbers(number: int, random: Random) -> list[int]:
    found: list[int] = []
    while len(found) < NUM_CHOICES - 1:
        digits = list(str(number))
        place = random.randrange(len(digits))
        if random.random() < 0.3 and place:
            digits[place - 1], digits[place] = digits[place], digits[place - 1]
        else:
            digits[place] = str(random.randint(1, 9))
        other = int("".join(digits))
        if other != number and other not in found and other in NUMBERS:
            found.append(other)
    return found


def digit_items(language: str, held_out: HeldOut) -> list[Item]:
    """Words to digits, to write."""
    question = templates(language).questions.digits
    return [
        Item(question.asked.format(words=number_in_words(number, language)), question.answer.format(number=number))
        for number in held_out.numbers
    ]


def date_items(language: str, held_out: HeldOut, random: Random) -> list[Item]:
    """ISO dates to long ones, to choose; one distractor each has another day, another month, another year."""
    question = templates(language).questions.dates
    items = []
    for day in held_out.dates:
        answers = [fill_date(question.answer, value, language) for value in (day, *_similar_dates(day, random))]
        items.append(_shuffled(fill_date(question.asked, day, language), answers[0], answers[1:], random))
    return items


def _similar_dates(day: datetime.date, random: Random) -> list[datetime.date]:
    last_day = calendar.monthrange(day.year, day.month)[1]
    other_day = random.choice([number for number in range(1, last_day + 1) if number != day.day])
    other_month = random.choice(
        [month for month in range(1, 13) if month != day.month and calendar.monthrange(day.year, month)[1] >= day.day]
    )
    # A year in which this day exists (29 February), within the same decades.
    years = [year for year in range(1950, 2050) if year != day.year]
    other_year = random.choice([year for year in years if calendar.monthrange(year, day.month)[1] >= day.day])
    return [day.replace(day=other_day), day.replace(month=other_month), day.replace(year=other_year)]


def currency_items(language: str, held_out: HeldOut, random: Random) -> list[Item]:
    """Territories to currencies, to choose.

    Distractors are the currencies of other territories drawn at random: a frequent currency is as frequent among them
    as among the answers, so preferring it gains nothing.
    """
    words = templates(language)
    question = words.questions.currencies
    everywhere = territories(language)
    items = []
    for position in held_out.territories:
        territory = everywhere[position]
        currencies = [territory.currency]
        while len(currencies) < NUM_CHOICES:
            other = random.choice(everywhere).currency
            if other not in currencies:
                currencies.append(other)
        answers = [fill_territory(question.answer, replace(territory, currency=name), words) for name in currencies]
        items.append(_shuffled(fill_territory(question.asked, territory, words), answers[0], answers[1:], random))
    return items
