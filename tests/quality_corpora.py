"""Small curated corpora for the tests of quality: sentences of four languages put together at random."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

SUBJECTS = {
    "pl": ["Babcia Zofia", "Mały Jaś", "Nasza sąsiadka", "Stary rybak", "Nauczycielka", "Pani doktor", "Mój brat"],
    "hi": ["दादी जी", "छोटा राम", "हमारी पड़ोसन", "बूढ़ा मछुआरा", "अध्यापिका", "डॉक्टर साहिबा", "मेरा भाई"],
    "ta": ["பாட்டி", "சின்ன ராமு", "எங்கள் அண்டை வீட்டார்", "வயதான மீனவர்", "ஆசிரியை", "மருத்துவர்", "என் தம்பி"],
    "en": [
        "Grandmother",
        "Little John",
        "Our neighbour",
        "The old fisherman",
        "The teacher",
        "The doctor",
        "My brother",
    ],
}
DEEDS = {
    "pl": ["poszła dziś rano na targ", "kupił świeże jabłka", "napisała długi list do córki", "czytał książkę o morzu",
           "upiekła chleb i ciasto", "naprawił stary rower", "opowiedziała nam bajkę"],
    "hi": ["आज सुबह बाज़ार गए", "ताज़े सेब लेकर आए", "बेटी को लंबी चिट्ठी लिख रहे थे", "समुद्र की एक किताब पढ़ रहे थे",
           "रोटी और मिठाई बना रहे थे", "पुरानी साइकिल ठीक कर रहे थे", "हमें कहानी सुना रहे थे"],
    "ta": ["இன்று காலை சந்தைக்குப் போனார்", "புதிய பழங்கள் வாங்கினார்", "மகளுக்கு நீண்ட கடிதம் எழுதினார்",
           "கடல் பற்றிய புத்தகம் படித்தார்", "ரொட்டியும் இனிப்பும் செய்தார்", "பழைய மிதிவண்டியைச் சரிசெய்தார்", "எங்களுக்குக் கதை சொன்னார்"],
    "en": ["went to the market this morning", "bought fresh apples", "wrote a long letter to her daughter",
           "read a book about the sea", "baked bread and a cake", "mended an old bicycle", "told us a story"],
}  # fmt: skip
JOINTS = {"pl": ", a potem ", "hi": ", और फिर ", "ta": ", பிறகு ", "en": ", and then "}
STOPS = {"pl": ".", "hi": "।", "ta": ".", "en": "."}


def prose(language: str, number: int, paragraphs: int = 3) -> str:
    """A small story: each number another one."""
    random = Random(f"{language} {number}")

    def sentence() -> str:
        deeds = random.sample(DEEDS[language], random.randint(1, 2))
        return f"{random.choice(SUBJECTS[language])} {JOINTS[language].join(deeds)}{STOPS[language]}"

    return "\n\n".join(" ".join(sentence() for _ in range(random.randint(4, 9))) for _ in range(paragraphs))


def write_corpus(path: Path, languages: tuple[str, ...], documents: int) -> Path:
    """A JSON Lines file of stories."""
    lines = [
        json.dumps({"text": prose(language, number), "language": language}, ensure_ascii=False)
        for language in languages
        for number in range(documents)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
