"""Every snippet of docs/cards.md runs, against small checkpoints in the published layouts."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import tiny
from vernacular.models.configuration import ModelShape
from vernacular.models.decoder import Decoder
from vernacular.models.family import configure
from vernacular.models.weights import copy_tokenizer, published_token_ids, save_weights
from vernacular.tokens.tokenizer import Tokenizer

PAGE = Path(__file__).parents[2] / "docs" / "cards.md"
PUBLISHED: dict[str, dict[str, Any]] = {
    "Param-1-2.9B-Instruct": {"num_key_value_heads": 2, "intermediate_size": 168},
    "Krutrim-1-base": {
        "family": "mpt",
        "num_heads": 6,
        "num_key_value_heads": 2,
        "tie_embeddings": True,
        "clip_qkv": 6,
    },
    "Krutrim-1-instruct": {"family": "mpt", "num_heads": 6, "num_key_value_heads": 2, "tie_embeddings": True},
    "Krutrim-2-instruct": {"family": "mistral", "head_dim": 16, "num_key_value_heads": 2, "window": 8},
    "granite-3.0-1b-a400m-instruct": {
        "family": "granitemoe",
        "num_key_value_heads": 2,
        "num_experts": 6,
        "experts_per_token": 2,
        "tie_embeddings": True,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "logits_scaling": 6.0,
    },
    "Bielik-7B-v0.1": {"family": "mistral", "num_key_value_heads": 1, "window": 16},
}
WITHOUT_TEMPLATE = ("Krutrim-1-base", "Krutrim-1-instruct", "Krutrim-2-instruct", "Bielik-7B-v0.1")


class Snippet(NamedTuple):
    section: str
    language: str
    code: str


def snippets() -> list[Snippet]:
    found, section = [], ""
    for heading, language, code in re.findall(r"^## ([^\n]+)$|^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        section = heading or section
        if language:
            found.append(Snippet(section, language, code))
    return found


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `downloads/` holds what the five teams published, small."""
    folder = tmp_path_factory.mktemp("cards")
    tokenizer = tiny.make_tokenizer(folder / "tokenizer")
    for name, changes in PUBLISHED.items():
        shape = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "intermediate_size": 192, "initializer_range": 0.2}
        decoder = Decoder(configure(ModelShape(**{**shape, **changes}), tiny.VOCAB_SIZE, max_positions=512))
        decoder.initialise(seed=1)
        target = folder / "downloads" / name
        target.mkdir(parents=True)
        save_weights(target, decoder, token_ids=published_token_ids(Tokenizer.load(tokenizer)), dtype="bfloat16")
        copy_tokenizer(tokenizer, target)
        if name in WITHOUT_TEMPLATE:
            (target / "chat_template.jinja").unlink()
    config_file = folder / "downloads" / "Param-1-2.9B-Instruct" / "config.json"
    config = json.loads(config_file.read_text())
    config |= {"model_type": "parambharatgen", "custom_mlp_ratio": 3.5}
    del config["head_dim"], config["intermediate_size"]
    config_file.write_text(json.dumps(config))
    prompts = [{"messages": [{"role": "user", "content": text}]} for text in ("Who are you?", "कौन?", "Kim jesteś?")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in prompts))
    return folder


@pytest.fixture
def here(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(downloads)
    threads = torch.get_num_threads()
    yield downloads
    torch.set_num_threads(threads)


def test_the_page_covers_all_five_cards() -> None:
    sections = {snippet.section for snippet in snippets() if snippet.language == "python"}
    assert len(sections) == 5
    assert {name for name in PUBLISHED if f"downloads/{name} " in PAGE.read_text()} == set(PUBLISHED)


@pytest.mark.parametrize("section", list(dict.fromkeys(snippet.section for snippet in snippets())))
def test_the_snippets_of_a_card_run(
    section: str, here: Path, run_cli: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for snippet in snippets():
        if snippet.section != section:
            continue
        if snippet.language == "bash":
            for line in snippet.code.splitlines():
                program, *words = shlex.split(line)
                assert program == "vernacular"
                finished = run_cli(*words)
                assert finished.returncode == 0, finished.stderr
        else:
            exec(compile(snippet.code, f"{PAGE.name}, {section}", "exec"), {})
            assert capsys.readouterr().out, "the snippet printed nothing"
    if section == "Krutrim-2":
        assert len((here / "answers.jsonl").read_text().splitlines()) == 3
