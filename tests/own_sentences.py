"""Our own sentences in many scripts, hard texts, and how documents are written for the tokens room to read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

SENTENCES = {
    "hi": ["नदी के किनारे बच्चे पतंग उड़ाते हैं।", "हिन्दी में लिखना मुझे अच्छा लगता है।", "क्‍षितिज पर सूर्य २०२४ में भी उगेगा।"],
    "mr": ["आज बाजारात ताजी फळे मिळाली.", "माझ्या घराजवळ एक जुनी विहीर आहे."],
    "bn": ["বাংলা ভাষা খুব মিষ্টি।", "নদীর ধারে একটি ছোট গ্রাম আছে।"],
    "pa": ["ਖੇਤਾਂ ਵਿੱਚ ਕਣਕ ਪੱਕ ਗਈ ਹੈ।", "ਮੇਰੀ ਦਾਦੀ ਮਿੱਠੀਆਂ ਕਹਾਣੀਆਂ ਸੁਣਾਉਂਦੀ ਹੈ।"],
    "gu": ["સવારે પંખીઓ ગીત ગાય છે.", "આ રસ્તો શાળા તરફ જાય છે."],
    "or": ["ଗାଁ ପାଖରେ ଏକ ବଡ଼ ପୋଖରୀ ଅଛି।"],
    "ta": ["தமிழ் மொழி மிகவும் பழமையானது.", "மழை பெய்தால் குளம் நிரம்பும்."],
    "te": ["తెలుగు పుస్తకాలు చదవడం నాకు ఇష్టం.", "చెట్టు మీద కోతి కూర్చుంది."],
    "kn": ["ಕನ್ನಡ ನಾಡಿನ ಹಬ್ಬಗಳು ಸುಂದರ.", "ಹಳ್ಳಿಯ ದಾರಿ ಉದ್ದವಾಗಿದೆ."],
    "ml": ["കേരളം പുഴകളുടെ നാടാണ്.", "അവൻ ന്‍റെ വീട്ടിലേക്ക് പോയി."],
    "si": ["ශ්‍රී ලංකාවේ තේ වතු ලස්සනයි."],
    "ur": ["دریا کے کنارے ایک پرانا باغ ہے۔", "بچے کتاب پڑھ رہے ہیں۔"],
    "fa": ["می‌خواهم نامه‌ای بنویسم.", "کتاب‌ها روی میز هستند."],
    "ar": ["ذَهَبَ الوَلَدُ إلى المَدْرَسَةِ.", "البيت قريب من السوق ١٢٣."],
    "he": ["הַיֶּלֶד קורא ספר בגינה.", "צה״ל ושבת שלום."],
    "pl": ["Zażółć gęślą jaźń, powiedział źrebak.", "Wieczorem słońce chowa się za górą."],
    "en": ["The river isn't deep, but it's cold.", "She counted 12345 stones and two boats."],
    "fr": ["L'été, l'eau du lac est tiède.", "Aujourd’hui, c’est dimanche."],
    "uk": ["У п'ятницю ми їдемо до моря.", "Жінка співає біля річки."],
    "th": ["เด็กๆ เล่นน้ำที่ริมแม่น้ำ", "วันนี้อากาศดีมาก"],
    "zh": ["孩子们在河边放风筝。", "今天天气很好。"],
    "ja": ["子どもたちは川でｶﾞﾗｽを拾った。", "明日は雨が降るでしょう。"],
    "ko": ["아이들이 강가에서 연을 날린다.", "오늘은 날씨가 좋다."],
    "vi": ["Trẻ em thả diều bên bờ sông.", "Tiếng Việt có nhiều dấu."],
}
HORRIBLE = [
    "",
    " ",
    "\x00\x01\x1b[0m\x7f\x85\u200b\ufeff",
    "a\r\nb\r\n\r\n  c\t\t\n",
    "👩‍👩‍👧‍👦 👍🏽 🇮🇳🇵🇱 1️⃣ ❤️",
    "e\u0301\u0323 \u0301alone 1\u0301 !\u0301 \u00a0\u093e",
    "<|end|><|user|> is text here <|assistant|>",
    "��\U0010ffff\ue000\ud7ff",
    "क्‍ष क्‌ष می‌خواهم ශ්‍රී ন্ত ਸ਼੍ਰੀ",
    "﷽ ﬁ Å Å ｶﾞ ㍿ ½ Ⅷ",
    "ZALGO: " + "ह" + "\u0300\u0315\u0489" * 20,
]


def document_name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_documents(curated: Path, split: str, rows: Sequence[tuple[str, str]], name: str = "00000") -> None:
    """Write (language, text) rows as a split's Parquet file, in the columns that the tokens room reads."""
    folder = curated / "documents" / split
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": [document_name(text) for _, text in rows],
            "text": [text for _, text in rows],
            "language": [language for language, _ in rows],
            "source": [f"{language}-sentences" for language, _ in rows],
        },
        schema=pa.schema([(column, pa.string()) for column in ("id", "text", "language", "source")]),
    )
    parquet.write_table(table, folder / f"{name}.parquet")
