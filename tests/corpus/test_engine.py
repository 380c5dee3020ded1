"""The same corpus from any number of workers, from Ray, from a run that was killed, from files cut elsewhere."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vernacular.corpus import curation
from vernacular.corpus.configuration import CurateConfiguration, Engine
from vernacular.corpus.curation import curate
from vernacular.corpus.engine import spread
from vernacular.foundation.artifact import CHECKPOINTS, collect_outputs, digest_outputs
from vernacular.foundation.configuration import validate
from vernacular.foundation.errors import UserError

TESTS = Path(__file__).resolve().parents[1]
NAMES = {
    "pl": ["Ola", "Jan", "Ewa", "Staś", "Zosia", "Marek", "Basia", "Wojtek"],
    "hi": ["राम", "सीता", "मोहन", "गीता", "अमित", "कविता", "रमेश", "नीता"],
    "ta": ["கண்ணன்", "மாலா", "ராஜா", "செல்வி", "முருகன்", "லதா", "குமார்", "தேவி"],
}
SENTENCES = {
    "pl": "{} i {} poszli rano nad jezioro, żeby zobaczyć łabędzie. Wrócili o godzinie {} zmęczeni i głodni.",
    "hi": "{} और {} सुबह झील के किनारे हंस देखने गए। वे {} बजे थके और भूखे घर लौटे।",
    "ta": "{} மற்றும் {} காலையில் ஏரிக்கரைக்கு அன்னங்களைப் பார்க்கச் சென்றனர். அவர்கள் {} மணிக்கு வீடு திரும்பினர்.",
}


def texts() -> list[str]:
    """Documents of several lines, with copies and near-copies among them."""
    generator = random.Random(5)
    found = []
    for language, sentence in SENTENCES.items():
        for _ in range(60):
            lines = [
                sentence.format(*generator.sample(NAMES[language], 2), generator.randint(1, 999)) for _ in range(5)
            ]
            found.append("\n".join(lines))
        found += found[-9:-6] + [text.replace("\n", " ") for text in found[-6:-3]]
    generator.shuffle(found)
    return found


def write(folder: Path, lines: list[str], files: int) -> Path:
    folder.mkdir(parents=True)
    for part in range(files):
        (folder / f"{part}.jsonl").write_text("\n".join(lines[part::files]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lines() -> list[str]:
    records = [json.dumps({"text": text}, ensure_ascii=False) for text in texts()]
    return [*records, "{broken", json.dumps({"tekst": "nie to pole"})]


@pytest.fixture(scope="module")
def source(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("source") / "in", lines, 5)


def start(source: Path, out: Path, engine: dict[str, Any] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(TESTS / "curating.py"), str(source), str(out), json.dumps(engine or {"workers": 1})]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def digest(source: Path, out: Path, engine: dict[str, Any] | None = None) -> str:
    """The digest of a corpus that a process of its own curates."""
    process = start(source, out, engine)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert not (out / CHECKPOINTS).exists()
    return digest_outputs(collect_outputs(out))


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("expected") / "out"
    found = digest(source, out)
    report = json.loads((out / "report.json").read_text())
    assert {"exact_duplicate", "near_duplicate"} <= set(report["removed"]["reasons"])
    assert report["quarantined"]["documents"] == 2
    return found


@pytest.mark.slow
def test_killed_three_times_it_ends_in_the_same_artifact(expected: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = out / CHECKPOINTS / "finished"
    seen = []
    for goal in (2, 6, 11):
        process = start(source, out)
        try:
            while len(list(finished.glob("[!.]*.json"))) < goal:
                assert process.poll() is None, "it ended before it could be killed"
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        seen.append({path.name: path.stat().st_mtime_ns for path in finished.glob("[!.]*.json")})
    assert seen[0].items() <= seen[1].items() <= seen[2].items(), "what was finished was done again"
    assert digest(source, out) == expected


@pytest.mark.slow
def test_two_workers_give_the_same_artifact(expected: str, source: Path, tmp_path: Path) -> None:
    assert digest(source, tmp_path / "out", {"workers": 2, "memory": "4GB"}) == expected


@pytest.mark.slow
def test_ray_gives_the_same_artifact(expected: str, source: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs ray: pip install 'vernacular[ray]'")
    assert digest(source, tmp_path / "out", {"runner": "ray", "workers": 2}) == expected


@pytest.mark.slow
def test_files_shuffled_and_cut_elsewhere_give_the_same_artifact(
    expected: str, lines: list[str], tmp_path: Path
) -> None:
    shuffled = random.Random(8).sample(lines, len(lines))
    assert digest(write(tmp_path / "in", shuffled, 3), tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [120, 240, 400])
def test_a_full_disk_is_named_and_the_run_goes_on_with_more_room(
    kilobytes: int, expected: str, source: Path, tmp_path: Path
) -> None:
    """A file system of a few kilobytes, in a namespace of its own, that grows for the second attempt."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs user namespaces (unshare -rm), which this machine does not allow")
    program = f'"{sys.executable}" "{TESTS / "curating.py"}" "{source}" "$1/out"'
    script = (
        f'mount -t tmpfs -o size={kilobytes}k tmpfs "$1" && {program}; echo "code $?"; '
        f'mount -o remount,size=100m "$1" && {program} && cp -r "$1/out" "$2"'
    )
    (tmp_path / "disk").mkdir()
    words = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path / "disk"), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent / "src")}
    done = subprocess.run(words, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert "code 1" in done.stdout
    assert "MachineError: the disk is full, while " in done.stderr
    assert digest_outputs(collect_outputs(tmp_path / "out")) == expected


class PowerCut(Exception):
    pass


def interrupted(configuration: CurateConfiguration, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Curate up to where everything is assessed; returns the runs."""

    def cut(*_: Any) -> None:
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(curation, "find_distinct", cut)
        with pytest.raises(PowerCut):
            curate(configuration, out)
    return sorted((out / CHECKPOINTS / "runs").iterdir())


def test_a_damaged_run_is_made_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vernacular.corpus import assessment

    configuration = validate(CurateConfiguration, {"sources": [{"path": str(source)}], "engine": {"workers": 1}})
    monkeypatch.setattr(assessment, "_FILES_PER_TASK", 1)
    curate(configuration, tmp_path / "whole")
    runs = interrupted(configuration, tmp_path / "out", monkeypatch)
    assert len(runs) == 5
    runs[1].write_bytes(runs[1].read_bytes()[:-100])
    runs[3].unlink()
    made = []
    write_run = assessment.write_run
    monkeypatch.setattr(assessment, "write_run", lambda rows, path: (made.append(path), write_run(rows, path)))
    curate(configuration, tmp_path / "out")
    assert made == [runs[1], runs[3]]
    assert digest_outputs(collect_outputs(tmp_path / "out")) == digest_outputs(collect_outputs(tmp_path / "whole"))


def test_other_settings_begin_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"sources": [{"path": str(source)}], "engine": {"workers": 1}}
    runs = interrupted(validate(CurateConfiguration, given), tmp_path, monkeypatch)
    before = runs[0].read_bytes()
    stamp = runs[0].stat().st_mtime_ns
    again = interrupted(validate(CurateConfiguration, {**given, "engine": {"memory": "2GB"}}), tmp_path, monkeypatch)
    assert again[0].stat().st_mtime_ns == stamp, "the engine changes no result"
    other = {**given, "near_duplicates": {"hashes": 64}}
    assert interrupted(validate(CurateConfiguration, other), tmp_path, monkeypatch)[0].read_bytes() != before


@pytest.mark.slow
def test_the_memory_allowed_is_not_exceeded(tmp_path: Path) -> None:
    """Of ten times the text that is held at once, with copies that are compared."""
    generator = random.Random(3)
    words = ["".join(generator.choices("aąbcćdeęfghijklłmnoóprsśtuwyzźż", k=7)) for _ in range(5000)]
    with open(tmp_path / "in.jsonl", "w", encoding="utf-8") as file:
        for _ in range(8000):
            text = generator.choices(words, k=500)
            for copy in (text, [*text[:-1], "inaczej"]):
                print(json.dumps({"text": " ".join(copy)}, ensure_ascii=False), file=file)
    assert (tmp_path / "in.jsonl").stat().st_size > 60_000_000
    assert peak_of(tmp_path / "in.jsonl", tmp_path / "out", "700MB") < 700e6


def peak_of(source: Path, out: Path, memory: str) -> int:
    """Bytes that a process of its own holds at most while it curates, without the rules that look at one document."""
    settings = {
        "sources": [{"path": str(source)}],
        "engine": {"workers": 1, "memory": memory},
        "filters": {"families": []},
        "personal_data": {"mask": []},
    }
    program = (
        "import json, pathlib, sys\n"
        "from vernacular.corpus.configuration import CurateConfiguration\n"
        "from vernacular.corpus.curation import curate\n"
        "summary = curate(CurateConfiguration.model_validate_json(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "assert summary['removed']['near_duplicate'] == summary['documents'] == 8000, summary\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", program, json.dumps(settings), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-2]) << 10


def double(number: int) -> int:
    if number == 7:
        raise UserError("seven is refused", where="here")
    return 2 * number


@pytest.mark.slow
def test_errors_of_a_worker_come_back_whole() -> None:
    settings = Engine(workers=2, memory="2GB")
    assert list(spread(double, [1, 2, 3], settings)) == [2, 4, 6]
    with pytest.raises(UserError, match="seven is refused") as caught:
        list(spread(double, [1, 7, 3], settings))
    assert caught.value.where == "here"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="address is that of a Ray cluster"):
        validate(Engine, {"address": "ray://head:10001"})
    with pytest.raises(UserError, match="memory"):
        validate(Engine, {"memory": "lots"})
