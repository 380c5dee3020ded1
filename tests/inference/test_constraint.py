"""Answers bound to a form: whatever the weights say, the text follows the schema or the grammar."""

from __future__ import annotations

import json
import random
import re

import jsonschema
import numpy as np
import pytest

from vernacular.foundation.errors import UserError
from vernacular.inference.constraint import make_constraint
from vernacular.inference.model import LocalModel
from vernacular.models.language_model import Sampling
from vernacular.tokens.token_bytes import token_bytes

PLACE = {
    "type": "object",
    "properties": {
        "miasto": {"enum": ["Łódź", "दिल्ली", "மதுரை", "طنجة"]},
        "ludzie": {"type": "integer", "minimum": 0, "maximum": 999},
        "nazwa": {"type": "string", "maxLength": 5},
    },
    "required": ["miasto", "ludzie"],
    "additionalProperties": False,
}
LIST = {"type": "array", "items": {"type": ["boolean", "null"]}, "minItems": 2, "maxItems": 4}
CHOICE = {"anyOf": [{"const": "गाँव"}, {"type": "object", "properties": {"ß": {"const": 1}}, "required": ["ß"]}]}
NESTED = {
    "type": "object",
    "properties": {"w": {"$ref": "#/$defs/word"}, "v": {"type": "array", "items": {"$ref": "#/$defs/word"}}},
    "required": ["w"],
    "additionalProperties": False,
    "$defs": {"word": {"type": "string", "pattern": "^[ąćęłńóśźż]{1,3}$"}},
}
BOUNDED = [PLACE, LIST, {**CHOICE, "additionalProperties": False}]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("schema", [PLACE, LIST], ids=["place", "list"])
def test_an_answer_follows_its_schema(lm: LocalModel, schema: dict, temperature: float) -> None:
    samplings = [
        Sampling(json_schema=json.dumps(schema), temperature=temperature, seed=seed, max_new_tokens=110)
        for seed in range(3)
    ]
    for generation in lm.complete(["", "क", "x"], samplings):
        assert generation.stopped_by == "end"
        jsonschema.validate(json.loads(generation.text), schema)


@pytest.mark.parametrize("schema", [PLACE, LIST, CHOICE, NESTED], ids=["place", "list", "choice", "nested"])
@pytest.mark.parametrize("seed", range(5))
def test_any_walk_through_what_is_allowed_validates(lm: LocalModel, schema: dict, seed: int) -> None:
    tokenizer, chance = lm.tokenizer, random.Random(seed)
    constraint = make_constraint(tokenizer, Sampling(json_schema=json.dumps(schema, ensure_ascii=False)))
    ids: list[int] = []
    while not ids or ids[-1] != tokenizer.end_id:
        allowed = np.flatnonzero(constraint.allowed()).tolist()
        # Lists and words without a bound end for certain this way, after a while.
        ends = tokenizer.end_id in allowed and len(ids) > 40
        ids.append(tokenizer.end_id if ends else chance.choice(allowed))
        constraint.accept(ids[-1])
        assert len(ids) < 2000
    assert constraint.problem is None
    jsonschema.validate(json.loads(tokenizer.decode(ids[:-1])), schema)


