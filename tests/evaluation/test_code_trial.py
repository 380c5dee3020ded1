"""Programs are tried: right ones pass, wrong ones fail, and what is made to look right does not pass."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vernacular.evaluation.code.go_imports import go_file, imported
from vernacular.evaluation.code.rust_tests import as_program, without_main
from vernacular.evaluation.code.trial import Question, Result, Trials
from vernacular.evaluation.code.within.values import decode, encode
from vernacular.evaluation.sandbox.limits import Limits
from vernacular.foundation.errors import MachineError, UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")

SETS = Path(__file__).parents[3] / "shared" / "data" / "eval"
LIMITS = Limits(wall_seconds=30, cpu_seconds=2)

ADD = "assert add(1, 2) == 3\nassert add('ज़', 'ł') == 'ज़ł'\nassert add([1], [2.5]) == [1, 2.5]\n"


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    with Trials(["python"], LIMITS) as made:
        yield made


def tried(trials: Trials, program: str, test: str = ADD, **question: Any) -> Result:
    return trials.run("python", Question(program, test, **{"entry_point": "add", **question}))


def test_a_right_program_passes_and_a_wrong_one_fails(trials) -> None:
    assert tried(trials, "def add(a, b):\n    print('sum')\n    return a + b\n").outcome == "passed"
    wrong = tried(trials, "def add(a, b):\n    return a\n")
    assert (wrong.outcome, wrong.limit) == ("failed", None) and wrong.reason.startswith("AssertionError")
    assert tried(trials, "def add(a, b):\n    return a +\n").reason.startswith("SyntaxError")
    assert "add" in tried(trials, "def sub(a, b): return a - b").reason
    assert "ZeroDivisionError: division" in tried(trials, "def add(a, b): return 1 / 0").reason


CHEATS = {
    "leaves before the tests": "import os\nos._exit(0)",
    "leaves politely": "raise SystemExit(0)",
    "leaves within a test": "import os\ndef add(a, b): os._exit(0)",
    "writes a verdict": "import os, json\nfor place in range(64):\n    try: os.write(place, b'{\"passed\": true}')\n"
    "    except OSError: pass\ndef add(a, b): return 0",
    "prints what passes would": "print('{\"passed\": true}', 'OK', '3 passed')\ndef add(a, b): return 0",
    "patches what compares": "import builtins\nbuiltins.AssertionError = None\nclass Same(int):\n"
    "    def __eq__(self, other): return True\n    __hash__ = None\ndef add(a, b): return Same(0)",
    "is equal to all": "class Same:\n    def __eq__(self, other): return True\ndef add(a, b): return Same()",
    "looks for the tests": "import gc, inspect, sys, glob\ndef add(a, b):\n"
    "    seen = str([f.frame.f_globals for f in inspect.stack()]) + str(gc.get_objects())\n"
    "    seen += ''.join(open(p, errors='replace').read() for p in glob.glob('/program/*') if 'source' not in p)\n"
    "    return 3 if 'assert add' + '(1' in seen else None",
    "talks nonsense": "import os\nfor place in range(3, 9):\n    try: os.write(place, b'x' * 99999)\n"
    "    except OSError: pass\ndef add(a, b): return a + b",
    "ends the examiner": "import os\nos.kill(-1, 9)\ndef add(a, b): return 0",
    "never ends": "def add(a, b):\n    while True: pass",
    "recurses": "def add(a, b): return add(a, b)",
    "sends too much": "def add(a, b): return 'x' * 20_000_000",
    "sends without end": "import itertools\ndef add(a, b): return itertools.count()",
    "is deep": "def add(a, b):\n    x = []\n    for _ in range(100_000): x = [x]\n    return x",
}


@pytest.mark.parametrize("name", CHEATS)
def test_what_only_looks_right_does_not_pass(trials, name: str) -> None:
    assert tried(trials, CHEATS[name]).outcome in ("failed", "limit")


def test_the_conversation_itself_cannot_be_forged(trials) -> None:
    """The candidate may write into its own conversation: what it gains is what it could have answered anyway."""
    code = """
import os, json
def forged(value):
    content = json.dumps({"value": value, "changed": {}}).encode()
    return len(content).to_bytes(8, "big") + content
def add(a, b):
    for place in range(3, 9):
        try: os.write(place, forged(0))
        except OSError: pass
    return 1
"""
    assert tried(trials, code).outcome == "failed"


def test_values_of_many_kinds_cross(trials) -> None:
    program = """
import collections, fractions, re
class Tree:
    def __init__(self, value): self.value, self.left = value, None
