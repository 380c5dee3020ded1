"""Our GGUF export in llama.cpp itself, where it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import tiny
from vernacular.foundation.errors import MachineError, UserError
from vernacular.inference.backends.llama_cpp import LlamaCppModel, LlamaCppSettings
from vernacular.inference.backends.opening import open_model
from vernacular.inference.model import LocalModel
from vernacular.models.bridge import export_weights
from vernacular.models.language_model import LanguageModel, Sampling

installed = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None,
    reason="needs llama-cpp-python and gguf: the extras [llama-cpp] and [gguf]",
)

PAIRS = [
    ("गाँव के पास", " एक पुराना कुआँ"),
    ("गाँव के पास", " मीठा पानी"),
    ("गाँव", " के पास"),
    ("Żółta ", "łódka"),
    ("", "மழை"),
]
PROMPTS = ["Gdzie kupię", "في الصباح", "Gdzie kupię świeży"]


@pytest.fixture(scope="module")
def file(checked_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "mały.gguf"
    export_weights(checked_weights, path, "gguf", dtype="float32", ids_only=True)
    return path


@pytest.fixture(scope="module")
def llama(file: Path, checked_weights: Path) -> LlamaCppModel:
    return LlamaCppModel(file, LlamaCppSettings(weights=checked_weights, threads=1))


@installed
def test_it_is_a_language_model_and_says_what_it_is(llama: LlamaCppModel, checked_lm: LocalModel) -> None:
    assert isinstance(llama, LanguageModel)
    assert llama.max_positions == checked_lm.max_positions
    assert llama.identity["backend"].startswith("llama.cpp (llama-cpp-python ")
    assert llama.identity["dtype"] == "float32"
    for name in ("tokenizer", "template"):
        assert llama.identity[name] == checked_lm.identity[name]


@installed
def test_scores_are_ours(llama: LlamaCppModel, checked_lm: LocalModel) -> None:
    done: list[int] = []
    for ours, theirs in zip(
        checked_lm.loglikelihood(PAIRS), llama.loglikelihood(PAIRS, report=done.append), strict=True
    ):
        assert theirs.log_probability == pytest.approx(ours.log_probability, abs=1e-3)
        assert theirs.is_greedy == ours.is_greedy
    assert sum(done) == len(PAIRS)
    # Longer than a batch, and than the model's positions: windows as ours.
    texts = ["Wczoraj wieczorem słuchaliśmy, jak deszcz dudni o dach. " * 20, "", "क्षण"]
    found = llama.text_loglikelihood(texts)
    for ours, theirs in zip(checked_lm.text_loglikelihood(texts), found, strict=True):
        assert theirs.num_tokens == ours.num_tokens
        assert theirs.log_probability == pytest.approx(ours.log_probability, abs=1e-2)
    assert found[0].num_tokens > llama.max_positions


@installed
def test_greedy_answers_are_ours(llama: LlamaCppModel, checked_lm: LocalModel) -> None:
    asked = [Sampling(max_new_tokens=20, log_probabilities=2, stop=("w",))] * len(PROMPTS)
    for ours, theirs in zip(checked_lm.complete(PROMPTS, asked), llama.complete(PROMPTS, asked), strict=True):
        assert (theirs.text, theirs.ids, theirs.stopped_by) == (ours.text, ours.ids, ours.stopped_by)
        for a, b in zip(ours.log_probabilities, theirs.log_probabilities, strict=True):
            assert b.log_probability == pytest.approx(a.log_probability, abs=1e-3)
            assert [best[0] for best in b.best] == [best[0] for best in a.best]


@installed
def test_draws_are_ours(llama: LlamaCppModel, checked_lm: LocalModel) -> None:
    drawn = Sampling(max_new_tokens=20, temperature=0.9, top_k=60, min_p=0.01, repetition_penalty=1.2, seed=5)
    (ours,), (theirs,) = checked_lm.complete(["Gdzie kupię"], [drawn]), llama.complete(["Gdzie kupię"], [drawn])
    assert theirs.ids == ours.ids
    assert "".join(llama.stream("Gdzie kupię", drawn)) == ours.text
    chat = [{"role": "user", "content": "क्या <|end|>?"}]
    assert "".join(llama.stream_chat(chat, drawn)) == "".join(checked_lm.stream_chat(chat, drawn))


@installed
def test_answers_follow_a_schema(llama: LlamaCppModel) -> None:
    pytest.importorskip("llguidance")
    (found,) = llama.complete(["Prawda?"], [Sampling(max_new_tokens=20, json_schema='{"type": "boolean"}')])
    assert isinstance(json.loads(found.text), bool)


@installed
def test_a_file_of_other_tokens_is_refused(file: Path, checked_weights: Path, tmp_path: Path) -> None:
    other = tiny.make_tokenizer(tmp_path / "tokenizer", vocab_size=400)
    with pytest.raises(UserError, match=r"token \d+ is .* in the tokenizer and .* in the GGUF file"):
        open_model(f"llama.cpp:{file}?weights={other}")
    with pytest.raises(UserError, match="context is 320 tokens, not 321"):
        open_model(f"llama.cpp:{file}?weights={checked_weights}&context=321")


@installed
def test_a_file_that_is_none_is_refused(checked_weights: Path, file: Path, tmp_path: Path) -> None:
    for content, said in ((b"not this", "not a GGUF file"), (file.read_bytes()[:4000], "cannot load the file")):
        path = tmp_path / "x.gguf"
        path.write_bytes(content)
        with pytest.raises(UserError, match=said):
            open_model(f"llama.cpp:{path}?weights={checked_weights}")
    with pytest.raises(UserError, match="no such GGUF file"):
        open_model(f"llama.cpp:{tmp_path}/y.gguf?weights={checked_weights}")


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is not None, reason="llama-cpp-python is installed")
def test_without_the_package_the_extra_is_named(checked_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"pip install 'vernacular\[llama-cpp\]'"):
        open_model(f"llama.cpp:{tmp_path}/y.gguf?weights={checked_weights}")