def test_what_is_chosen_is_the_most_probable_of_what_is_allowed(lm: LocalModel) -> None:
    (generation,) = lm.complete(["Gdzie?"], [Sampling(grammar='start: "tak" | "नहीं" | "ja"', log_probabilities=0)])
    assert generation.text in {"tak", "नहीं", "ja"}
    constraint = make_constraint(lm.tokenizer, Sampling(grammar='start: "tak" | "नहीं" | "ja"'))
    logits = lm.logits(lm.encode_prompt("Gdzie?"))[-1].numpy()
    assert generation.ids[0] == np.where(constraint.allowed()[: len(logits)], logits, -np.inf).argmax()
    # Log-probabilities are the model's own, the forbidden tokens among its possibilities.
    expected = float(logits[generation.ids[0]] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    assert generation.log_probabilities[0].log_probability == pytest.approx(expected, abs=1e-4)


def test_no_control_token_is_allowed_in_a_string(lm: LocalModel) -> None:
    constraint = make_constraint(lm.tokenizer, Sampling(json_schema='{"type": "string"}'), vocab_size=448)
    for token in lm.tokenizer.encode('"ab'):
        constraint.accept(token)
    allowed = constraint.allowed()
    assert allowed.shape == (448,)
    assert not any(allowed[token.id] for token in lm.tokenizer.control_tokens.values())
    assert not allowed[lm.tokenizer.vocab_size :].any()
    assert allowed[lm.tokenizer.encode("é")[0]]


def test_at_the_end_only_the_end_tokens_are_allowed(lm: LocalModel) -> None:
    constraint = make_constraint(lm.tokenizer, Sampling(json_schema='{"const": "च"}'), end_ids=[2, 3])
    for token in lm.tokenizer.encode('"च"'):
        assert not constraint.is_finished
        constraint.accept(token)
    assert constraint.is_finished
    assert np.flatnonzero(constraint.allowed()).tolist() == [2, 3]
    constraint.accept(3)


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"json_schema": '{"type": "objekt"}'}, "objekt"),
        ({"json_schema": '{"type":'}, "not valid JSON"),
        ({"json_schema": "[1]"}, "is an object"),
        ({"json_schema": '{"a":' * 100_000}, "nested too deeply"),
        ({"json_schema": '{"$ref": "#/nowhere"}'}, "nowhere"),
        ({"json_schema": '{"type": "string", "pattern": "("}'}, "unclosed group"),
        ({"json_schema": '{"type": "array", "uniqueItems": true}'}, "uniqueItems"),
        ({"grammar": "start: foo"}, "foo"),
        ({"grammar": 'start: "a"', "json_schema": "{}"}, "not both"),
    ],
)
def test_a_wrong_form_is_refused_with_its_reason(lm: LocalModel, sampling: dict, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        make_constraint(lm.tokenizer, Sampling(**sampling))
    assert caught.value.where.startswith(("json_schema", "grammar"))


@pytest.mark.parametrize("end", [-1, 448, 10**12, "</s>", 2.5, [2]], ids=str)
def test_an_end_token_that_is_none_is_refused(lm: LocalModel, end: object) -> None:
    with pytest.raises(UserError, match="is none of the 448 tokens") as caught:
        make_constraint(lm.tokenizer, Sampling(json_schema="{}"), vocab_size=448, end_ids=[2, end])
    assert caught.value.where == "eos_token_id"


def test_a_tokenizer_that_cannot_follow_a_form_is_refused(lm: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("duplicate token")

    monkeypatch.setattr("llguidance.LLTokenizer", refuse)
    with pytest.raises(UserError, match="with this tokenizer: duplicate token"):
        make_constraint(lm.tokenizer, Sampling(json_schema="{}"), vocab_size=447)


def test_a_form_that_grows_too_complex_ends_its_own_answer_only(lm: LocalModel) -> None:
    rules = [f"b{number}: a | 'x' a".replace("'", '"') for number in range(60)]
    knot = "\n".join(["start: a", "a: " + " | ".join(f"a a b{number}" for number in range(60)) + ' | "x"', *rules])
    samplings = [Sampling(grammar=knot, max_new_tokens=60), Sampling(grammar='start: "नहीं"', max_new_tokens=60)]
    answers = [lm.answer(lm.encode_prompt("x"), sampling) for sampling in samplings]
    assert {answer.stopped_by for answer in lm.engine.run(answers)} == {"end"}
    assert "max is" in answers[0].constraint.problem
    assert "Tokens:" not in answers[0].constraint.problem
    assert answers[1].constraint.problem is None
    assert answers[1].text == "नहीं"


def test_the_bytes_of_tokens_add_up_to_the_text(lm: LocalModel) -> None:
    contents = token_bytes(lm.tokenizer)
    assert len(contents) == lm.tokenizer.vocab_size
    for text in ("Żółta łódka", "क्षि 👩‍👩‍👧", "மழை பெய்தால்", "خبّاز", "a\n\tb  c", "<|end|>"):
        assert b"".join(contents[token] for token in lm.tokenizer.encode(text)) == text.encode()


def test_bytes_of_a_sentencepiece_vocabulary() -> None:
    class Pieces:
        vocab_size = 6
        where = "here"
        control_tokens = {"</s>": None}  # noqa: RUF012
        _texts = ("</s>", "▁łą", "<0xE0>", "कि", None, "▁")

        def token_text(self, token_id: int) -> str | None:
            return self._texts[token_id]

    assert token_bytes(Pieces()) == (b"", " łą".encode(), b"\xe0", "कि".encode(), b"", b" ")


def test_bytes_of_an_unknown_kind_of_vocabulary_are_refused() -> None:
    class Words:
        vocab_size = 2
        where = "words/tokenizer.json"
        control_tokens: dict[str, None] = {}  # noqa: RUF012

        def token_text(self, token_id: int) -> str:
            return ("##ing", "walk")[token_id]

    with pytest.raises(UserError, match="neither byte by byte"):
        token_bytes(Words())
