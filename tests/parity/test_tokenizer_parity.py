"""transformers loads our tokenizer folder without remote code and gives the same ids and the same chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from vernacular.tokens.configuration import TokenizerConfiguration
from vernacular.tokens.template import ChatTemplate
from vernacular.tokens.tokenizer import Tokenizer
from vernacular.tokens.training import train_tokenizer

transformers = pytest.importorskip("transformers")

TEXTS = [
    "पहाड़ों पर बर्फ़ गिर रही है, क्‍यों?",
    "ਪਿੰਡ ਦੇ ਬਾਹਰ ਖੂਹ ਹੈ।",
    "ഞാൻ നാളെ വരും.",
    "கடல் அலைகள் ஓயாது.",
    "امروز می‌رویم به بازار.",
    "Łódź płynie, źdźbło rośnie – 2024 r.",
    "It's  a   test,\r\n\n\twith 12345 blanks \u00a0!",
    "今日は👩‍👩‍👧と1️⃣を見た。",
    "e\u0301\u0323 \u0000\u200b\ufeff ﬁ Å",
]
CHATS: list[list[dict[str, str]]] = [
    [{"role": "user", "content": " नमस्ते\n"}],
    [
        {"role": "system", "content": "Odpowiadaj krótko."},
        {"role": "user", "content": "ਕਿਵੇਂ ਹੋ?"},
        {"role": "assistant", "content": " ठीक\u0301 हूँ! 😀"},
        {"role": "user", "content": "  "},
    ],
]
TEMPLATES = {
    "chatml": "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content | trim + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    "json": "{{ bos_token }}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m.role | tojson }}{{ m.content }}{{ eos_token }}{% endfor %}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parity")
    (root / "documents" / "train").mkdir(parents=True)
    table = pa.table({"text": TEXTS * 3, "language": ["und"] * len(TEXTS) * 3})
    parquet.write_table(table, root / "documents" / "train" / "00000.parquet")
    train_tokenizer(TokenizerConfiguration(vocab_size=400), root, root / "tokenizer")
    return root / "tokenizer"


@pytest.fixture(scope="module", params=["alone", "beside weights"])
def theirs(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("weights")
    Tokenizer.load(folder).save(place)
    ChatTemplate.load(folder).save(place)
    if request.param == "beside weights":
        (place / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return transformers.AutoTokenizer.from_pretrained(place)


def test_transformers_gives_the_same_ids(theirs: Any, folder: Path) -> None:
    ours = Tokenizer.load(folder)
    for text in TEXTS:
        assert theirs(text).input_ids == ours.encode(text, begin=True)
        assert theirs(text, add_special_tokens=False).input_ids == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text == ours.decode(ours.encode(text))
    written = "<|begin|>घर<|end|>"
    assert theirs(written, add_special_tokens=False).input_ids == ours.encode(written, begin=True, special=True)


def test_transformers_knows_the_special_tokens(theirs: Any, folder: Path) -> None:
    ours = Tokenizer.load(folder)
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (ours.begin_id, ours.end_id, ours.pad_id)
    assert len(theirs) == ours.vocab_size
    assert theirs.model_max_length == 4096
    assert theirs.model_input_names == ["input_ids", "attention_mask"]
    assert theirs.clean_up_tokenization_spaces is False
    assert theirs.is_fast


@pytest.mark.parametrize("add_generation_prompt", [False, True])
@pytest.mark.parametrize("chat", CHATS, ids=["one", "many"])
def test_transformers_renders_and_encodes_chats_alike(
    theirs: Any, folder: Path, chat: list[dict[str, str]], add_generation_prompt: bool
) -> None:
    ours, template = Tokenizer.load(folder), ChatTemplate.load(folder)
    asked = {"add_generation_prompt": add_generation_prompt}
    assert theirs.apply_chat_template(chat, tokenize=False, **asked) == template.render(chat, **asked)
    encoded = theirs.apply_chat_template(chat, return_dict=True, **asked)["input_ids"]
    assert encoded == template.encode(ours, chat, **asked)


@pytest.mark.parametrize("name", TEMPLATES)
def test_transformers_renders_other_templates_alike(theirs: Any, name: str) -> None:
    names = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    template = ChatTemplate(TEMPLATES[name], special_names=names)
    for chat in CHATS:
        rendered = theirs.apply_chat_template(chat, chat_template=TEMPLATES[name], tokenize=False)
        assert rendered == template.render(chat)


def test_transformers_encodes_a_template_with_plain_words_alike(theirs: Any, folder: Path) -> None:
    names = {"bos_token": "<|begin|>", "eos_token": "<|end|>"}
    ours, template = Tokenizer.load(folder), ChatTemplate(TEMPLATES["chatml"], special_names=names)
    for chat in CHATS:
        encoded = theirs.apply_chat_template(chat, chat_template=TEMPLATES["chatml"], return_dict=True)["input_ids"]
        assert encoded == template.encode(ours, chat)
