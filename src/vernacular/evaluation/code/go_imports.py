"""Go refuses a file with an import too many or too few; the benchmark's parts come with both."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"^import\s*\(([^)]*)\)\s*$|^import\s+(\S+)\s*$", re.MULTILINE)
_PACKAGE = re.compile(r"^package\s+\w+\s*$", re.MULTILINE)
_USUAL = ("bytes", "crypto/md5", "fmt", "math", "math/rand", "regexp", "sort", "strconv", "strings", "time")
_COMMENT = re.compile(r"//[^\n]*")
_PATH = re.compile(r'"([^"]+)"')


def imported(code: str) -> list[str]:
    """Paths of the packages that code imports."""
    return [path for block, one in _BLOCK.findall(code) for path in _PATH.findall(block or one)]


def go_file(package: str, code: str, known: Iterable[str] = ()) -> str:
    """Code as a file of a package, which imports what it uses of its own imports, the `known` and the usual ones."""
    body = _PACKAGE.sub("", _BLOCK.sub("", code))
    wanted = dict.fromkeys([*imported(code), *known, *_USUAL])
    code_alone = _COMMENT.sub("", body)
    used = [path for path in wanted if re.search(rf"\b{re.escape(path.rsplit('/', 1)[-1])}\.", code_alone)]
    return "\n".join([f"package {package}", "", *(f'import "{path}"' for path in used), body])
