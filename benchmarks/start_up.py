"""How long the command line and the package take to be there, beside a tool and a library of the same trade."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from claim import Claim, print_claims

TRIES = 7


def best_seconds(*words: str) -> float:
    """Least wall time in seconds of several runs of the interpreter with `words`."""

    def seconds() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started

    return min(seconds() for _ in range(TRIES))


def claims() -> Iterator[Claim]:
    """`--help` in seconds from pressing return; the import in seconds beyond the bare interpreter's."""
    yield Claim(
        "seconds of `vernacular --help`; peer: `lm_eval --help`",
        best_seconds("-m", "vernacular.cli.main", "--help"),
        best_seconds("-m", "lm_eval", "--help"),
        "ours at most 0.3 s",
    )
    bare = best_seconds("-c", "pass")
    yield Claim(
        "seconds of `import vernacular` beyond the interpreter; peer: `import transformers`",
        best_seconds("-c", "import vernacular") - bare,
        best_seconds("-c", "import transformers") - bare,
        "ours at most 0.1 s",
    )


if __name__ == "__main__":
    print_claims(claims(), __doc__)
