"""Errors with an owner: each says what went wrong, where, and what to change.

`UserError` is mended by editing an input (a recipe, a file, a flag); `MachineError` by changing the machine
(disk, memory, a missing package); `InternalError` is ours to mend. The command line prints them without a
traceback and exits with their code.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class VernacularError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what is wrong, in one sentence.
        where: the file, `file:line`, key or flag at fault.
        fix: what to change, in one sentence.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = str(where) if where is not None else None
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.message]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.where, self.fix))


class UserError(VernacularError):
    """Something the user gave is wrong: a recipe key, a file, a flag, the data."""

    exit_code = 2


class MachineError(VernacularError):
    """The machine cannot do it: disk full, out of memory, a package not installed, a file system read-only."""

    exit_code = 3


class InternalError(VernacularError):
    """A promise of ours does not hold. Please report it."""

    exit_code = 4


def _rebuild(kind: type[VernacularError], message: str, where: str | None, fix: str | None) -> VernacularError:
    return kind(message, where=where, fix=fix)


# Below it, two names share letters by chance: "gpt2" and "mpt".
_CLOSE = 0.65
# More names than these are not read: the likest of them are listed.
_MOST_LISTED = 60
_LIKEST = 8


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` begins, else the one most like it; None if nothing is close."""
    bare = name.lstrip("-")
    names = {one.lstrip("-"): one for one in known}
    begun = [one for one in names if bare and one.startswith(bare)]
    matches = difflib.get_close_matches(bare, begun or names, n=1, cutoff=0 if begun else _CLOSE)
    return names[matches[0]] if matches else None


def unknown_name(kind: str, name: str, known: Iterable[str], *, where: str | Path | None = None) -> UserError:
    """The error for a name that is not among `known`: names the nearest, and lists them all, or the likest of many."""
    known = sorted(set(known))
    close = nearest(name, known)
    listed = ", ".join(known)
    if len(known) > _MOST_LISTED:
        likest = difflib.get_close_matches(name, known, n=_LIKEST, cutoff=0)
        listed = f"{', '.join(likest)}, … ({len(known):,} in all)"
    fix = f"did you mean '{close}'? known: {listed}" if close else f"use one of: {listed}"
    return UserError(f"unknown {kind} '{name}'", where=where, fix=fix)


def no_folder(message: str, path: Path) -> UserError:
    """The error for a path that is no folder: `message` says which one does not exist, unless a file stands there."""
    if path.is_file():
        return UserError("this is a file, not a folder", where=path, fix="name the folder it lies in")
    return UserError(message, where=path, fix="check the path")


def missing_extra(package: str, extra: str, purpose: str) -> MachineError:
    """The error for an optional package that is not installed; names the command that installs it."""
    return MachineError(
        f"{purpose} needs the package '{package}', which is not installed",
        fix=f"pip install 'vernacular[{extra}]'",
    )


_MACHINE_ERRNOS = {
    errno.ENOSPC: ("the disk is full", "free some space, or write to another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or write to another disk"),
    errno.EROFS: ("the file system is read-only", "write to another place"),
    errno.EACCES: ("permission denied", "make the path readable and writable, or choose another"),
    errno.EMFILE: ("too many files are open", "raise the limit with `ulimit -n`"),
}


def machine_error(error: OSError, doing: str, path: str | Path | None = None) -> MachineError | None:
    """The `MachineError` for what the operating system says (disk full, permission, …); None for all else it says."""
    if error.errno not in _MACHINE_ERRNOS:
        return None
    what, fix = _MACHINE_ERRNOS[error.errno]
    return MachineError(f"{what}, while {doing}", where=path or error.filename, fix=fix)


@contextmanager
def machine_errors(doing: str, path: str | Path | None = None) -> Iterator[None]:
    """Turn the operating system's errors (disk full, permission, …) into `MachineError`s that name the path."""
    try:
        yield
    except OSError as error:
        found = machine_error(error, doing, path)
        if found is None:
            raise
        raise found from error
