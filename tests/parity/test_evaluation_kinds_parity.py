"""Every kind of task that the harness can put: its own Hugging Face path and ours answer alike, in float32.

A model of random weights and one that has learnt a few sentences by heart, whose answers have meaning. Differences are
listed, none is tolerated: the same prompts, texts, best tokens, choices and values; log-probabilities within float32's
rounding over a text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import SENTENCES, make_tokenizer, make_weights

pytestmark = pytest.mark.slow

TOLERANCE = 1e-3
ITEMS = [
    {"q": "Gdzie kupię świeży chleb", "options": ["na targu", "i gęś na święta?", "u Zofii"], "right": 1},
    {"q": "गाँव के पास एक पुराना", "options": ["कुआँ है", "पेड़ पर बैठा", "नाव"], "right": 0},
    {"q": "The ferry leaves when the tide", "options": ["sleeps", "turns, not before.", "on Sunday"], "right": 1},
    {"q": "மழை பெய்தால் ஆறு", "options": ["நிரம்பும்", "காலையில்", "கரையில் நிற்கும்"], "right": 0},
    {"q": "في الصباح يفتح الخبّاز", "options": ["دكانه", "في الليل", "غدا"], "right": 0},
]
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "options",
    "doc_to_target": "right",
}
ACCURACY = {"metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
ANSWER = {
    "output_type": "generate_until",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{options[right]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}],
}
EXACT = {"metric_list": [{"metric": "exact_match"}]}
SHOTS = {
    "training_split": "train",
    "fewshot_split": "train",
    "num_fewshot": 2,
    "fewshot_config": {"sampler": "first_n"},
}
MC1_AND_MC2 = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("mc1", "mc2")]
TAKE_FIRST = {"function": "take_first"}


def mc1_and_mc2(doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """TruthfulQA's rules: the first is the right one; the share of probability that the right ones have."""
    scores = [score for score, _ in results]
    whole = [math.exp(score) for score in scores]
    return {"mc1": float(scores.index(max(scores)) == 0), "mc2": sum(whole[:2]) / sum(whole)}


def last_word(doc: Mapping[str, Any]) -> str:
    return " " + doc["q"].split()[-1]


