"""Rust's tests as an ordinary program: libtest ends with success also where a test ends the process with success."""

from __future__ import annotations

import re

_MAIN = re.compile(r"^\s*fn main\(\)\s*\{\s*\}\s*", re.MULTILINE)
_OLD_RANGE = re.compile(r"\bgen_range\(([^,()]+),\s*([^()]+)\)")
_EXPLICIT = "use super::*;\n    use std::{assert, assert_eq, assert_ne};"
"""The candidate's macros of these names stay its own."""


def as_program(test: str) -> str:
    """The tests, and a `main` that runs them between taking the token and giving it back."""
    names = re.findall(r"#\[test\]\s*fn\s+(\w+)", test)
    body = re.sub(r"#\[(?:cfg\(test\)|test)\]", "", test).replace("use super::*;", _EXPLICIT)
    body = re.sub(r"\bfn (?=(?:" + "|".join(map(re.escape, names)) + r")\b)", "pub fn ", body) if names else body
    # Written for rand before 0.8, which took a range's ends apart.
    body = _OLD_RANGE.sub(r"gen_range(\1..\2)", body)
    calls = " ".join(f"tests::{name}();" for name in names)
    return f"{body}\nmod verdict;\nfn main() {{ let token = verdict::take(); {calls} verdict::give(token); }}\n"


def without_main(program: str) -> str:
    """A program without the empty `main` that the benchmark's questions begin with."""
    return _MAIN.sub("", program, count=1)
