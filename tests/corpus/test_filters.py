"""Rules: what they remove, and the prose they must leave alone."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vernacular.corpus.assessment import assess
from vernacular.corpus.configuration import CurateConfiguration, Filters
from vernacular.corpus.filters import RULES, check_names
from vernacular.corpus.languages import thresholds
from vernacular.corpus.measures import measure
from vernacular.foundation.errors import UserError

# Sentences of sixty characters and less, a rhyme with a refrain, a list of facts, numbers in words, a question.
PROSE = [
    "Pada deszcz, a kot śpi na piecu.",
    "Liczba 482 to słownie czterysta osiemdziesiąt dwa.",
    "Po maju przychodzi czerwiec. Data 2031-04-17 to inaczej 17 kwietnia 2031.",
    "Wlazł kotek na płotek i mruga,\nładna to piosenka, niedługa.\n\nNiedługa, niekrótka, lecz w sam raz,\n"
    "zaśpiewaj, koteczku, jeszcze raz.\n\nWlazł kotek na płotek i mruga,\nładna to piosenka, niedługa.",
    "Opowiedział mi o nas i o tym, jak zapisz się do szkoły brzmiało kiedyś inaczej.",
    "संख्या 482 को शब्दों में चार सौ बयासी लिखते हैं।",
    "राम घर गया। उसने खाना खाया। फिर वह सो गया।",
    "क्या तुम कल बाज़ार जाओगे? हाँ, मैं सुबह जाऊँगा।",
    "The currency of Japan is the yen, and a dozen is twelve.",
    "He told me about us, and then he went to sign the letter.",
    "আমার বাড়ির পাশে একটা বড় গাছ আছে। গাছে অনেক পাখি থাকে।",
    "எங்கள் வீட்டின் அருகே ஒரு பெரிய மரம் இருக்கிறது.",
    "మా ఇంటి పక్కన ఒక పెద్ద చెట్టు ఉంది. ఆ చెట్టు మీద పక్షులు ఉన్నాయి.",
    "ನಮ್ಮ ಮನೆಯ ಹತ್ತಿರ ಒಂದು ದೊಡ್ಡ ಮರ ಇದೆ. ಅಲ್ಲಿ ಹಕ್ಕಿಗಳು ಇವೆ.",
    "ഞങ്ങളുടെ വീടിനടുത്ത് ഒരു വലിയ മരമുണ്ട്. അവിടെ പക്ഷികൾ ഉണ്ട്.",
    "અમારા ઘરની પાસે એક મોટું ઝાડ છે. ત્યાં પંખીઓ રહે છે.",
    "ਸਾਡੇ ਘਰ ਦੇ ਨੇੜੇ ਇੱਕ ਵੱਡਾ ਰੁੱਖ ਹੈ। ਉੱਥੇ ਪੰਛੀ ਰਹਿੰਦੇ ਹਨ।",
    "ଆମ ଘର ପାଖରେ ଗୋଟିଏ ବଡ଼ ଗଛ ଅଛି। ସେଠାରେ ପକ୍ଷୀମାନେ ରୁହନ୍ତି।",
    "ہمارے گھر کے پاس ایک بڑا درخت ہے۔ وہاں پرندے رہتے ہیں۔",
    "今朝、子供たちは川のそばで遊んでいました。母は家にいました。",
    "Donaudampfschifffahrtsgesellschaft ist ein langes Wort, sagte er.",
]


def reasons(texts: list[str], wanted: tuple[str, ...] = (), **filters: object) -> list[str | None]:
    configuration = CurateConfiguration(sources=({"path": "unused"},), filters=Filters(**filters))
    array = pa.array(texts, pa.large_string())
    return assess(array, [None] * len(texts), configuration, frozenset(wanted)).field("reason").to_pylist()


def test_prose_of_many_scripts_passes() -> None:
    assert dict(zip(PROSE, reasons(PROSE), strict=True)) == dict.fromkeys(PROSE)


BROKEN = [
    "To jest zda\ufffdie, kt\ufffdre kto\ufffd zepsu\ufffd.",
    "To jest z\ue123danie, kt\ue045re kto\uf8f0 zepsuł.",
    "यह वाक्य ठीक होना चाहिए".encode()[1:].decode("latin-1"),
    "Ta ksi??ka by?a ?le zapisana, bo kto? zgubi?y lite?y w d?u?ym s?owie.",
    "यह ि एक ा टूटा ी हुआ े पाठ ै है",
    "Zn\x84ki st\x93rują\x9d tu i t\x81m.",
]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_encoding_goes(text: str) -> None:
    assert reasons([text]) == ["broken_encoding"]


def test_an_ending_written_after_a_number_is_no_damage() -> None:
    assert reasons(["ഇത് അവരുടെ 63-ാം വിവാഹവാർഷികമാണ്, നാളെ വിരുന്ന്."]) == [None]


NOTICES = {
    "pl": "Ta strona używa plików cookie.\nPolityka prywatności\nZaloguj się | Zarejestruj się | Nie pamiętasz hasła?",
    "hi": "यह वेबसाइट कुकीज़ का उपयोग करती है।\nगोपनीयता नीति\nलॉग इन करें | पंजीकरण करें | पासवर्ड भूल गए?",
    "en": "This website uses cookies.\nPrivacy policy\nLog in | Sign up | Forgot your password?",
    "bn": "লগ ইন করুন\nগোপনীয়তা নীতি\nআরও পড়ুন\nসর্বস্বত্ব সংরক্ষিত",
    "ta": "உள்நுழைக\nதனியுரிமைக் கொள்கை\nமேலும் படிக்க\nபயன்பாட்டு விதிமுறைகள்",
    "de": "Alle Cookies akzeptieren\nDatenschutzerklärung\nAlle Rechte vorbehalten",
    "ur": "رازداری کی پالیسی\nلاگ ان کریں\nجملہ حقوق محفوظ ہیں",
}


@pytest.mark.parametrize("language", NOTICES)
def test_notices_and_menus_go(language: str) -> None:
    assert reasons([NOTICES[language]]) == ["boilerplate"]


def test_a_notice_below_an_article_does_not_remove_it() -> None:
    article = "\n\n".join(sentence for sentence in PROSE if sentence[0].isascii()) * 2
    assert reasons([article + "\n\nWszelkie prawa zastrzeżone.\nPolityka prywatności"]) == [None]


def test_one_phrase_is_not_counted_as_two() -> None:
    # "get in touch with us" holds "get in touch", which is a phrase too.
    appeal = "पुलिस ने बताया कि जांच शुरू हो चुकी है, और जिन लोगों ने उस दिन सड़क पर कुछ भी देखा हो वे हमसे संपर्क करें।"
    assert reasons([appeal]) == [None]


SHORT_SENTENCES = [  # "I shall come home tomorrow." and the like: five to fourteen graphemes
    "నేను రేపు ఇంటికి వస్తాను.",
    "ఇది మంచి పుస్తకం.",
    "ഞാൻ നാളെ വീട്ടിൽ വരും.",
    "நாங்கள் நாளை வருகிறோம்.",
    "ನಾನು ನಾಳೆ ಮನೆಗೆ ಬರುತ್ತೇನೆ.",
    "मैं कल घर जाऊँगा।",
    "আমি কাল বাড়ি যাব।",
    "હું કાલે ઘરે જઈશ.",
    "ਮੈਂ ਕੱਲ੍ਹ ਘਰ ਜਾਵਾਂਗਾ।",
    "ମୁଁ କାଲି ଘରକୁ ଯିବି।",
    "라디오가 조용해요.",
    "她明天来。",
]


def test_a_short_sentence_in_a_script_of_syllables_is_one() -> None:
    assert dict(zip(SHORT_SENTENCES, reasons(SHORT_SENTENCES), strict=True)) == dict.fromkeys(SHORT_SENTENCES)
    assert reasons(["அவளிடம்", "అవును.", "हाँ जी।"]) == ["too_short"] * 3


def test_tables_are_no_menus() -> None:
    table = "| miasto | rzeka |\n| Kraków | Wisła |\n| Wrocław | Odra |\n| Poznań | Warta |"
    assert reasons([f"Miasta leżą nad rzekami:\n{table}"], disable=("symbols",)) == [None]


SPAM = [
    "Kup teraz! Najniższa cena!\nKliknij tutaj: http://sklep.example/12\nOferta specjalna, kup teraz!",
    "अभी खरीदें! सबसे कम दाम!\nयहाँ क्लिक करें: http://shop.example/1\nभारी छूट, विशेष ऑफर, अभी खरीदें!",
    "tanie opony: http://a.example/1\ntanie opony: http://a.example/2\ntanie opony: http://a.example/3",
]


@pytest.mark.parametrize("text", SPAM)
def test_advertising_and_lists_of_links_go(text: str) -> None:
    assert reasons([text]) == ["spam"]


def test_repetition_goes() -> None:
    assert reasons(["Zupełnie zwykłe zdanie o kocie.\n" * 8]) == ["repeated_lines"]
    assert reasons(["opony zimowe " * 30]) == ["repeated_ngrams"]
    few = ["घड़ी", "फ़ोन", "जूते"]
    stuffed = ", ".join(few[(number * number) % 7 % 3] for number in range(40))
    assert reasons([stuffed]) in (["repeated_words"], ["repeated_ngrams"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("Tak.", "too_short"),
        ("12 34 56 78 90 11 22 33 44 55 66 słowo", "digits"),
        ("=== *** +++ ~~~ ^^^ $$$ słowo jedno drugie trzecie", "symbols"),
    ],
)
def test_what_is_no_text_goes(text: str, reason: str) -> None:
    assert reasons([text]) == [reason]


def test_unwanted_languages_go_and_undecided_ones_stay_in_a_wanted_script() -> None:
    texts = [
        "Heute Morgen spielten die Kinder am Fluss und lachten laut.",
        "Dzisiaj rano dzieci bawiły się nad rzeką i śmiały się głośno.",
        "Kraków: Wisła; Łódź!",
        "Москва: Нева; Омск!",
        "ஆற்றங்கரையில் குழந்தைகள் விளையாடினார்கள்.",
    ]
    assert reasons(texts, ("pl", "hi")) == ["wrong_language", None, None, "wrong_language", "wrong_language"]


def test_a_setting_of_the_recipe_comes_before_the_data() -> None:
    assert reasons([PROSE[0]], minimum_characters=100) == ["too_short"]
    assert reasons([PROSE[0]], minimum_characters=100, disable=("too_short",)) == [None]
    assert reasons([PROSE[0]], maximum_characters=10) == ["too_long"]


def test_an_unknown_rule_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="did you mean 'boilerplate'"):
        check_names(Filters(disable=("boilerplat",)))


def test_every_rule_has_a_threshold_and_a_setting() -> None:
    named = {name for name in Filters.model_fields if name.startswith(("minimum_", "maximum_"))}
    assert {rule.bound for rule in RULES} == set(thresholds("und", "Zyyy")) == named


def test_measures_do_not_depend_on_the_batch() -> None:
    together = measure(pa.array(PROSE, pa.large_string()), np.zeros(len(PROSE), dtype=np.int64), ["und"] * len(PROSE))
    for index, text in enumerate(PROSE):
        alone = measure(pa.array([text], pa.large_string()), np.zeros(1, dtype=np.int64), ["und"])
        for name in together.__dataclass_fields__:
            np.testing.assert_equal(getattr(together, name)[index], getattr(alone, name)[0], err_msg=name)
