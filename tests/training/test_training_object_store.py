"""Training beside S3 over HTTP: checkpoints and tokens there, requests that fail, keys that are wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

import trained_together
from crew import Crew
from vernacular.foundation.address import open_address
from vernacular.foundation.errors import MachineError, UserError
from vernacular.tokens.configuration import TokenCacheConfiguration
from vernacular.tokens.elsewhere import mirror_tokens
from vernacular.training.checkpoint_storage import open_storage

if TYPE_CHECKING:
    from object_store import ObjectStore

Hire = Callable[[int], Crew]
ADDRESS = "s3://bucket/runs"
WRONG_KEYS = {
    "key": ({"AWS_ACCESS_KEY_ID": "AKIANOBODYKNOWS"}, "access denied"),
    "secret": ({"AWS_SECRET_ACCESS_KEY": "correct-horse-battery"}, "access denied"),
    "no keys": ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "access denied"),
    "port": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "the store failed"),
}


def assert_same_bits(one: Path, two: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert all(torch.equal(first[name], second[name]) for name in first)


def mirrored(tokens: Path, object_store: ObjectStore, folder: Path) -> Path:
    """A folder that stands for a copy of the token shards in the store."""
    whole = folder / "whole"
    shutil.copytree(tokens, whole)
    shutil.copytree(tokens.parent / "tokenizer", whole / "tokenizer")
    address = object_store.upload(whole, "tokens")
    mirror = mirror_tokens(address, folder / "mirror", TokenCacheConfiguration(), ["tokenizer"])
    shutil.copytree(whole / "tokenizer", mirror.parent / "tokenizer", dirs_exist_ok=True)
    return mirror


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    cache = {"folder": str(folder / "cache"), "attempts": 3, "first_wait_seconds": 0}
    return {"checkpoint_folder": ADDRESS, "checkpoint_every": 2, "token_cache": cache, **changes}


@pytest.mark.parametrize("is_async", [False, True])
def test_tokens_and_checkpoints_in_a_bucket_make_the_run_of_the_local_disk(
    is_async: bool, object_store: ObjectStore, tokens: Path, tmp_path: Path
) -> None:
    changes = settings(tmp_path, checkpoint_async=is_async)
    there = mirrored(tokens, object_store, tmp_path)
    trained_together.train_until(4, "dense", changes, there, tmp_path / "run" / "base")
    assert open_storage(f"{ADDRESS}/run/base").names("step") == ["step-00000002", "step-00000004"]
    trained_together.train("dense", changes, there, tmp_path / "run" / "base")
    assert open_storage(f"{ADDRESS}/run/base").names("step") == ["step-00000004", "step-00000006"]
    trained_together.train("dense", {}, tokens, tmp_path / "local")
    assert_same_bits(tmp_path / "run" / "base", tmp_path / "local")
    assert any(key.startswith("tokens/train/") for key in object_store.objects())


def test_a_store_that_is_busy_or_drops_connections_is_asked_again(
    object_store: ObjectStore, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the client's own tries, which are many
    there = mirrored(tokens, object_store, tmp_path)
    object_store.busy, object_store.drops = 2, 2
    changes = settings(tmp_path)
    trained_together.train_until(2, "dense", changes, there, tmp_path / "run" / "base")
    object_store.busy, object_store.drops = 2, 2
    trained_together.train("dense", changes, there, tmp_path / "run" / "base")
    assert object_store.busy == object_store.drops == 0
    trained_together.train("dense", {}, tokens, tmp_path / "local")
    assert_same_bits(tmp_path / "run" / "base", tmp_path / "local")


@pytest.mark.parametrize("wrong", WRONG_KEYS)
def test_a_store_that_refuses_or_is_not_there_is_named_and_the_secret_is_not(
    wrong: str, object_store: ObjectStore, tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables, said = WRONG_KEYS[wrong]
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    acts = {
        "runs": lambda: trained_together.train(
            "dense", settings(tmp_path, checkpoint_attempts=1), tokens, tmp_path / "run" / "base"
        ),
        "tokens": lambda: mirror_tokens(
            "s3://bucket/tokens",
            tmp_path / "mirror",
            TokenCacheConfiguration(attempts=1, first_wait_seconds=0),
            ["tokenizer"],
        ),
    }
    for place, act in acts.items():
        object_store.requests.clear()
        with pytest.raises(MachineError, match=said) as caught:
            act()
        assert str(caught.value.where).startswith(f"s3://bucket/{place}")
        assert "AWS_" in str(caught.value.fix)
        assert len(object_store.requests) <= 2, "what is refused is not asked for again"
        for secret in (object_store.key.secret_access_key, "correct-horse-battery"):
            assert secret not in str(caught.value)


def test_a_bucket_that_is_not_there_is_refused_and_not_made(
    object_store: ObjectStore, tokens: Path, tmp_path: Path
) -> None:
    changes = settings(tmp_path, checkpoint_folder="s3://bukcet/runs")
    with pytest.raises(MachineError, match=r"not found: .*bucket") as caught:
        trained_together.train("dense", changes, tokens, tmp_path / "run" / "base")
    assert str(caught.value.where).startswith("s3://bukcet/runs")
    with pytest.raises(UserError, match=r"index\.json is missing"):
        mirror_tokens("s3://bukcet/tokens", tmp_path / "mirror", TokenCacheConfiguration(), ["tokenizer"])
    assert not any(request.startswith("PUT") for request in object_store.requests)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIA:sesame@bucket/runs",
        "s3://AKIA:sesame/sesame+@bucket/runs",
        "s3://AKIA:sesame?@bucket/runs",
        "https://host/runs?signature=sesame",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address: str, tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="password or a query") as caught:
        trained_together.train("dense", {"checkpoint_folder": address}, tokens, tmp_path / "run" / "base")
    assert "sesame" not in str(caught.value)
    assert caught.value.where == f"an address that begins with {address.partition('://')[0]}://"


@pytest.mark.parametrize("address", ["memory://host:22/runs@noon", "memory://name@host/runs", "memory://bucket/a:b@c"])
def test_an_address_without_a_secret_is_opened(address: str) -> None:
    assert open_address(address)[1].endswith(address.partition("://")[2].rpartition("/")[2])


def test_an_address_whose_file_system_connects_at_once_and_to_nowhere_is_told() -> None:
    # A host of this name exists nowhere (RFC 6761).
    with pytest.raises(MachineError, match="while opening it") as caught:
        open_address("ftp://nowhere.invalid/runs")
    assert caught.value.where == "ftp://nowhere.invalid/runs"


PART = "step-00000002/__1_0.distcp"  # the second rank's


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("fault", ["busy", "drops"])
def test_ranks_try_a_checkpoint_again_together(
    fault: str, object_store: ObjectStore, hire: Hire, tokens: Path, tmp_path: Path
) -> None:
    changes = settings(tmp_path)
    hire(2).run(trained_together.train, "dense", {}, tokens, tmp_path / "local")
    object_store.troubled = PART
    setattr(object_store, fault, 7)  # s3fs itself asks five times
    environment = {**object_store.environment, "AWS_MAX_ATTEMPTS": "1"}
    hire(2).run(trained_together.train_beside, environment, "dense", changes, tokens, tmp_path / "run" / "base")
    assert getattr(object_store, fault) == 0
    first = f"PUT /bucket/runs/run/base/{PART.replace('__1', '__0')}"
    assert object_store.requests.count(first) >= 2, "the first rank writes its part again too"
    assert_same_bits(tmp_path / "run" / "base", tmp_path / "local")


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("fault", ["busy", "drops"])
@pytest.mark.parametrize("is_async", [False, True])
def test_ranks_end_together_where_one_cannot_write(
    is_async: bool, fault: str, object_store: ObjectStore, hire: Hire, tokens: Path, tmp_path: Path
) -> None:
    object_store.troubled = PART
    setattr(object_store, fault, 10**6)
    changes = settings(tmp_path, checkpoint_attempts=1, checkpoint_async=is_async)
    environment = {**object_store.environment, "AWS_MAX_ATTEMPTS": "1"}
    ranks = hire(2)
    ranks.begin(trained_together.train_beside, environment, "dense", changes, tokens, tmp_path / "run" / "base")
    answers = ranks.answers()
    ranks.stop()
    assert [fine for fine, _ in answers] == [False, False]
    for _, said in answers:
        assert "the store failed" in said
        assert "s3://bucket/runs/run/base/step-00000002" in said
        assert object_store.key.secret_access_key not in said
