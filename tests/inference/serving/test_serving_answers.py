"""What the server answers, asked by the real client."""

from __future__ import annotations

import json
import math

import jsonschema
import openai
import pytest

from served import ServerProcess
from vernacular.inference.model import LocalModel

PROMPTS = ["Żółta łódka", "क्षण भर", "மழை", "The ferry", "خبّاز"]
QUESTION = [{"role": "user", "content": "Gdzie kupię chleb? क्या?"}]


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_completions_are_those_of_the_model(client: openai.OpenAI, served_lm: LocalModel) -> None:
    expected = served_lm.generate(PROMPTS, max_new_tokens=20)
    whole = client.completions.create(model="tiny", prompt=PROMPTS, max_tokens=20, temperature=0)
    assert [choice.text for choice in whole.choices] == expected
    assert [choice.index for choice in whole.choices] == list(range(len(PROMPTS)))
    assert whole.usage.prompt_tokens == sum(len(served_lm.encode_prompt(prompt)) for prompt in PROMPTS)
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    pieces = [""] * len(PROMPTS)
    reasons = [None] * len(PROMPTS)
    for chunk in client.completions.create(model="tiny", prompt=PROMPTS, max_tokens=20, temperature=0, stream=True):
        pieces[chunk.choices[0].index] += chunk.choices[0].text
        reasons[chunk.choices[0].index] = chunk.choices[0].finish_reason
    assert pieces == expected
    assert reasons == [choice.finish_reason for choice in whole.choices]


def test_token_ids_are_prompts_too(client: openai.OpenAI, served_lm: LocalModel) -> None:
    ids = [served_lm.encode_prompt(prompt) for prompt in PROMPTS]
    one = client.completions.create(model="tiny", prompt=ids[0], max_tokens=8, temperature=0)
    many = client.completions.create(model="tiny", prompt=ids, max_tokens=8, temperature=0)
    expected = served_lm.generate(PROMPTS, max_new_tokens=8)
    assert one.choices[0].text == expected[0]
    assert [choice.text for choice in many.choices] == expected


@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_first(client: openai.OpenAI, served_lm: LocalModel, stream: bool) -> None:
    asked = {"model": "tiny", "prompt": "क्षण", "max_tokens": 6, "temperature": 0, "echo": True}
    answer = client.completions.create(**asked, stream=stream)
    text = "".join(chunk.choices[0].text for chunk in answer) if stream else answer.choices[0].text
    assert text == "क्षण" + served_lm.generate("क्षण", max_new_tokens=6)


