"""Token shards: what is written is read back across shards; what is damaged is refused by name."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from vernacular.foundation.errors import MachineError, UserError
from vernacular.tokens.measures import TextCounts, count_texts
from vernacular.tokens.shard_writer import ShardWriter, write_index
from vernacular.tokens.shards import ShardReader, ids_dtype
from vernacular.tokens.tokenizer import Tokenizer

TEXTS = ["पहला लेख", "drugi tekst", "மூன்றாவது", "四番目", "fifth"]


def counted(text: str, ids: Sequence[int]) -> TextCounts:
    return count_texts([text], [len(ids)])[0]


def name_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def write_one(folder: Path, ids: list[int], name: str = "0" * 32) -> None:
    with ShardWriter(folder, "train", vocab_size=300, tokens_per_shard=9, weighted=False) as writer:
        writer.add(ids, name=name, language="pl", source="test", count=counted("abc", ids))


@pytest.fixture
def write(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Path]:
    def write_shards(tokens_per_shard: int = 20, weighted: bool = False) -> Path:
        writer = ShardWriter(
            tmp_path, "train", vocab_size=tokenizer.vocab_size, tokens_per_shard=tokens_per_shard, weighted=weighted
        )
        with writer:
            for number, text in enumerate(TEXTS):
                ids = tokenizer.encode(text, begin=True, end=True)
                weights = [number / 2] * len(ids) if weighted else None
                writer.add(
                    ids, name=name_of(text), language="und", source="test", count=counted(text, ids), weights=weights
                )
        write_index(tmp_path, tokenizer, {"train": writer.entry})
        return tmp_path

    return write_shards


@pytest.mark.parametrize("tokens_per_shard", [1, 20, 10_000])
def test_documents_come_back_whatever_the_shards(
    write: Callable[..., Path], tokenizer: Tokenizer, tokens_per_shard: int
) -> None:
    reader = ShardReader.open(write(tokens_per_shard), "train", verify=True)
    everything = [tokenizer.encode(text, begin=True, end=True) for text in TEXTS]
    stream = [token for ids in everything for token in ids]
    assert reader.num_documents == len(TEXTS)
    assert reader.num_tokens == len(stream)
    for start in range(0, len(stream), 3):
        for stop in (start, start + 1, len(stream)):
            assert reader.slice(start, stop).tolist() == stream[start:stop]
    owners = [number for number, ids in enumerate(everything) for _ in ids]
    assert [reader.document_at(position) for position in range(len(stream))] == owners
    for number, text in enumerate(TEXTS):
        assert tokenizer.decode(reader.slice(*reader.document_range(number)).tolist()) == text
        assert reader.document_name(number) == name_of(text)
    assert reader.document_lengths().tolist() == [len(ids) for ids in everything]
    assert reader.weights(0, 5).tolist() == [1.0] * 5


def test_a_shard_holds_one_language_and_one_source(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [
        ("hi", "web", "पहला लेख"),
        ("pl", "web", "drugi tekst"),
        ("hi", "books", "दूसरी किताब"),
        ("hi", "web", "तीसरा लेख"),
    ]
    with ShardWriter(tmp_path, "train", vocab_size=tokenizer.vocab_size, tokens_per_shard=99, weighted=False) as writer:
        for language, source, text in documents:
            writer.add(
                tokenizer.encode(text),
                name=name_of(text),
                language=language,
                source=source,
                count=counted(text, tokenizer.encode(text)),
            )
    write_index(tmp_path, tokenizer, {"train": writer.entry})
    reader = ShardReader.open(tmp_path, "train", verify=True)

    def texts(part: ShardReader) -> list[str]:
        ranges = (part.document_range(number) for number in range(part.num_documents))
        return [tokenizer.decode(part.slice(*limits).tolist()) for limits in ranges]

    assert [(shard.language, shard.source) for shard in reader.shards] == [
        ("hi", "books"),
        ("hi", "web"),
        ("pl", "web"),
    ]
    assert texts(reader) == ["दूसरी किताब", "पहला लेख", "तीसरा लेख", "drugi tekst"]
    assert texts(ShardReader([tmp_path], "train", language="hi")) == ["दूसरी किताब", "पहला लेख", "तीसरा लेख"]
    assert texts(ShardReader([tmp_path], "train", source="web")) == ["पहला लेख", "तीसरा लेख", "drugi tekst"]
    assert texts(ShardReader([tmp_path], "train", language="hi", source="web")) == ["पहला लेख", "तीसरा लेख"]
    assert writer.entry["languages"]["hi"]["documents"] == 3
    assert writer.entry["sources"]["web"]["bytes"] == sum(len(documents[n][2].encode()) for n in (0, 1, 3))


def test_many_languages_and_sources_need_no_open_files(tmp_path: Path, tokenizer: Tokenizer) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        with ShardWriter(tmp_path, "train", vocab_size=300, tokens_per_shard=9, weighted=False) as writer:
            for number in range(150):
                writer.add(
                    [1, 2], name=name_of(str(number)), language=f"x{number}", source="web", count=counted("क", [1, 2])
                )
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(writer.entry["shards"]) == 150


def test_shards_of_an_older_form_are_refused_with_what_to_do(write: Callable[..., Path]) -> None:
    path = write() / "index.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(UserError, match="know their language and source") as refused:
        ShardReader.open(path.parent, "train")
    assert "tokenize again" in str(refused.value.fix)


def test_folders_of_another_tokenizer_cannot_be_read_as_one(
    write: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, other = write(), tmp_path_factory.mktemp("other")
    content = (folder / "index.json").read_text()
    (other / "index.json").write_text(content)
    assert ShardReader([folder, other], "train").num_documents == 2 * len(TEXTS)
    (other / "index.json").write_text(content.replace('"pad_id": 0', '"pad_id": 2'))
    with pytest.raises(UserError, match="its pad_id is 2"):
        ShardReader([folder, other], "train")


def test_weights_come_back(write: Callable[..., Path]) -> None:
    reader = ShardReader.open(write(weighted=True), "train", verify=True)
    for number in range(len(TEXTS)):
        assert set(reader.weights(*reader.document_range(number)).tolist()) == {number / 2}


def test_a_reader_travels_to_another_process_as_its_folder(write: Callable[..., Path]) -> None:
    reader = ShardReader.open(write(), "train")
    packed = pickle.dumps(reader)
    assert len(packed) < 1000
    assert pickle.loads(packed).slice(0, 9).tolist() == reader.slice(0, 9).tolist()


def test_a_truncated_shard_is_refused_with_both_checksums(write: Callable[..., Path]) -> None:
    path = write() / "train" / "00001.ids.bin"
    recorded = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes()[:-2])
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    later = ShardReader([path.parent.parent], "train")
    with pytest.raises(UserError, match="bytes instead of"):
        later.slice(0, later.num_tokens)  # whoever did not look on opening is told on reading
    with pytest.raises(UserError, match="bytes instead of") as refused:
        ShardReader.open(path.parent.parent, "train")
    assert recorded in refused.value.message
    assert found in refused.value.message
    assert refused.value.where == str(path)


def test_an_altered_shard_is_refused_when_verified(write: Callable[..., Path]) -> None:
    path = write() / "train" / "00000.ids.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    ShardReader.open(path.parent.parent, "train")
    with pytest.raises(UserError, match="was altered"):
        ShardReader.open(path.parent.parent, "train", verify=True)


def test_a_missing_shard_and_a_missing_index_are_refused(write: Callable[..., Path]) -> None:
    folder = write()
    (folder / "train" / "00000.names.bin").unlink()
    with pytest.raises(UserError, match="is missing"):
        ShardReader.open(folder, "train")
    (folder / "index.json").unlink()
    with pytest.raises(UserError, match="not a finished folder"):
        ShardReader.open(folder, "train")


def test_an_unknown_split_names_the_known(write: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="unknown split 'trian'") as refused:
        ShardReader.open(write(), "trian")
    assert "did you mean 'train'" in str(refused.value.fix)


def test_another_tokenizer_is_refused(write: Callable[..., Path], tokenizer: Tokenizer, tmp_path: Path) -> None:
    reader = ShardReader.open(write(), "train")
    reader.require_tokenizer(tokenizer)
    tokenizer.save(tmp_path / "other")
    with open(tmp_path / "other" / "tokenizer.json", "a") as file:
        file.write("\n")
    with pytest.raises(UserError, match="written with the tokenizer"):
        reader.require_tokenizer(Tokenizer.load(tmp_path / "other"))


def test_an_interrupted_write_leaves_no_index_and_no_half_a_file(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def write_and_die() -> None:
        with ShardWriter(tmp_path, "train", vocab_size=300, tokens_per_shard=4, weighted=False) as writer:
            for number in range(3):
                writer.add(
                    [1, 2, 3], name=name_of(str(number)), language="pl", source="test", count=counted("abc", [1, 2, 3])
                )
            raise Killed

    with pytest.raises(Killed):
        write_and_die()
    left = sorted(path.name for path in (tmp_path / "train").iterdir())
    assert left == [f"{shard:05d}.{part}.bin" for shard in (0, 1) for part in ("ids", "names", "offsets")]
    ShardWriter(tmp_path, "train", vocab_size=300, tokens_per_shard=4, weighted=False)
    assert not list((tmp_path / "train").iterdir())


def test_a_full_disk_is_the_machines_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    real_open = open
    monkeypatch.setattr(
        "builtins.open",
        lambda path, *rest, **named: real_open(full if ".ids.bin" in str(path) else path, *rest, **named),
    )
    with pytest.raises(MachineError, match="disk is full"):
        write_one(tmp_path, [1, 2, 3])
    assert not list((tmp_path / "train").glob("*ids*"))


def test_ids_are_as_narrow_as_the_vocabulary_allows(tmp_path: Path) -> None:
    assert ids_dtype(2**16).itemsize == 2
    assert ids_dtype(2**16 + 1).itemsize == 4
    with pytest.raises(UserError, match="outside the vocabulary"):
        write_one(tmp_path, [300])


def test_wide_ids_come_back(tmp_path: Path) -> None:
    class Wide:
        vocab_size, hash, begin_id, end_id, pad_id = 100_000, "0" * 64, 1, 2, 0

    with ShardWriter(tmp_path, "train", vocab_size=100_000, tokens_per_shard=9, weighted=False) as writer:
        writer.add(
            [1, 99_999, 2], name=name_of("x"), language="pl", source="test", count=counted("abc", [1, 99_999, 2])
        )
    write_index(tmp_path, Wide(), {"train": writer.entry})  # type: ignore[arg-type]
    assert ShardReader.open(tmp_path, "train").slice(0, 3).tolist() == [1, 99_999, 2]
    assert (tmp_path / "train" / "00000.ids.bin").read_bytes() == np.array([1, 99_999, 2], "<u4").tobytes()


def test_a_name_that_is_no_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="32 hexadecimal digits"):
        write_one(tmp_path, [1], name="chapter one")
