"""Python on a card that cannot run as printed: names that nothing defines, devices that there are not."""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator

from vernacular.evaluation.audit.finding import Evidence, Finding
from vernacular.evaluation.audit.markdown import Code

_LANGUAGES = ("python", "py", "python3")
_MOST_CHARACTERS = 50_000
_DEEPEST = 60
_DEVICE = re.compile(r"^(cpu|cuda|mps|xpu|hpu|mtia|meta|npu|tpu|xla)(:\d+)?$")


def check_snippets(evidence: Evidence) -> Iterator[Finding]:
    """Read each block; names that earlier blocks define are known in later ones."""
    known = set(dir(builtins))
    for code in evidence.card.code:
        if code.language not in _LANGUAGES:
            continue
        tree = _parse(code)
        if tree is None:
            continue
        defined = _defined(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in known | defined:
                line = code.number + node.lineno - 1
                yield evidence.finding("code", line, f"the snippet uses '{node.id}', which nothing defines")
                defined.add(node.id)
        yield from _check_devices(evidence, code, tree)
        known |= defined


def _parse(code: Code) -> ast.Module | None:
    """The block's syntax tree; None for what is no Python by itself (an excerpt, or one whose indentation is lost)."""
    if code.flattened or len(code.text) > _MOST_CHARACTERS or _depth(code.text) > _DEEPEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            return ast.parse(code.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _depth(text: str) -> int:
    """How deep its brackets nest at most, and its operators chain: what makes a parser recurse."""
    deepest = depth = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _defined(tree: ast.Module) -> set[str]:
    """Every name that a block binds anywhere: later than its use is forgiven, for it may stand in a function."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def _check_devices(evidence: Evidence, code: Code, tree: ast.Module) -> Iterator[Finding]:
    """`.to("auto")`: `auto` is a device map, no device."""
    texts = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "to"):
            continue
        for argument in node.args[:1]:
            device = texts.get(argument.id) if isinstance(argument, ast.Name) else None
            if device is not None and not _DEVICE.match(device):
                line = code.number + node.lineno - 1
                yield evidence.finding("code", line, f"the snippet moves to the device '{device}'; there is none such")
