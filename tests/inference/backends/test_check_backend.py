"""check-backend: equal where it is equal, and not otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tiny
from misbehaving import FakeServer, completion
from served import ServerProcess
from vernacular.cli.main import main
from vernacular.inference.backends.comparison import compare
from vernacular.inference.backends.opening import open_model
from vernacular.inference.backends.probes import Probe, own_probes
from vernacular.inference.backends.tolerance import FORMATS, tolerance
from vernacular.inference.model import LocalModel

FEW = [Probe("Polish", "Żółta łódka kołysze się."), Probe("Hindi", "गाँव के पास एक पुराना कुआँ"), Probe("Tamil", "மழை")]


def check(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["check-backend", *map(str, words), "--max-new-tokens", "8"])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_our_server_is_equal(
    checked_server: ServerProcess, checked_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "moje.txt"
    more.write_text("Gdzie kupię chleb?\n\nक्षण भर\n", encoding="utf-8")
    address = f"openai:{checked_server.url}/v1?model=tiny&dtype=float32"
    code, out, _ = check(capsys, address, "--against", checked_weights, "--prompts", more)
    texts = len(own_probes()) + 2
    assert code == 0, out
    assert out.splitlines()[-1] == "equal"
    assert f"{texts}, tokens: {texts} counted by the server" in out
    assert f"{texts} of {texts} the same" in out
    assert "float32 against float32: relative noise" in out


def test_a_server_of_other_weights_is_named(
    checked_server: ServerProcess, other_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"openai:{checked_server.url}/v1?model=tiny&dtype=float32"
    code, out, _ = check(capsys, address, "--against", other_weights)
    assert code == 1
    verdict = out.splitlines()[-1]
    first = own_probes()[0].name
    assert verdict.startswith(f"not equal: {first}, token 2 (")
    assert "here," in verdict and "apart, more than" in verdict


def test_whole_numbers_are_within_their_tolerance(checked_lm: LocalModel) -> None:
    theirs = open_model(f"vernacular:{checked_lm.folder}?dtype=int8")
    found = compare(checked_lm, theirs, own_probes(), num_tokens=16)
    assert found.is_equal, found.differences
    assert found.prompts.mean > 100 * tolerance(checked_lm.decoder.configuration, "float32", "float32", 1).mean
    assert found.ties, "rounding to 8 bits makes some tokens change places"
    assert all("here (log-probability" in tie for tie in found.ties)


def test_equal_is_said_without_more_only_where_all_answers_are_the_same(
    checked_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--against", checked_weights, "--max-new-tokens", "16")
    assert main(["check-backend", *map(str, (f"vernacular:{checked_weights}?dtype=int8", *words))]) == 0
    out = capsys.readouterr().out
    same = next(line for line in out.splitlines() if line.startswith("greedy")).split()[1]
    assert int(same) < len(own_probes())
    said = f"equal within the tolerance of int8; {same} of {len(own_probes())} greedy answers are the same"
    assert out.splitlines()[-1] == said
    code, out, _ = check(capsys, f"vernacular:{checked_weights}?kernels=torch", *words[:2], "--kernels", "torch")
    assert (code, out.splitlines()[-1]) == (0, "equal")
    assert "largest difference 0.00e+00" in out


def test_our_own_texts_are_cut_for_a_model_with_few_positions(
    tokenizer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tiny.make_weights(tmp_path / "small", tokenizer_folder, max_positions=40)
    code, out, err = check(capsys, small, "--against", small)
    assert (code, out.splitlines()[-1]) == (0, "equal"), err
    assert "cut to fit Hindi, " in out
    more = tmp_path / "moje.txt"
    more.write_text("Krótko.\n" + "Żółta łódka kołysze się. " * 9, encoding="utf-8")
    code, _, err = check(capsys, small, "--against", small, "--prompts", more)
    assert code == 2
    assert "moje.txt:2" in err and "it may have 32" in err and "--max-new-tokens, or shorten it" in err


def test_the_same_whole_numbers_are_not_float32(checked_lm: LocalModel) -> None:
    """Held to the format that it does not have, int8 is found out."""
    theirs = open_model(f"vernacular:{checked_lm.folder}?dtype=int8")
    theirs.__dict__["identity"] = {**theirs.identity, "dtype": "float32"}
    found = compare(checked_lm, theirs, FEW, num_tokens=4)
    assert not found.is_equal
    assert "log-probability" in found.differences[0]


@pytest.mark.parametrize("changed", [{"rope_theta": 20_000.0}, {"rms_norm_eps": 1e-2}])
def test_a_small_change_of_the_model_is_found_in_bfloat16_too(
    changed: dict[str, float], checked_lm: LocalModel, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(checked_lm.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    assert changed.keys() <= config.keys()
    del config["rope_parameters"]
    (folder / "config.json").write_text(json.dumps({**config, **changed}))
    found = compare(checked_lm, open_model(f"vernacular:{folder}?dtype=bfloat16"), own_probes(), num_tokens=4)
    assert not found.is_equal
    assert compare(checked_lm, open_model(f"vernacular:{checked_lm.folder}?dtype=bfloat16"), FEW).is_equal


def test_a_format_too_coarse_to_tell_is_not_called_equal(
    checked_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = check(capsys, f"vernacular:{checked_weights}?dtype=int4", "--against", checked_weights)
    assert code == 1
    assert out.splitlines()[-1].startswith(("not shown to be equal: the formats are too coarse", "not equal:"))


def test_another_tokenizer_is_named(checked_lm: LocalModel, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(checked_lm.folder, folder)
    shutil.copyfile(
        tiny.make_tokenizer(tmp_path / "tokenizer", vocab_size=400) / "tokenizer.json", folder / "tokenizer.json"
    )
    found = compare(checked_lm, open_model(str(folder)), FEW, num_tokens=4)
    assert found.differences[0].startswith("tokenizer: ours is ")


def test_a_server_that_shows_only_texts_is_not_called_equal(checked_lm: LocalModel, fake: FakeServer) -> None:
    fake.replies[0] = completion("całkiem co innego")
    theirs = open_model(f"openai:{fake.url}?model=m&max_positions=320", weights=checked_lm.folder)
    found = compare(checked_lm, theirs, FEW[:1], num_tokens=4)
    assert "the server reads the text as 3 tokens" in found.differences[0]
    assert "'całkiem co innego' there" in found.differences[1]
    (own,) = checked_lm.generate([FEW[0].text], max_new_tokens=4)
    count = len(checked_lm.encode_prompt(FEW[0].text))
    reply = {"choices": [{"text": own, "finish_reason": "stop"}], "usage": {"prompt_tokens": count}}
    fake.replies[0] = fake.replies[0]._replace(body=json.dumps(reply).encode())
    found = compare(checked_lm, theirs, FEW[:1], num_tokens=4)
    assert found.differences == []
    assert not found.is_equal
    assert found.undecided == ["the back-end gives no log-probabilities at all"]


def test_the_tolerance_grows_with_the_noise_of_the_formats(checked_lm: LocalModel) -> None:
    configuration = checked_lm.decoder.configuration
    bounds = {name: tolerance(configuration, "float32", name, 1.0).one for name in FORMATS}
    order = ["float32", "float16", "bfloat16", "int8", "q8_0", "int4"]
    assert sorted(bounds, key=bounds.__getitem__) == order
    unknown = tolerance(configuration, "float32", "not stated", 1.0)
    assert unknown.one == bounds["float32"]
    assert "'not stated', is held to float32" in unknown.derivation


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("openai:http://h/v1?modle=x",), "did you mean 'model'"),
        (("--max-new-tokens", "0"), "--max-new-tokens is 0"),
        (("--kernels", "natve"), "'natve'"),
        (("--device", "abacus"), "abacus"),
        (("--prompts", "missing.txt"), "file not found"),
    ],
)
def test_what_is_wrong_is_said(
    words: tuple[str, ...], said: str, checked_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = () if ":" in words[0] else (checked_weights,)
    code = main(["check-backend", *map(str, (*address, *words, "--against", checked_weights))])
    assert code == 2
    assert said in capsys.readouterr().err
