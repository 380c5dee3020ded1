"""A program's trial: it is built and run in sandboxes, and passes only if its verdict is proven.

Python's tests run in a sandbox of their own and ask the candidate, in another, for values (`within/`): it sees no test
and has no way to the verdict. Programs of other languages share their process with their tests; there the proof is a
secret that the harness takes in before the candidate's code is there and gives back after the last test.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple

from vernacular.evaluation.code.go_imports import go_file, imported
from vernacular.evaluation.code.languages import GO, RUST, Language, find_language, harness, languages
from vernacular.evaluation.code.rust_tests import as_program, without_main
from vernacular.evaluation.sandbox.limits import Ending, Limits, MiB
from vernacular.evaluation.sandbox.running import finish
from vernacular.evaluation.sandbox.sandbox import Program, Sandbox, Streams
from vernacular.foundation.errors import MachineError
from vernacular.foundation.files import atomic_folder, sha256_json
from vernacular.foundation.native import cache_folder

Outcome = Literal["passed", "failed", "limit", "not built"]

_BUILDING = Limits(
    wall_seconds=300,
    cpu_seconds=120,
    memory_bytes=2048 * MiB,
    processes=256,
    output_bytes=64 * MiB,
    scratch_bytes=512 * MiB,
    open_files=1024,
)
_TOKEN_BYTES = 64
_WITHIN = "vernacular/evaluation/code/within"
_SIDE = (
    "import sys; sys.path.insert(0, '/program'); from vernacular.evaluation.code.within.{side} import main; "
    "main(*(open(f'/program/{{name}}', encoding='utf-8', newline='').read() for name in sys.argv[1:]))"
)


class Question(NamedTuple):
    """What is tried.

    Attributes:
        program: the candidate's, whole.
        test: the benchmark's tests; they pass if they end without an error.
        entry_point: the function that is tested.
        helpers: the benchmark's own code that the tests may use; of JavaScript, a question whose last brace is open.
        setup: what stands before the tests in their file.
    """

    program: str
    test: str
    entry_point: str
    helpers: str = ""
    setup: str = ""


class Result(NamedTuple):
    """How a trial went.

    Attributes:
        outcome: "passed", "failed" (wrong, an error, or it ended without a verdict), "limit", or "not built".
        reason: the error that the tests met with; "" if passed.
        limit: the limit that was reached, or None.
        output: the end of standard output and error.
        seconds: of wall time, with the building.
        cpu_seconds: of all processes.
        peak_bytes: most resident memory.
    """

    outcome: Outcome
    reason: str
    limit: str | None
    output: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int


class Trials:
    """Runs programs of some languages; any number of threads may use it. Use it as a context manager.

    Args:
        languages: their names.
        limits: of each program's run; building has its own.

    Raises:
        MachineError: the machine allows no sandbox, or a language's tools or libraries are missing.
    """

    def __init__(self, languages: Iterable[str], limits: Limits | None = None) -> None:
        self.limits = limits or Limits(wall_seconds=30)
        self._languages = {name: find_language(name) for name in languages}
        others = [language for language in self._languages.values() if language is not None]
        self._commands = {name: path for language in others for name, path in language.commands().items()}
        self._shown = [path for language in others for path in language.shown()]
        self._environment: dict[str, str] = {}
        self._sandbox = Sandbox(tools=self._shown)
        self._python = (str(Path(sys.executable).resolve()), "-I", "-S", "-c")
        try:
            self._sandbox.check()
            for language in others:
                self._check(language)
                self._prepare(language)
        except BaseException:
            self._sandbox.__exit__()
            raise

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._sandbox.__exit__()

    def run(self, language: str, question: Question) -> Result:
        """Try one program."""
        known = self._languages[language]
        return self._examine(question) if known is None else self._build_and_run(known, question)

    # ------------------------------------------------------------------------------------------------- Python

    def _examine(self, question: Question) -> Result:
        """The candidate in one sandbox, its tests in another, two pipes between them."""
        there, back = os.pipe(), os.pipe()
        candidate = self._side("candidate", {"source": question.program})
        tests = {"helpers": question.helpers, "test": question.test, "entry": question.entry_point}
        running = [self._sandbox.start(candidate, self.limits, Streams(there[0], back[1]))]
        running.append(self._sandbox.start(self._side("examiner", tests), self.limits, Streams(back[0], there[1])))
        for place in (*there, *back):
            os.close(place)
        tried, examined = finish(running)
        verdict = _read_verdict(examined.verdict)
        limit = tried.limit or examined.limit
        outcome: Outcome = "passed" if verdict is None and limit is None else "limit" if limit else "failed"
        return Result(
            outcome=outcome,
            reason="" if outcome == "passed" else verdict or "",
            limit=limit,
            output=tried.output + examined.output,
            seconds=max(tried.seconds, examined.seconds),
            cpu_seconds=tried.cpu_seconds + examined.cpu_seconds,
            peak_bytes=max(tried.peak_bytes, examined.peak_bytes),
        )

    def _side(self, side: str, parts: Mapping[str, str]) -> Program:
        given = {f"/program/{_WITHIN}/{name}.py": harness(f"within/{name}.py") for name in (side, "values")}
        given |= {f"/program/{name}": text.encode("utf-8", "surrogatepass") for name, text in parts.items()}
        return Program((*self._python, _SIDE.format(side=side), *parts), files=given)

    # --------------------------------------------------------------------------------------- other languages

    def _build_and_run(self, language: Language, question: Question) -> Result:
        limits = self.limits._replace(processes=language.processes)
        files = {path: harness(f"harness/{name}") for path, name in language.given.items()}
        built: Ending | None = None
        if language.build is not None:
            built = self._built(language, question)
            if built.exit_code != 0:
                return _result("limit" if built.limit else "not built", built, built.output.strip()[-400:])
            files |= _unpacked(built.verdict)
        token = secrets.token_hex(_TOKEN_BYTES // 2).encode()
        stdin = token
        if language.stdin == "json":
            parts = {"token": token.decode(), **question._asdict()}
            stdin = json.dumps(parts).encode()
        ran = self._sandbox.run(Program(self._command(language), files=files), limits, stdin)
        if ran.exit_code == 0 and ran.limit is None and secrets.compare_digest(ran.verdict, token):
            return _result("passed", ran, "", built)
        reason = "" if ran.limit else f"ended with code {ran.exit_code} and without a verdict"
        return _result("limit" if ran.limit else "failed", ran, reason, built)

    def _built(self, language: Language, question: Question) -> Ending:
        if language is languages()[GO]:
            question = _with_go_imports(question)
        if language is languages()[RUST]:
            question = question._replace(program=without_main(question.program), test=as_program(question.test))
        parts = {"{program}": question.program, "{test}": question.test, "{setup}": question.setup}
        sources = {}
        for name, template in language.sources.items():
            if "{" not in template and "\n" not in template:
                sources[name] = harness(f"harness/{template}")
                continue
            text = template
            for place, part in parts.items():
                text = part.join(text.split(place)) if place in template else text
            sources[name] = text.encode("utf-8", "replace")
        return self._make(f"{language.build}\ntar -cf - {language.products} >&3\n", sources)

    def _make(self, script: str, sources: Mapping[str, bytes]) -> Ending:
        files = {f"/program/{name}": content for name, content in sources.items()}
        command = ("/bin/sh", "-ec", f"cp -r /program/. /scratch\n{script}")
        folders = dict.fromkeys(str(path.parent) for path in self._commands.values())
        environment = {"PATH": ":".join([*folders, "/usr/bin", "/bin"]), **self._environment}
        return self._sandbox.run(Program(command, files, environment), _BUILDING)

    def _prepare(self, language: Language) -> None:
        """Build a language's libraries, or find those that were built before; programs see them read-only."""
        wanted = language.libraries
        if wanted is None:
            return
        tools = {str(path): path.stat().st_mtime for path in language.commands().values()}
        name = sha256_json([language.title, wanted.model_dump(mode="json"), tools])[:16]
        kept = cache_folder() / "code" / name
        if not kept.is_dir():
            sources = {path: text.encode() for path, text in wanted.sources.items()}
            built = self._make(f"{wanted.build}\ntar -cf - {wanted.products} >&3\n", sources)
            if built.exit_code != 0:
                raise MachineError(
                    f"the libraries of programs in {language.title} cannot be built: {built.output.strip()[-300:]}",
                    where=f"{language.title} (code execution)",
                    fix=f"install their sources (Debian: apt-get install {wanted.packages}), or leave out its tasks",
                )
            with atomic_folder(kept) as folder:
                for path, content in _unpacked(built.verdict).items():
                    (folder / Path(path).name).write_bytes(content)
        self._sandbox.__exit__()
        self._shown.append(kept)
        self._sandbox = Sandbox(tools=self._shown)
        self._environment["LIBRARIES"] = str(kept.resolve())

    def _command(self, language: Language) -> tuple[str, ...]:
        first, *rest = language.run
        return (str(self._commands.get(first, first)), *rest)

    def _check(self, language: Language) -> None:
        """Refuse a language whose libraries are missing."""
        if language.needs is None:
            return
        source = {"program.cpp": language.needs.program.encode()}
        ending = self._make("g++ -fsyntax-only program.cpp", source)
        if ending.exit_code != 0:
            raise MachineError(
                f"programs in {language.title} cannot be built: {ending.output.strip().splitlines()[0]}",
                where=f"{language.title} (code execution)",
                fix=f"install what the benchmark uses (Debian: apt-get install {language.needs.packages})",
            )