def test_chats_are_those_of_the_model_streamed_or_not(client: openai.OpenAI, served_lm: LocalModel) -> None:
    expected = served_lm.chat(QUESTION, max_new_tokens=30)
    asked = {"model": "tiny", "messages": QUESTION, "max_completion_tokens": 30, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == expected
    assert whole.choices[0].message.role == "assistant"
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_parts_of_a_message_and_the_developer_are_understood(client: openai.OpenAI, served_lm: LocalModel) -> None:
    messages = [
        {"role": "developer", "content": "Odpowiadaj krótko."},
        {"role": "user", "content": [{"type": "text", "text": "Gdzie "}, {"type": "text", "text": "jest गाँव?"}]},
    ]
    plain = [{"role": "system", "content": "Odpowiadaj krótko."}, {"role": "user", "content": "Gdzie jest गाँव?"}]
    answer = client.chat.completions.create(model="tiny", messages=messages, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content == served_lm.chat(plain, max_new_tokens=12)


def test_an_answer_can_go_into_the_next_request_as_it_came(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=5, temperature=0)
    again = [*QUESTION, first.choices[0].message.model_dump(), {"role": "user", "content": "I?"}]
    assert client.chat.completions.create(model="tiny", messages=again, max_tokens=5, user="u-1").choices


def test_settings_reach_the_engine(client: openai.OpenAI, served_lm: LocalModel) -> None:
    settings = {"temperature": 0.9, "top_p": 0.9, "seed": 5}
    extra = {"top_k": 40, "min_p": 0.01, "repetition_penalty": 1.3}
    answer = client.completions.create(
        model="tiny", prompt="Kto", max_tokens=25, n=3, **settings, extra_body=extra, stop=["w", "ę"]
    )
    for number, choice in enumerate(answer.choices):
        own = {**settings, **extra, "seed": 5 + number, "stop": ["w", "ę"], "max_new_tokens": 25}
        assert choice.text == served_lm.generate("Kto", **own)
    assert len({choice.text for choice in answer.choices}) == 3


def test_without_a_seed_each_answer_is_another(client: openai.OpenAI) -> None:
    texts = [client.completions.create(model="tiny", prompt="Kto", max_tokens=25).choices[0].text for _ in range(3)]
    assert len(set(texts)) == 3


def test_a_stop_string_is_cut_off(client: openai.OpenAI, served_lm: LocalModel) -> None:
    text = served_lm.generate("The ferry", max_new_tokens=40)
    stop = text[len(text) // 2 :][:2]
    asked = {"model": "tiny", "prompt": "The ferry", "max_tokens": 40, "temperature": 0, "stop": stop}
    whole = client.completions.create(**asked).choices[0]
    assert whole.text == text[: text.index(stop)]
    assert whole.finish_reason == "stop"
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)) == whole.text


def test_log_probabilities_of_a_completion(client: openai.OpenAI, served_lm: LocalModel) -> None:
    answer = client.completions.create(model="tiny", prompt="मैं", max_tokens=10, temperature=0, logprobs=3)
    found = answer.choices[0].logprobs
    ids = served_lm.encode_prompt("मैं")
    for place, value in enumerate(found.token_logprobs):
        scores = served_lm.logits(ids)[-1].log_softmax(-1)
        best = int(scores.argmax())
        assert value == pytest.approx(float(scores[best]), abs=1e-4)
        assert max(found.top_logprobs[place].values()) == value
        assert len(found.top_logprobs[place]) == 3
        assert found.tokens[place] in found.top_logprobs[place]
        ids = [*ids, best]
    assert found.text_offset[0] == 0
    assert sorted(found.text_offset) == found.text_offset


def test_log_probabilities_of_an_echoed_prompt(client: openai.OpenAI, served_lm: LocalModel) -> None:
    prompts = [served_lm.encode_prompt(text) for text in ("Stolica Polski to Łódź क्षण", "மழை")]
    asked = {"model": "tiny", "prompt": prompts, "max_tokens": 3, "temperature": 0, "echo": True, "logprobs": 2}
    whole = client.completions.create(**asked)
    for ids, choice in zip(prompts, whole.choices, strict=True):
        found = choice.logprobs
        assert found.token_logprobs[0] is None
        assert found.top_logprobs[0] is None
        scores = served_lm.logits(ids).log_softmax(-1)
        for place, token in enumerate(ids[1:], start=1):
            assert found.token_logprobs[place] == pytest.approx(float(scores[place - 1, token]), abs=1e-4)
            assert len(found.top_logprobs[place]) == 2
        assert len(found.tokens) == len(found.text_offset) == len(ids) + 3
    (likelihood,) = served_lm.loglikelihood([("", " Łódź")])
    scored = client.completions.create(**{**asked, "prompt": served_lm.tokenizer.encode(" Łódź", begin=True)}).choices[
        0
    ]
    summed = sum(scored.logprobs.token_logprobs[1:-3])
    assert summed == pytest.approx(likelihood.log_probability, abs=1e-3)
    streamed = [chunk.choices[0] for chunk in client.completions.create(**asked, stream=True)]
    tokens = [token for one in streamed if one.index == 0 and one.logprobs for token in one.logprobs.tokens]
    assert tokens == whole.choices[0].logprobs.tokens


def test_log_probabilities_of_a_chat_streamed_or_not(client: openai.OpenAI) -> None:
    asked = {"model": "tiny", "messages": QUESTION, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0]
    entries = whole.logprobs.content
    assert all(len(entry.top_logprobs) == 2 and math.isfinite(entry.logprob) for entry in entries)
    joined = b"".join(bytes(entry.bytes or ()) for entry in entries)
    assert joined.decode("utf-8", errors="replace") == whole.message.content
    chunks = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2, stream=True)
    streamed = [entry for chunk in chunks if chunk.choices[0].logprobs for entry in chunk.choices[0].logprobs.content]
    assert [(entry.token, entry.logprob) for entry in streamed] == [(entry.token, entry.logprob) for entry in entries]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_can_be_bound_to_a_schema(client: openai.OpenAI, stream: bool) -> None:
    schema = {
        "type": "object",
        "properties": {"miasto": {"enum": ["Łódź", "पुणे"]}, "n": {"type": "integer", "maximum": 99, "minimum": 0}},
        "required": ["miasto", "n"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    answer = client.chat.completions.create(
        model="tiny", messages=QUESTION, response_format=wanted, seed=2, stream=stream
    )
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
    else:
        text = answer.choices[0].message.content
    jsonschema.validate(json.loads(text), schema)


def test_an_answer_can_be_bound_to_a_grammar(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="tiny", prompt="?", max_tokens=20, n=4, extra_body={"grammar": 'start: "tak" | "नहीं"'}
    )
    assert {choice.text for choice in answer.choices} <= {"tak", "नहीं"}


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "vernacular"
