"""Items per core-second beside lm-evaluation-harness's own Hugging Face path: same weights, same items, same answers.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py [--size 70M] [--jobs choice letters text answers]

Four jobs: four options of several tokens after five solved examples of 250 tokens; letters after the same, read off one
distribution; the perplexity of whole texts; greedy answers with stop strings after solved examples. Both sides are a
harness `LM` and get the harness's requests; ours reads, remembers and checksums its answers on the way. The peer gets
the batch size with which it is fastest. In float32 the answers must be the same; in bfloat16, in which both are timed,
those that differ are counted. Time is the processor's, of all threads.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from claim import Claim, print_claim
from random_weights import write_weights
from vernacular.evaluation.answer_file import AnswerFile
from vernacular.evaluation.answers import RememberingModel
from vernacular.evaluation.harness import HarnessModel
from vernacular.inference.model import LocalModel, load
from vernacular.tokens.tokenizer import Tokenizer

TRIES = 5
CHECKED = 4
"""Items whose answers are compared in float32, which is slow."""
BATCHES = (4, 16, 64)
OPTIONS = 4
TOLERANCE = 1e-3
LARGE_SCORE = 100.0
"""Nats beyond which the tolerance grows: a score of -153.4124 in float64 was -153.4121 by ours, -153.4135 by theirs."""
SHOTS_TOKENS, QUESTION_TOKENS, OPTION_TOKENS, LETTERS_TOKENS, TEXT_TOKENS = 250, 32, 8, 100, 400
NEW_TOKENS = 48
_SYLLABLES = ["ka", "gę", "रा", "த்", "ло", "بي", "ni", "सू", "ość", "ம", "tra", "এ", "wi", "ध", "zh"]


@dataclass(frozen=True)
class Job:
    """What is asked of both.

    Attributes:
        name: what it is, in words.
        kind: the harness's kind of request.
        goal: ratio that is to be reached.
        items: how many; each has as many requests as `make` gives.
        make: the arguments of one item's requests.
        answer: of an item's responses, what is scored.
    """

    name: str
    kind: str
    goal: float
    items: int
    make: Callable[[Texts, int], list[tuple[Any, ...]]]
    answer: Callable[[Sequence[Any]], Any]


class Texts:
    """Made-up text of set lengths in tokens; the same for the same turn and seed."""

    def __init__(self, tokenizer: Tokenizer, turn: int) -> None:
        self._tokenizer, self._turn = tokenizer, turn
        self.solved = self.of(SHOTS_TOKENS, "solved")

    def of(self, num_tokens: int, seed: str) -> str:
        """Words that take at least so many tokens, and hardly more."""
        numbers = random.Random(f"{self._turn} {seed}")
        words: list[str] = []
        while len(self._tokenizer.encode(" ".join(words))) < num_tokens:
            words.append("".join(numbers.choices(_SYLLABLES, k=numbers.randint(1, 4))))
        return " ".join(words)


def choice(texts: Texts, item: int) -> list[tuple[Any, ...]]:
    """A question after the solved ones, and its four options."""
    question = f"{texts.solved}\n{texts.of(QUESTION_TOKENS, f'question {item}')}"
    return [(question, " " + texts.of(OPTION_TOKENS, f"option {item} {option}")) for option in range(OPTIONS)]


def letters(texts: Texts, item: int) -> list[tuple[Any, ...]]:
    """A question with its options spelt out, and four letters."""
    question = f"{texts.solved}\n{texts.of(LETTERS_TOKENS, f'letters {item}')}\nAnswer:"
    return [(question, f" {letter}") for letter in "ABCD"]


def text(texts: Texts, item: int) -> list[tuple[Any, ...]]:
    """A text of its own."""
    return [(texts.of(TEXT_TOKENS // 2 + item * TEXT_TOKENS // 16, f"text {item}"),)]


def answers(texts: Texts, item: int) -> list[tuple[Any, ...]]:
    """A question after the solved ones, to be answered until a stop string."""
    question = f"{texts.solved}\n{texts.of(QUESTION_TOKENS + item % 16, f'question {item}')}\n"
    return [(question, {"until": ["\n", "ość", "रा", "A"], "max_gen_toks": NEW_TOKENS, "do_sample": False})]


def best_option(responses: Sequence[Any]) -> Any:
    """Which option is the most probable, as accuracy has it."""
    scores = [response[0] for response in responses]
    return scores.index(max(scores))


JOBS = {
    "choice": Job(
        f"four options after five examples, {SHOTS_TOKENS}-token prefix",
        "loglikelihood",
        6,
        16,
        choice,
        best_option,
    ),
    "letters": Job("letters, one forward pass an item, five examples", "loglikelihood", 3, 32, letters, best_option),
    "text": Job("perplexity of whole texts", "loglikelihood_rolling", 1.5, 16, text, lambda found: round(found[0], -1)),
    "answers": Job(
        "greedy answers with stop strings, five examples", "generate_until", 4, 64, answers, lambda found: found[0]
    ),
}


class Sides:
    """Our harness model and the harness's own, over the same weights.

    Args:
        folder: weights.
        dtype: of both.
    """

    def __init__(self, folder: Path, dtype: str) -> None:
        from lm_eval.models.huggingface import HFLM

        self.lm: LocalModel = load(folder, dtype=dtype)
        self.peer: Any = HFLM(pretrained=str(folder), device="cpu", dtype=dtype, batch_size=1)

    def ours(self, job: Job, requests: Sequence[Any]) -> list[Any]:
        """Our answers: nothing is known from before."""
        with tempfile.TemporaryDirectory() as name:
            file = AnswerFile(Path(name) / "answers.jsonl")
            model = HarnessModel(RememberingModel(self.lm, file))
            found = getattr(model, job.kind)(list(requests))
            file.close()
            return list(found)

    def peers(self, job: Job, requests: Sequence[Any], batch_size: int) -> list[Any]:
        """The harness's."""
        self.peer.batch_size_per_gpu = batch_size
        # Of whole texts it would count the probability of a begin token after a begin token.
        self.peer.add_bos_token = job.kind != "loglikelihood_rolling"
        return list(getattr(self.peer, job.kind)(list(requests), disable_tqdm=True))


