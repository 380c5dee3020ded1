"""A few sentences in Polish and Hindi, each its own, and files of them to curate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vernacular.corpus.configuration import CurateConfiguration
from vernacular.foundation.configuration import validate

CITIES = ["Kraków", "Wrocław", "Gdańsk", "Łódź", "Poznań", "Lublin", "Toruń", "Opole", "Rzeszów", "Kielce"]
ANIMALS = ["bociana", "żubra", "łosia", "wilka", "borsuka", "jeża", "dzika", "sarnę", "zająca", "lisa"]
DISHES = ["गाजर", "आलू", "मटर", "गोभी", "पालक", "बैंगन", "भिंडी", "लौकी", "करेला", "टमाटर"]
FRIENDS = ["मोहन", "सीता", "गीता", "रमेश", "सुरेश", "नीता", "अमित", "कविता", "अनिल", "राधा"]


def polish(number: int) -> str:
    city, animal = CITIES[number % 10], ANIMALS[number // 10 % 10]
    return f"W mieście {city} dzieci zobaczyły {animal} i długo o tym opowiadały. Był dzień numer {number}."


def hindi(number: int) -> str:
    dish, friend = DISHES[number % 10], FRIENDS[number // 10 % 10]
    return f"{friend} ने बाज़ार से {dish} खरीदा और घर आकर खाना बनाया। यह बात दिन {number} की है।"


def configuration(*sources: dict[str, Any], **settings: Any) -> CurateConfiguration:
    return validate(CurateConfiguration, {"sources": list(sources), **settings})


def write_lines(path: Path, records: list[dict[str, Any] | str]) -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record, ensure_ascii=False) for record in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
