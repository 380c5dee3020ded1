"""Facts put into templates."""

from __future__ import annotations

import datetime

from vernacular.corpus.synthetic.facts import Territory, long_date, weekday
from vernacular.corpus.synthetic.templates import Templates


def fill_territory(template: str, territory: Territory, words: Templates) -> str:
    """`template` with the names of `territory`, with an article where the language wants one."""
    name = words.with_article(territory.name)
    return template.format(
        territory=name,
        Territory=name[:1].upper() + name[1:],
        currency=territory.currency,
        languages=words.enumerate(territory.languages),
    )


def fill_date(template: str, day: datetime.date, language: str) -> str:
    """`template` with a day in its forms; a weekday at the beginning is capitalised."""
    text = template.format(iso=day.isoformat(), date=long_date(day, language), weekday=weekday(day, language))
    return text[:1].upper() + text[1:]
