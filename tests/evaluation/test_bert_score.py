"""BERTScore is that of the formula, and says of which encoder it is."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet
import pytest
import torch

from vernacular.evaluation.configuration import EvaluateConfiguration
from vernacular.evaluation.evaluation import evaluate
from vernacular.evaluation.metrics.bert_score import Encoder, bert_scores
from vernacular.evaluation.scores import read_scores, rescore
from vernacular.evaluation.suites.selection import select
from vernacular.evaluation.suites.suite import read_suite, suite_shares
from vernacular.foundation.errors import UserError

WORDS = [
    "kot",
    "pies",
    "śpi",
    "biega",
    "szybko",
    "मनुष्य",
    "पानी",
    "पीता",
    "है",
    "the",
    "cat",
    "dog",
    "sleeps",
    "##s",
    "##ek",
    ",",
]
PAIRS = [
    ("kot śpi", "pies śpi"),
    ("मनुष्य पानी पीता है .", "पानी पीता मनुष्य"),
    ("the cat sleeps", "the cat sleeps"),
    ("koty biega szybko , pies", "kotek śpi"),
    ("", "dog"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    made = tmp_path_factory.mktemp("encoder")
    (made / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]), encoding="utf-8")
    BertTokenizerFast(vocab=str(made / "vocab.txt"), do_lower_case=False, strip_accents=False).save_pretrained(made)
    torch.manual_seed(3)
    shape = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=5 + len(WORDS), max_position_embeddings=32, **shape)).save_pretrained(made)
    return made


def plain(folder: Path, answers: list[str], references: list[str], layer: int, idf: bool) -> list[tuple[float, ...]]:
    """The formula by loops, one text at a time: independent of batches, masks and matrices."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    held = [set(tokenizer(reference)["input_ids"]) for reference in references]

    def read(text: str) -> list[tuple[int, list[float]]]:
        encoded = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = model(**encoded, output_hidden_states=True).hidden_states[layer][0].tolist()
        return list(zip(encoded["input_ids"][0].tolist(), states, strict=True))

    def cosine(one: list[float], other: list[float]) -> float:
        product = sum(x * y for x, y in zip(one, other, strict=True))
        return product / math.sqrt(sum(x * x for x in one) * sum(y * y for y in other))

    def weight(token: int) -> float:
        if token in (tokenizer.cls_token_id, tokenizer.sep_token_id):
            return 0.0
        return math.log((len(held) + 1) / (sum(token in one for one in held) + 1)) if idf else 1.0

    def found(one: list[tuple[int, list[float]]], other: list[tuple[int, list[float]]]) -> float:
        total = sum(weight(token) for token, _ in one)
        best = sum(weight(token) * max(cosine(vector, theirs) for _, theirs in other) for token, vector in one)
        return best / total if total else 0.0

    results = []
    for answer, reference in zip(answers, references, strict=True):
        ours, theirs = read(answer), read(reference)
        precision, recall = found(ours, theirs), found(theirs, ours)
        total = precision + recall
        results.append((precision, recall, 2 * precision * recall / total if total else 0.0))
    return results