KINDS: Mapping[str, Mapping[str, Any]] = {
    "choice": {**CHOICE, **ACCURACY},
    "choice_with_shots": {**CHOICE, **ACCURACY, **SHOTS},
    "choice_by_length": {**CHOICE, "metric_list": [{"metric": "acc_norm"}], "doc_to_text": "{{q}}?\nOdpowiedź:"},
    "letters": {
        **(CHOICE | ACCURACY),
        "doc_to_text": "{{q}}\nA. {{options[0]}}\nB. {{options[1]}}\nC. {{options[2]}}\nउत्तर:",
        "doc_to_choice": ["A", "B", "C"],
    },
    "partial_context": {  # WinoGrande: contexts differ, the text after them is scored.
        **(CHOICE | ACCURACY),
        "doc_to_text": "right",
        "doc_to_choice": "{{[options[0] + ' i', options[1] + ' i', options[2] + ' i']}}",
        "doc_to_target": "{{q}}",
        "metric_list": [{"metric": "acc"}],
    },
    "schema_whole": {  # A Winograd schema as two or more whole sentences.
        **(CHOICE | ACCURACY),
        "doc_to_text": "",
        "doc_to_choice": "{{[q + ' ' + options[0], q + ' ' + options[1], q + ' ' + options[2]]}}",
    },
    "multiple_right": {**CHOICE, "metric_list": [{"metric": "acc"}], "doc_to_target": "{{[right, 2]}}"},
    "truthful_choice": {
        **CHOICE,
        "process_results": mc1_and_mc2,
        "metric_list": MC1_AND_MC2,
    },
    "truthful_answer": {
        **ANSWER,
        "doc_to_text": "Q: {{q}}\nA:",
        "generation_kwargs": {"until": ["\n\n", "."], "max_gen_toks": 14},
    },
    "description": {**(CHOICE | ACCURACY), **SHOTS, "description": "Wybierz właściwy ciąg dalszy.\n\n"},
    "delimiters": {**(CHOICE | ACCURACY), **SHOTS, "fewshot_delimiter": "\n###\n", "target_delimiter": "\n→ "},
    "no_delimiter": {**(CHOICE | ACCURACY), "target_delimiter": ""},
    "space_at_the_end": {**(CHOICE | ACCURACY), "doc_to_text": "{{q}} ", "target_delimiter": ""},
    "too_long_a_prompt": {**(CHOICE | ACCURACY), "doc_to_text": "{{(q + '. ') * 30}}"},
    "last_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{q.split(' ')[:-1] | join(' ')}}",
        "doc_to_target": last_word,
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "nothing_before": {
        "output_type": "loglikelihood",
        "doc_to_text": "",
        "doc_to_target": "{{q}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "perplexity"}],
    },
    "answer": ANSWER,
    "answer_with_shots": {**ANSWER, **SHOTS},
    "answer_with_a_beginning": {**ANSWER, "gen_prefix": "क्योंकि"},
    "several_stops": {**ANSWER, "generation_kwargs": {"until": ["है", "ą", " a", "ம்", "?"], "max_gen_toks": 16}},
    "no_stops": {**ANSWER, "generation_kwargs": {"until": [], "max_gen_toks": 9}},
    "several_right_answers": {**ANSWER, **EXACT, "doc_to_target": "{{options}}"},
    "pattern": {
        **ANSWER,
        "filter_list": [
            {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "([0-9]+)"}, TAKE_FIRST]},
            {
                "name": "loose",
                "filter": [{"function": "regex", "regex_pattern": r"(\w)", "group_select": -1}, TAKE_FIRST],
            },
        ],
    },
    "chain": {
        **ANSWER,
        "filter_list": [
            {"name": "lower", "filter": [{"function": "lowercase"}, {"function": "remove_whitespace"}, TAKE_FIRST]}
        ],
    },
    "text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{q}}",
        "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
    },
    "text_in_windows": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{(q + ' ') * 20}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
}
IN_CHATS = ("choice", "choice_with_shots", "answer_with_shots", "answer_with_a_beginning", "description", "pattern")
CHATS: Mapping[str, Mapping[str, Any]] = {
    "chat": {"apply_chat_template": True, "fewshot_as_multiturn": False},
    "chat in turns": {"apply_chat_template": True, "fewshot_as_multiturn": True},
    "chat under instructions": {
        "apply_chat_template": True,
        "fewshot_as_multiturn": True,
        "system_instruction": "Odpowiadaj krótko.",
    },
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    from vernacular.evaluation.harness import quiet

    folder = tmp_path_factory.mktemp("tasks")
    for split, items in (("test", ITEMS), ("train", ITEMS[::-1])):
        lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    files = {split: str(folder / f"{split}.jsonl") for split in ("test", "train")}
    kwargs = {"data_files": files, "cache_dir": str(folder / "cache"), "keep_in_memory": True}
    common = {"dataset_path": "json", "test_split": "test", "dataset_kwargs": kwargs, "metadata": {"version": 1}}
    with quiet():
        found = TaskManager(include_defaults=False).load([{**common, **KINDS[name], "task": name} for name in KINDS])
        for task in found["tasks"].values():
            task.set_fewshot_seed(0)
    return dict(found["tasks"])


@pytest.fixture(scope="module", params=["random", "trained"])
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    weights = make_weights(folder / "model", make_tokenizer(folder / "tokenizer"))
    if request.param == "trained":
        learn_by_heart(weights)
    return weights


def learn_by_heart(folder: Path) -> None:
    """Train the weights on their tokenizer's sentences until they know them."""
    import torch

    from vernacular.models.weights import load_decoder, save_weights
    from vernacular.tokens.tokenizer import Tokenizer

    decoder, tokenizer = load_decoder(folder, "float32", "cpu").train(), Tokenizer.load(folder)
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    rows = [torch.tensor([[1, *tokenizer.encode(text), 2]]) for texts in SENTENCES.values() for text in texts]
    for _ in range(60):
        for ids in rows:
            scores_TV = decoder.logits(decoder(ids[:, :-1]))[0]
            torch.nn.functional.cross_entropy(scores_TV, ids[0, 1:]).backward()
        optimiser.step()
        optimiser.zero_grad()
    save_weights(folder, decoder, token_ids={"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})


def samples_of(model: Any, tasks: Mapping[str, Any], **how: Any) -> dict[str, list[dict[str, Any]]]:
    from lm_eval import evaluator

    from vernacular.evaluation.harness import quiet

    with quiet():
        found = evaluator.evaluate(
            lm=model, task_dict={"tasks": dict(tasks)}, bootstrap_iters=0, log_samples=True, **how
        )
    return dict(found["samples"])


def differences(name: str, ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is not the same in two lists of samples."""
    place = sorted(range(len(theirs)), key=lambda number: (theirs[number]["filter"], theirs[number]["doc_id"]))
    mine = sorted(range(len(ours)), key=lambda number: (ours[number]["filter"], ours[number]["doc_id"]))
    if len(ours) != len(theirs):
        yield f"{name}: {len(ours)} and {len(theirs)} samples"
    for one, two in ((ours[a], theirs[b]) for a, b in zip(mine, place, strict=False)):
        where = f"{name}, item {one['doc_id']}, filter {one['filter']}"
        for key in one:
            if key != "doc" and not same(one[key], two[key]):
                yield f"{where}: {key} is {one[key]!r}, {two[key]!r} in the harness"
        if KINDS[name.split(":")[0]]["output_type"] == "multiple_choice":
            scores = [[response[0][0] for response in side["resps"]] for side in (one, two)]
            first, second = (side.index(max(side)) for side in scores)
            if first != second:
                yield f"{where}: choice {first}, {second} in the harness"


def same(one: Any, two: Any) -> bool:
    """Equal; numbers within float32's rounding."""
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == two)


def test_all_kinds_of_tasks_have_the_same_answers(weights: Path, tasks: Mapping[str, Any], tmp_path: Path) -> None:
    from lm_eval.models.huggingface import HFLM

    from vernacular.evaluation.answer_file import AnswerFile
    from vernacular.evaluation.answers import RememberingModel
    from vernacular.evaluation.harness import HarnessModel
    from vernacular.inference.model import load

    file = AnswerFile(tmp_path / "answers.jsonl")
    ours = HarnessModel(RememberingModel(load(weights), file))
    texts = [name for name in KINDS if KINDS[name]["output_type"] == "loglikelihood_rolling"]
    others = [name for name in KINDS if name not in texts]
    found: list[str] = []
    compared = set()
    for names, ways in ((texts, {"": {}}), (others, {"": {}}), (IN_CHATS, CHATS)):
        # For whole texts the harness puts a begin token first itself.
        theirs = HFLM(
            pretrained=str(weights), dtype="float32", device="cpu", batch_size=4, add_bos_token=names is not texts
        )
        chosen = {name: tasks[name] for name in names}
        for way, how in ways.items():
            for name, task in chosen.items():
                # One by one: in one call the harness's cache of logits takes a text that two tasks cut into context
                # and continuation in different places for the same request (0.4.13).
                both = [samples_of(model, {name: task}, **how)[name] for model in (ours, theirs)]
                found += differences(f"{name}: {way}", *both)
                compared.add((name, way))
    file.close()
    assert not found, "\n".join(found)
    assert len(compared) == len(KINDS) + len(IN_CHATS) * len(CHATS)
    assert len(KINDS) >= 20