def instances(job: Job, tokenizer: Tokenizer, turn: int, items: int) -> list[Any]:
    """The harness's requests; other ones in each turn, so that nobody has seen them before."""
    from lm_eval.api.instance import Instance

    texts = Texts(tokenizer, turn)
    return [
        Instance(request_type=job.kind, doc={}, arguments=arguments, idx=number, metadata=(job.kind, item, 1))
        for item in range(items)
        for number, arguments in enumerate(job.make(texts, item))
    ]


def taken(run: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    """Core-seconds, and what came."""
    started = time.process_time()
    found = run()
    return time.process_time() - started, found


def by_item(job: Job, responses: Sequence[Any], items: int) -> list[Any]:
    """What is scored of each item."""
    each = len(responses) // items
    return [job.answer(responses[item * each : (item + 1) * each]) for item in range(items)]


def check_equal(job: Job, sides: Sides) -> None:
    """Stop where an answer in float32 differs."""
    requests = instances(job, sides.lm.tokenizer, -1, CHECKED)
    for ours, theirs in zip(sides.ours(job, requests), sides.peers(job, requests, 4), strict=True):
        if isinstance(ours, str):
            same = ours == theirs
        elif isinstance(ours, float):
            same = abs(ours - theirs) <= TOLERANCE * abs(theirs)
        else:
            allowed = TOLERANCE * max(1.0, abs(theirs[0]) / LARGE_SCORE)
            same = abs(ours[0] - theirs[0]) <= allowed and ours[1] == theirs[1]
        if not same:
            raise SystemExit(f"{job.name}: the answers differ in float32: {ours!r} and {theirs!r}")


def measure(job: Job, size: str, sides: Sides) -> Claim:
    """Both, in turns, in bfloat16."""
    first = instances(job, sides.lm.tokenizer, 0, job.items)
    by_batch = {batch: taken(partial(sides.peers, job, first, batch))[0] for batch in BATCHES}
    batch = min(by_batch, key=by_batch.__getitem__)
    seconds: tuple[list[float], list[float]] = ([], [])
    same = 0
    for turn in range(1, TRIES + 1):
        requests = instances(job, sides.lm.tokenizer, turn, job.items)
        ours, our_answers = taken(partial(sides.ours, job, requests))
        theirs, their_answers = taken(partial(sides.peers, job, requests, batch))
        seconds[0].append(ours)
        seconds[1].append(theirs)
        both = (by_item(job, found, job.items) for found in (our_answers, their_answers))
        same += sum(first == second for first, second in zip(*both, strict=True))
    swept = ", ".join(f"{batch}: {job.items / one:.3g}" for batch, one in by_batch.items())
    print(f"  {same} of {TRIES * job.items} answers the same; the peer by its batch size: {swept}", file=sys.stderr)
    ours_median, peer_median = (job.items / statistics.median(one) for one in seconds)
    name = f"items per core-second, {size}: {job.name}; peer: lm-eval's HFLM, batch {batch}"
    return Claim(name, ours_median, peer_median, goal=f"at least {job.goal}")


def claims(size: str, names: Sequence[str]) -> Iterator[Claim]:
    """The jobs, one after the other."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        folder = write_weights(Path(name), size)
        sides = Sides(folder, "float32")
        for job in (JOBS[name] for name in names):
            check_equal(job, sides)
        sides = Sides(folder, "bfloat16")
        for job in (JOBS[name] for name in names):
            yield measure(job, size, sides)


def main() -> None:
    """Print each claim as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="70M", choices=("70M", "350M", "smoke"), help="of the model")
    parser.add_argument("--jobs", nargs="+", default=list(JOBS), choices=list(JOBS), help="which jobs")
    parser.add_argument("--json", action="store_true", help="one JSON object per claim")
    arguments = parser.parse_args()
    for claim in claims(arguments.size, arguments.jobs):
        print_claim(claim, as_json=arguments.json)


if __name__ == "__main__":
    main()