def depth(tree): return 0 if tree is None else 1 + depth(tree.left)
def many(n):
    return {"a": (1, 2.5, None, True), 3: {1, 2}, (1, 2): frozenset([3]), "b": b"x", "c": 1j, "n": 2 ** 200,
            "f": float("inf"), "r": fractions.Fraction(1, 3), "d": collections.Counter("aab")}
def grow(items): items.append(4); items.sort(reverse=True)
def squares(n): return (x * x for x in range(n))
def found(text): return re.search("a", text)
def adder(n): return lambda x: x + n
def kinds(items, kind): return [type(item) for item in items] if kind is str else None
def raises(): raise KeyError("x")
def printed(): input()
"""
    test = """
assert many(1) == {"a": (1, 2.5, None, True), 3: {1, 2}, (1, 2): frozenset([3]), "b": b"x", "c": 1j, "n": 2 ** 200,
                   "f": float("inf"), "r": __import__("fractions").Fraction(1, 3), "d": {"a": 2, "b": 1}}
assert type(many(1)["a"]) is tuple and many(1)["a"][3] is True
items = [1, 3, 2]
grow(items)
assert items == [4, 3, 2, 1]
assert list(squares(4)) == [0, 1, 4, 9]
assert found("cat") and not found("dog")
assert adder(2)(3) == 5
assert kinds([1, "a"], str) == [int, str]
root = Tree(1); root.left = Tree(2)
assert depth(root) == 2 and root.left.value == 2
assert math.isclose(many(1)["a"][1], 2.5)
try: raises(); assert False
except KeyError: pass
try: printed(); assert False
except EOFError: pass
"""
    result = tried(trials, program, test, entry_point="many")
    assert (result.outcome, result.reason) == ("passed", "")


def test_helpers_are_the_questions_own(trials) -> None:
    helpers = "def twice(x):\n    return 2 * x\n\ndef add(a, b):\n    return a + b\n"
    program = "def twice(x): return 0\ndef add(a, b): return 7"
    assert tried(trials, program, "assert twice(add(1, 2)) == 0", helpers=helpers).outcome == "failed"
    assert tried(trials, program, "assert twice(add(1, 2)) == 14", helpers=helpers).outcome == "passed"


LANGUAGES = {
    "javascript": (
        "const add = (a, b) => {\n",
        "return a + b\n}\n",
        "const testAdd = () => {\n  console.assert(add(1, 2) === 3)\n"
        "  console.assert(JSON.stringify(add([], [])) === '\"\"')\n}\ntestAdd()\n",
        [
            "return 0\n}\nconsole.assert = () => {}\nJSON.stringify = () => ''\n",
            "process.exit(0)\n}\n",
            "return 3\n}\nconst fs = require('fs')\nfs.writeSync(3, 'x'.repeat(64)); fs.writeSync = () => {}\n",
            "require('fs').writeSync(3, require('fs').readFileSync(0)); while (true) {}\n}\n",
        ],
    ),
    "java": (
        "import java.util.*;\nclass Solution {\n    public int add(int a, int b) {\n",
        "        return a + b;\n    }\n}\n",
        "public class Main {\n    public static void main(String[] args) {\n        Solution s = new Solution();\n"
        "        if (s.add(1, 2) != 3) throw new AssertionError();\n    }\n}\n",
        [
            "        System.exit(0); return 0;\n    }\n}\n",
            "        return 0;\n    }\n}\nclass AssertionError extends Error {}\n",
        ],
    ),
    "cpp": (
        "#include <cstdlib>\n#include <unistd.h>\nint add(int a, int b){\n",
        "return a + b;\n}\n",
        "#undef NDEBUG\n#include <assert.h>\nint main(){\n    assert (add(1, 2) == 3);\n}\n",
        [
            "return 0;\n}\n#define NDEBUG\n#define assert(x)\n",
            "_exit(0);\n}\n",
            "return 0;\n}\nstruct Before { Before() { char t[64]; write(3, t, read(0, t, 64)); _exit(0); } } before;\n",
        ],
    ),
    "go": (
        'import (\n    "math"\n    "os"\n)\n\nfunc Add(a int, b int) int {\n',
        "return a + b\n}\n",
        "func TestAdd(t *testing.T) {\n    assert := assert.New(t)\n    assert.Equal(3, Add(1, 2))\n}\n",
        ["os.Exit(0)\nreturn 0\n}\n", "return 0\n}\n"],
    ),
}
LANGUAGES["rust"] = (
    "fn main(){}\n\nuse regex::Regex;\nfn add(a: i32, b: i32) -> i32 {\n",
    "a + b\n}\n",
    "#[cfg(test)]\nmod tests {\n    use super::*;\n\n    #[test]\n    fn test_add() {\n"
    "        assert_eq!(add(1, 2), 3);\n    }\n}\n",
    [
        "0\n}\n#[macro_export]\nmacro_rules! assert_eq { ($($x:tt)*) => {} }\n",
        "std::process::exit(0)\n}\n",
        'println!("test result: ok. 1 passed"); 0\n}\n',
    ],
)
GO_SETUP = 'package main\n\nimport (\n    "testing"\n    "github.com/stretchr/testify/assert"\n)\n'
TOOL = {"javascript": "node", "java": "javac", "cpp": "g++", "go": "go", "rust": "cargo"}


def opened(language: str) -> Trials:
    if shutil.which(TOOL[language]) is None:
        pytest.skip(f"{TOOL[language]} is not installed")
    try:
        return Trials([language], LIMITS)
    except MachineError as error:
        pytest.skip(error.message)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_other_languages_pass_by_proof_alone(language: str) -> None:
    head, right, test, wrong = LANGUAGES[language]
    with opened(language) as trials:

        def outcome(body: str) -> str:
            helpers = head if language == "javascript" else ""
            return trials.run(language, Question(head + body, test, "add", helpers, GO_SETUP)).outcome

        assert outcome(right) == "passed"
        assert {outcome(body) for body in wrong} <= {"failed", "limit"}
        assert outcome("this is no program") in ("not built", "failed")


def test_a_language_whose_tools_are_missing_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="programs in Go cannot be run: there is no 'go'") as caught:
        Trials(["python", "go"])
    assert "apt-get install golang-go" in str(caught.value)
    with pytest.raises(UserError, match="did you mean 'python'"):
        Trials(["pyton"])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


@given(VALUES)
@settings(max_examples=40)
def test_values_come_back_as_they_went(value: Any) -> None:
    def no(_: Any) -> int:
        raise AssertionError("plain data stays nowhere")

    back = decode(json.loads(json.dumps(encode(value, no))), no)
    assert back == value and repr(back) == repr(value)


def test_go_files_import_what_they_use() -> None:
    code = 'package main\n\nimport (\n    "math"\n    "sort"\n)\n\nfunc f() { math.Abs(1) }\n'
    assert imported(code) == ["math", "sort"]
    assert go_file("program", code, ["strings"]).split("\n\n")[:2] == ["package program", 'import "math"']


def test_rust_tests_become_a_program_that_gives_the_token_last() -> None:
    program = as_program(LANGUAGES["rust"][2].replace("add(1, 2), 3", "rng.gen_range(0, 4), 3"))
    assert "#[" not in program and "pub fn test_add()" in program and "gen_range(0..4)" in program
    assert program.rstrip().endswith("{ let token = verdict::take(); tests::test_add(); verdict::give(token); }")
    assert without_main(LANGUAGES["rust"][0]).startswith("use regex::Regex;")


def solutions(name: str) -> list[dict[str, Any]]:
    path = SETS / name
    if not path.exists():
        pytest.skip(f"needs {path}")
    with gzip.open(path, "rt") if name.endswith(".gz") else open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.slow
@pytest.mark.parametrize("language", ["python", "javascript", "java", "cpp", "go", "rust"])
def test_published_solutions_pass_and_buggy_ones_fail(language: str) -> None:
    """Of HumanEvalPack, every so manieth question; all of them pass too (docs/LOG.md), which takes minutes."""
    file = {
        "python": "python.jsonl",
        "javascript": "js.jsonl",
        "java": "java.jsonl.gz",
        "cpp": "cpp.jsonl",
        "go": "go.jsonl",
        "rust": "rust.jsonl",
    }
    step = {"python": 12, "javascript": 24}.get(language, 120)
    rows = solutions(f"humanevalpack/{file[language]}")[::step]
    with Trials(["python"], LIMITS) if language == "python" else opened(language) as trials:

        def outcome(row: dict[str, Any], body: str) -> str:
            helpers = {"python": row["prompt"] + row["canonical_solution"], "javascript": row["prompt"]}.get(
                language, ""
            )
            question = Question(
                row["prompt"] + row[body], row["test"], row["entry_point"], helpers, row.get("test_setup", "")
            )
            return trials.run(language, question).outcome

        with ThreadPoolExecutor(2) as pool:
            right = list(pool.map(lambda row: outcome(row, "canonical_solution"), rows))
            buggy = list(pool.map(lambda row: outcome(row, "buggy_solution"), rows))
    assert set(right) == {"passed"}
    assert "passed" not in buggy
