"""Token shards at an address: a folder here holds their index and tokenizer; shards stay there until they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vernacular.foundation.artifact import RECORD, read_artifact
from vernacular.foundation.errors import UserError
from vernacular.foundation.files import read_json, sha256_bytes, write_bytes, write_json
from vernacular.tokens.configuration import TokenCacheConfiguration
from vernacular.tokens.remote_files import RemoteFiles
from vernacular.tokens.shard import INDEX

ADDRESS = "address.json"


def address_of(folder: Path) -> str | None:
    """Where the shards of a folder lie; None where they lie in it."""
    path = folder / ADDRESS
    return str(read_json(path)["address"]) if path.is_file() else None


def mirror_tokens(address: str, below: Path, settings: TokenCacheConfiguration, companions: Sequence[str]) -> Path:
    """A folder that stands for the token shards at an address, brought up to date: all but the shards is in it.

    Args:
        address: where a folder of token shards was copied to, whole.
        below: where the folder is made; its name there depends on the address alone.
        settings: how failures are dealt with.
        companions: folders beside the index that come along; each holds a file at least.

    Raises:
        UserError: there is no finished folder of token shards, or its record is of others.
        MachineError: the address cannot be read.
    """
    files = RemoteFiles(address, settings)
    found = {name: content for name in (INDEX, RECORD) if (content := files.read(name)) is not None}
    if INDEX not in found:
        raise UserError(
            "no finished folder of token shards: index.json is missing",
            where=files.where(INDEX),
            fix="copy the folder of a tokenize stage there, whole, or correct the address",
        )
    for companion in companions:
        names = files.names(companion)
        if not names:
            raise UserError(
                f"the folder {companion} is missing beside the token shards",
                where=files.where(companion),
                fix="copy the folder of a tokenize stage there, whole",
            )
        found |= {name: content for name in names if (content := files.read(name)) is not None}
    folder = below / sha256_bytes(files.address.encode("utf-8"))[:16]
    for name, content in found.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)
    if RECORD not in found:
        (folder / RECORD).unlink(missing_ok=True)
    if address_of(folder) != files.address:
        write_json(folder / ADDRESS, {"address": files.address})
    _require_its_record(folder, files)
    return folder


def _require_its_record(folder: Path, files: RemoteFiles) -> None:
    """Refuse a record that is of other shards: one of two copies to the same address was not whole."""
    if not (folder / RECORD).is_file():
        return
    recorded = read_artifact(folder).outputs.get(INDEX)
    if recorded is None or recorded.sha256 != sha256_bytes((folder / INDEX).read_bytes()):
        raise UserError(
            f"{RECORD} and {INDEX} are not of the same token shards",
            where=files.where(RECORD),
            fix="copy the folder of a tokenize stage there again, whole",
        )