@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_it_is_the_formulas(folder, layer: int, idf: bool) -> None:
    answers, references = [list(side) for side in zip(*PAIRS, strict=True)]
    ours = bert_scores(Encoder(folder, layer), answers, [[one] for one in references], idf=idf)
    for one, other in zip(ours, plain(folder, answers, references, layer, idf), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert ours[2] == pytest.approx((1.0, 1.0, 1.0), abs=1e-6)
    assert ours[4].f1 == 0.0


def test_the_nearest_of_several_references_counts(folder) -> None:
    (found,) = bert_scores(Encoder(folder, 2), ["kot śpi"], [["dog", "kot śpi", "pies"]], idf=False)
    assert found.f1 == pytest.approx(1.0, abs=1e-6)


def test_the_record_holds_it_and_names_the_encoder(make_task, fake_model, folder, tmp_path) -> None:
    items = [{"question": f"{number}?", "answer": reference} for number, (_, reference) in enumerate(PAIRS)]
    tasks = make_task(
        items,
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="answer",
        metric_list=[{"metric": "exact_match"}],
        metadata={"version": 1, "metrics": ["bert_score", "bert_score_recall"]},
        generation_kwargs={"until": ["\n"]},
    )
    model = fake_model(answer=lambda prompt: PAIRS[int(prompt[0])][0])
    settings = EvaluateConfiguration(bert_score=folder, bert_score_layer=2)
    evaluate(settings, model, tasks, None, tmp_path / "out")
    answers, references = [list(side) for side in zip(*PAIRS, strict=True)]
    expected = [f1 for _, _, f1 in plain(folder, answers, references, 2, idf=False)]
    values = {score["metric"]: score["value"] for score in read_scores(tmp_path / "out")["scores"]}
    assert values["bert_score"] == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    run = json.loads((tmp_path / "out/records/run.json").read_text())
    assert run["bert_score"] == {"encoder": Encoder(folder, 2).hash, "name": folder.name, "layer": 2, "idf": False}
    assert {score.metric: score.value for score in rescore(tmp_path / "out")} == values
    rows = pyarrow.parquet.read_table(tmp_path / "out/records/one.parquet").to_pylist()
    assert len(json.loads(rows[0]["facts"])["bert_score"]) == 3
    with pytest.raises(UserError, match="one: BERTScore is that of an encoder and a layer"):
        evaluate(EvaluateConfiguration(bert_score=folder), model, tasks, None, tmp_path / "none")
    evaluate(
        EvaluateConfiguration(only=("one",), bert_score=folder, bert_score_layer=1), model, tasks, None, tmp_path / "x"
    )
    assert read_scores(tmp_path / "x")["scores"] != read_scores(tmp_path / "out")["scores"]


def test_no_encoder_no_layer_no_score(folder, tasks, fake_model, tmp_path) -> None:
    with pytest.raises(UserError, match="the encoder has 3 layers, not 4"):
        Encoder(folder, 4)
    with pytest.raises(UserError, match="no encoder can be read"):
        Encoder(tmp_path, 1)
    evaluate(EvaluateConfiguration(), fake_model(), tasks, None, tmp_path / "out")
    with pytest.raises(UserError, match="unknown metric 'bert_score'"):
        rescore(tmp_path / "out", {"bert_score": {}})


def test_indic_qa_has_the_cards_metric_or_is_left_out_by_name(folder, fake_model, tmp_path) -> None:
    question = {"id": "1", "question": "कौन पीता है?", "answers": [{"text": "मनुष्य", "answer_start": 0}]}
    document = {"data": [{"paragraphs": [{"context": "मनुष्य पानी पीता है", "qas": [question]}]}]}
    (tmp_path / "xquad").mkdir()
    (tmp_path / "xquad/xquad.hi.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    suite = read_suite("krutrim-2-indic")
    without = select(suite, tmp_path, only=["indic_qa_*"], only_available=True)
    with pytest.raises(UserError, match="indic_qa_hi: BERTScore is that of an encoder and a layer"):
        evaluate(EvaluateConfiguration(), fake_model(), None, None, tmp_path / "out", data=tmp_path, selection=without)
    with pytest.raises(UserError, match="needs an encoder") as refused:
        select(suite, tmp_path, only_available=True, encoder=False)
    assert "indic_qa_hi" in str(refused.value)
    settings = EvaluateConfiguration(bert_score=folder, bert_score_layer=2)
    model = fake_model(answer=lambda prompt: "मनुष्य")
    evaluate(settings, model, None, None, tmp_path / "out", data=tmp_path, selection=without)
    assert suite_shares(suite, read_scores(tmp_path / "out")["scores"]) == {"indic_qa": pytest.approx(1.0, abs=1e-6)}
    also = rescore(tmp_path / "out", {"bert_score_precision": {}})
    assert {score.metric for score in also} == {"squad_f1", "squad_exact", "bert_score", "bert_score_precision"}