def _with_go_imports(question: Question) -> Question:
    """Both files as Go wants them; the tests may use what the program imports."""
    tests = go_file("program", f"{question.setup}\n{question.test}", imported(question.program))
    return question._replace(program=go_file("program", question.program), test=tests, setup="")


def _read_verdict(sent: bytes) -> str | None:
    """None for a pass; else why not."""
    try:
        verdict = json.loads(sent)
    except ValueError:
        return "the tests ended without a verdict"
    return None if verdict["passed"] is True else str(verdict["error"])


def _result(outcome: Outcome, ran: Ending, reason: str, built: Ending | None = None) -> Result:
    return Result(
        outcome=outcome,
        reason=reason,
        limit=ran.limit,
        output=ran.output,
        seconds=ran.seconds + (built.seconds if built else 0.0),
        cpu_seconds=ran.cpu_seconds + (built.cpu_seconds if built else 0.0),
        peak_bytes=max(ran.peak_bytes, built.peak_bytes if built else 0),
    )


def _unpacked(archive: bytes) -> dict[str, bytes]:
    """Files that a build made, as they will lie in the sandbox of the run; nothing is written here."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        found = {}
        for member in members:
            content = members.extractfile(member) if member.isreg() else None
            if content is not None and ".." not in Path(member.name).parts and not member.name.startswith("/"):
                found[f"/program/{member.name}"] = content.read()
        return found
