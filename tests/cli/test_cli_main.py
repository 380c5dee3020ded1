"""The command line's manners: help, versions, errors without tracebacks, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import vernacular
from vernacular.cli import main as command_line
from vernacular.foundation.errors import InternalError, MachineError, UserError, unknown_name


def verb_that(action):
    """A stand-in for a verb's module whose `run` does `action`."""

    class Stand:
        __doc__ = "Stand in for a verb."
        EXAMPLES = ""

        def add_arguments(self, parser) -> None:
            parser.add_argument("recipe", nargs="?")
            parser.add_argument("changes", nargs="*")
            parser.add_argument("--out", default="runs")

        def run(self, arguments):
            return action(arguments)

    return Stand()


@pytest.fixture
def run_action(monkeypatch):
    """`run_action(action, *words)`: the exit code of a verb that does `action`, run in this process."""

    def run(action, *words: str) -> int:
        monkeypatch.setattr(command_line, "VERBS", ("stand",))
        monkeypatch.setattr(command_line, "_load", lambda verb: verb_that(action))
        return command_line.main(["stand", *words])

    return run


def raising(error: BaseException):
    def action(arguments):
        raise error

    return action


def test_help_lists_every_verb_with_its_line(run_cli) -> None:
    shown = run_cli("--help").stdout
    for verb in command_line.VERBS:
        assert f"  {verb} " in shown
    assert "examples:" in shown


@pytest.mark.parametrize("verb", command_line.VERBS)
def test_every_verb_explains_itself(run_cli, verb: str) -> None:
    shown = run_cli(verb, "--help").stdout
    assert shown.startswith(f"usage: vernacular {verb} ")
    assert f"vernacular {verb}" in shown.split("examples:")[1]


def test_version(run_cli) -> None:
    assert run_cli("--version").stdout == f"vernacular {vernacular.__version__}\n"


def test_no_verb_shows_the_help_and_fails(run_cli) -> None:
    done = run_cli(code=2)
    assert done.stdout == ""
    assert "verbs:" in done.stderr


def test_an_unknown_verb_names_the_nearest(run_cli) -> None:
    done = run_cli("shema", code=2)
    assert done.stderr.startswith("error: unknown verb 'shema'\n")
    assert "did you mean 'schema'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_flag_names_the_nearest(run_action, capsys) -> None:
    assert run_action(lambda arguments: 0, "demo.yaml", "--oot", "elsewhere") == 2
    assert "error: unknown argument '--oot'" in (shown := capsys.readouterr().err)
    assert "did you mean '--out'?" in shown


def test_a_word_of_the_wrong_kind_is_refused_at_its_flag(run_cli) -> None:
    shown = run_cli("plan", "demo.yaml", "--gpus", "many", code=2).stderr
    assert shown.startswith("error: a whole number is needed, not 'many'\n  where: vernacular plan --gpus\n")


def test_a_verb_asks_only_for_what_it_needs(run_cli) -> None:
    assert run_cli("run", code=2).stderr.startswith("error: the following arguments are required: RECIPE\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NotADirectoryError(20, "Not a directory", "out/asked.json"), "a file stands where a folder is needed"),
        (FileExistsError(17, "File exists", "out"), "a file stands where a folder is needed"),
        (IsADirectoryError(21, "Is a directory", "out"), "this is a folder, not a file"),
    ],
)
def test_a_file_in_a_folder_s_place_is_the_user_s(run_action, capsys, error: OSError, message: str) -> None:
    assert run_action(raising(error)) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}\n  where: out")


def test_of_many_known_names_the_likest_are_listed() -> None:
    error = unknown_name("task", "gsm9k", ["gsm8k", *(f"task_{number}" for number in range(100))])
    assert error.fix is not None and "did you mean 'gsm8k'" in error.fix and "(101 in all)" in error.fix
    assert len(error.fix) < 200


def test_flags_are_not_abbreviated(run_action, capsys) -> None:
    assert run_action(lambda arguments: 0, "--ou", "elsewhere") == 2
    assert "unknown argument '--ou'" in capsys.readouterr().err


def test_words_and_flags_may_alternate(run_action) -> None:
    def action(arguments):
        assert (arguments.recipe, arguments.out) == ("demo.yaml", "elsewhere")
        assert arguments.changes == ["seed=1", "stages.base.steps=2"]

    assert run_action(action, "demo.yaml", "seed=1", "--out", "elsewhere", "stages.base.steps=2") == 0


@pytest.mark.parametrize(("kind", "code"), [(UserError, 2), (MachineError, 3), (InternalError, 4)])
def test_errors_are_lines_on_standard_error(run_action, capsys, kind, code: int) -> None:
    error = kind("język 'klingoński' jest nieznany", where="przepis.yaml:3", fix="użyj 'pl'")
    assert run_action(raising(error)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: język 'klingoński' jest nieznany\n  where: przepis.yaml:3\n  fix:   użyj 'pl'\n"


def test_a_full_disk_is_the_machines_error(run_action, capsys) -> None:
    assert run_action(raising(OSError(28, "No space left on device", "runs/demo"))) == 3
    assert "the disk is full" in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback(run_action) -> None:
    with pytest.raises(ZeroDivisionError):
        run_action(lambda arguments: 1 // 0)


def test_traceback_on_request(run_cli) -> None:
    done = run_cli("--traceback", "schema", "--nothing-like-it", code=2)
    assert "Traceback (most recent call last)" in done.stderr
    assert "error: unknown argument '--nothing-like-it'" in done.stderr


def test_an_interruption_says_how_to_continue_where_the_verb_does(run_action, capsys, monkeypatch) -> None:
    assert run_action(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("run", "run the same command again to continue"),
        ("batch", "run the same command again to continue"),
        ("evaluate", "--resume"),
        ("chat", None),
        ("export", None),
    ],
)
def test_each_verb_says_whether_it_continues(verb: str, said: str | None, monkeypatch, capsys) -> None:
    monkeypatch.setattr(command_line, "_run", lambda *_: raising(KeyboardInterrupt())(None))
    assert command_line.main([verb]) == 130
    shown = capsys.readouterr().err
    assert shown == "\ninterrupted\n" if said is None else said in shown


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_under_standard_output_is_one_error(repository) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "vernacular.cli.main", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(repository / "src")},
            check=False,
            text=True,
        )
    assert done.returncode == 3
    assert done.stderr.startswith("error: the disk is full, while ")
    assert "--out" not in done.stderr and "Exception ignored" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["--help", "schema"])
def test_a_reader_that_leaves_is_no_error(repository, word: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "-m", "vernacular.cli.main", word],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository / "src")},
        check=False,
    )
    os.close(write_end)
    assert done.stderr == b""
    assert done.returncode in (0, 141)
