"""Languages of India in Latin letters are recognised as such, alone and mixed with English, and others are not."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vernacular.corpus.assessment import assess
from vernacular.corpus.calibration import fit
from vernacular.corpus.configuration import CurateConfiguration, Identification
from vernacular.corpus.identification import Identified, identify
from vernacular.corpus.languages import canonical_language
from vernacular.corpus.romanisation import romanise, romanised_languages
from vernacular.corpus.romanised_training import train_romanised

NEWS = Path(__file__).parents[3] / "shared" / "data" / "text" / "ntrex"
CODES = {"hi": "hin", "bn": "ben", "ta": "tam", "te": "tel", "mr": "mar", "gu": "guj", "kn": "kan", "ml": "mal"}

# Written for this test, in the spelling of chats.
SENTENCES = {
    "hi": [
        "kal milte hain yaar, abhi main thoda busy hoon",
        "mujhe samajh nahi aa raha ki ab kya karna chahiye",
        "tum log kab tak wapas aaoge, khana thanda ho raha hai",
        "bhai ye gaana sunke purani yaadein taaza ho gayi",
        "kitne paise lagenge is kaam ke liye?",
        "mere papa ne kaha tha ki padhai pe dhyan do",
        "aaj mausam bahut accha hai, chalo bahar chalte hain",
        "usne mujhse jhooth bola aur phir maafi bhi nahi maangi",
        "Dilli ki sardi me chai ka maza hi kuch aur hota hai",
        "jab tak hum koshish nahi karenge tab tak kuch nahi badlega",
        "ye kapde dhone me kitna time lagega",
        "gaadi kharab ho gayi thi isliye der ho gayi",
        "tera dimag kharab hai kya, itni raat ko kaun phone karta hai",
        "maine socha tha ki wo sach bol raha hai",
        "zindagi me kabhi kabhi aisa bhi hota hai",
        "aapke ghar me sab kaise hain?",
        "sarkar ne kisanon ke liye nayi yojana shuru ki hai",
        "do din se bukhar hai, doctor ko dikhana padega",
        "paani ki bottle dena zara",
        "shaadi me itne log aaye the ki khana kam pad gaya",
    ],
    "en": [
        "I will meet you tomorrow near the station after work",
        "The boss asked me to finish the report before the weekend",
        "We had rice and curry for lunch and it was delicious",
        "Please send me the photos from the party last night",
        "My brother is learning how to play the guitar",
    ],
    "other": [
        "Jutro spotkamy się na dworcu i pojedziemy razem nad morze",
        "Besok kita pergi ke pasar untuk membeli ikan dan sayur",
        "Morgen gehen wir zusammen in die Stadt und kaufen ein Buch",
        "Manana vamos a la playa con los amigos de mi hermano",
        "Nitakuja kesho asubuhi kwa sababu leo sina nafasi",
        "Yarın sabah annemle birlikte pazara gideceğiz",
        "Domani mattina andiamo al mercato con la nonna",
        "Huomenna menemme yhdessä kauppaan ja ostamme leipää",
    ],
    "ta": [
        "naan nalaiku office ku varamaten, enaku udambu sari illa",
        "nee enna panra, saapitiya illaya",
        "indha padam romba nalla irundhuchu, nee kandipa paaru",
        "avan eppavum ippadi thaan pesuvan, kavalai padadha",
        "enga veetla ellarum nalla irukanga",
    ],
    "bn": [
        "ami kal bari jabo, tumi ki amar sathe asbe?",
        "tomar kotha shune amar khub bhalo laglo",
        "ekhane onek brishti hocche, chata niye esho",
        "ki korcho tumi, bhat kheyecho?",
    ],
    "te": [
        "nenu repu intiki vastanu, nuvvu kuda raa",
        "mee amma gaaru ela unnaru, bagunnara",
        "ee cinema chala bagundi, tappakunda chudu",
    ],
    "mr": [
        "mi udya gavala janar aahe, tu yenar ka?",
        "tula kay vatta, aaj paus padel ka",
        "aaichya hatchya jevanachi chav vegli aste",
    ],
    "gu": [
        "hu kale tamara ghare aavish, tame ghare hasho ne?",
        "tamne shu lage che, aa saru che ke nahi",
    ],
    "kn": [
        "naanu naale oorige hogtini, neenu bartiya?",
        "oota aayta, yenu madta idiya",
    ],
    "ml": [
        "njan naale veettil pokunnu, nee varunnundo",
        "enthanu vishesham, choru kazhicho",
    ],
    "pa": [
        "main kal pind jaana hai, tusi vi chalo mere naal",
        "tuhada ki haal hai, ghar sab theek ne",
    ],
    "ne": [
        "ma bholi ghar janchu, timi pani aau na",
        "khana khayau? aja dherai jado cha",
    ],
}
MIXED = [
    "kal meeting hai toh please presentation ready rakhna aur client ko email kar dena before lunch",
    "mujhe lagta hai ki this is not the right time to discuss this topic, baad me baat karte hain",
    "yaar the movie was so boring ki main aadhe me hi so gaya tha",
]


def found_in(texts: list[str], **settings: object) -> Identified:
    array = pa.array(texts, pa.large_string())
    return identify(array, [None] * len(texts), Identification(**settings), frozenset())


def test_hinglish_is_hindi_in_latin_letters() -> None:
    found = found_in(SENTENCES["hi"])
    assert sum(label.startswith("hi-Latn") for label in found.languages) >= 0.95 * len(found.languages)
    assert set(found.scripts) == {"Latn"}


def test_other_indian_languages_are_at_least_known_to_be_indian() -> None:
    rest = [(code, text) for code in SENTENCES if code not in ("hi", "en", "other") for text in SENTENCES[code]]
    labels = found_in([text for _, text in rest]).languages
    assert all("-Latn" in label for label in labels), labels
    right = [label.startswith(f"{code}-Latn") for (code, _), label in zip(rest, labels, strict=True)]
    assert np.mean(right) >= 0.75


def test_english_and_others_are_not_taken_for_indian_ones() -> None:
    labels = found_in(SENTENCES["en"] + SENTENCES["other"]).languages
    assert labels[:5] == ["en"] * 5
    assert sum("-Latn" in label for label in labels) <= 1


def test_a_mixture_says_what_is_in_it() -> None:
    found = found_in(MIXED)
    assert found.languages == ["hi-Latn+en"] * 3
    for mixture in found.mixtures:
        assert mixture is not None and sum(mixture.shares.values()) == pytest.approx(1)
        assert 0.2 < mixture.shares["hi"] < 0.8 and 0.15 < mixture.shares["en"] < 0.8


def test_it_can_be_switched_off_and_needs_some_words() -> None:
    assert not any("-Latn" in label for label in found_in(SENTENCES["hi"], romanised=False).languages)
    assert found_in(["haan bhai", "Hai!", ""]).languages == ["und"] * 3


def test_a_recipe_wants_romanised_text_by_its_own_name() -> None:
    texts = pa.array([*SENTENCES["hi"][:2], *MIXED[:1]], pa.large_string())
    configuration = CurateConfiguration(sources=({"path": "unused"},), filters={"families": ()})

    def reasons(*wanted: str) -> list[str | None]:
        codes = frozenset(map(canonical_language, wanted))
        return assess(texts, [None] * 3, configuration, codes).field("reason").to_pylist()

    assert reasons("hi", "en") == ["wrong_language"] * 3
    assert reasons("hi-Latn") == [None, None, "wrong_language"]
    assert reasons("hin_Latn", "en") == [None] * 3
    assert canonical_language("zh-hans") == "zh" and canonical_language("sr-Latn") == "sr"


@pytest.mark.parametrize(
    ("language", "word", "spellings"),
    [
        ("hi", "नमस्ते", {"namaste"}),
        ("hi", "ज़िंदगी", {"zindgi", "jindgi", "zindgee", "jindgee", "zimdgi", "jimdgi", "zimdgee", "jimdgee"}),
        ("ta", "அம்மா", {"amma", "ammaa"}),
        ("bn", "আমার", {"amar"}),
        ("te", "నేను", {"nenu"}),
        ("pa", "ਪੰਜਾਬ", {"panjab", "panjaab", "pamjab", "pamjaab"}),
    ],
)
def test_words_are_spelt_as_people_type_them(language: str, word: str, spellings: set[str]) -> None:
    assert {romanise(word, language, random.Random(seed)) for seed in range(40)} <= spellings


def test_every_letter_of_the_scripts_is_spelt() -> None:
    blocks = {"hi": 0x900, "bn": 0x980, "pa": 0xA00, "gu": 0xA80, "ta": 0xB80, "te": 0xC00, "kn": 0xC80, "ml": 0xD00}
    for language, block in blocks.items():
        letters = [chr(block + place) for place in range(0x05, 0x3A) if chr(block + place).isalpha()]
        spelt = romanise(" ".join(letters), language, random.Random(0))
        assert spelt.isascii(), (language, spelt)


@pytest.mark.skipif(not NEWS.exists(), reason="needs ../shared/data/text/ntrex")
def test_held_out_news_in_latin_letters() -> None:
    rng = random.Random(3)
    for language, code in CODES.items():
        with gzip.open(NEWS / f"newstest2019-ref.{code}.txt.gz", "rt", encoding="utf-8") as file:
            # The classifier learnt from the sentences of even numbers.
            texts = [romanise(line.strip(), language, rng) for line in file.readlines()[1::20]]
        labels = found_in(texts).languages
        assert np.mean([label.startswith(f"{language}-Latn") for label in labels]) >= 0.9, language


def test_training_learns_what_it_is_given() -> None:
    sentences = [("hi", "यह मेरा घर है और वह मेरा भाई है"), ("ta", "இது என் வீடு அவர் என் அண்ணன்"), ("fr", "voici ma maison")]
    model = train_romanised(sentences)
    assert set(romanised_languages()) < set(model.languages)
    again = type(model).read(model.bytes())
    assert again.languages == model.languages
    assert np.abs(again.weights - model.weights).max() <= np.abs(model.weights).max() / 127


def test_calibration_finds_the_shift_and_the_temperature_that_were_hidden() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    clean = rng.normal(0, 1, (3000, 3)) + 3 * np.eye(3)[truth]
    hidden = 4.0 * (clean - np.array([0.0, 1.5, 0.0]))
    languages = ["hi", "ne", "mr"]
    fitted = fit(hidden, languages, [languages[index] for index in truth])
    assert fitted.temperature == pytest.approx(4 / 3, rel=0.15)
    read = fitted.apply(hidden, languages)
    assert (read.argmax(axis=1) == truth).mean() > (hidden.argmax(axis=1) == truth).mean() + 0.02
    assert set(fitted.thresholds) == set(languages)


def test_unknown_languages_raise_the_threshold_of_what_they_look_like_but_it_keeps_its_own_sentences() -> None:
    rng = np.random.default_rng(1)
    truth, languages = rng.integers(0, 3, 3000), ["hi", "ne", "mr"]
    known = rng.normal(0, 1, (3000, 3)) + 4 * np.eye(3)[truth]
    unknown = rng.normal(0, 1, (600, 3)) + 2.5 * np.eye(3)[0]
    labels = [languages[index] for index in truth]
    alone = fit(known, languages, labels)
    fitted = fit(np.concatenate([known, unknown]), languages, [*labels, *["mai"] * 600])
    assert (fitted.temperature, fitted.shifts) == (alone.temperature, alone.shifts)
    assert alone.threshold("hi") < 0.6 < 0.9 < fitted.threshold("hi")
    assert fitted.threshold("mr") < 0.6
    read = fitted.apply(known[truth == 0], languages)
    certainty = np.exp(read[:, 0]) / np.exp(read).sum(axis=1)
    kept = certainty[read.argmax(axis=1) == 0] >= fitted.threshold("hi")
    assert kept.mean() == pytest.approx(0.985, abs=0.002), "and no more, since all are alike"
