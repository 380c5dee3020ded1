"""Items of public benchmarks planted in real text: how many are found, how many others, and what the search costs.

    python benchmarks/decontamination.py

Of each benchmark every second item is planted in a document of its language, as it is, in capitals, or with other marks
and line breaks. The other items are not there: each that is found is counted as a false alarm. The search is timed
alone, and beside all of assessment (normalise, identify, measure, judge, MinHash), in seconds of one core. Two pairs of
sets share items by origin: how many of them are found is counted too.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vernacular.corpus.assessment import with_bands
from vernacular.corpus.configuration import CurateConfiguration, Decontamination, Normalisation
from vernacular.corpus.decontamination.benchmark import Benchmark, Item
from vernacular.corpus.decontamination.index import Index, build_index
from vernacular.corpus.decontamination.passages import find_passages
from vernacular.corpus.normalisation import normalise

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SENTENCES_PER_DOCUMENT = 12
ROUNDS = 5
TIMED = 8  # every so many of the documents

Questions = list[tuple[tuple[str, ...], str]]


def opened(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text(encoding="utf-8")


def records(path: Path) -> Iterator[Any]:
    return map(json.loads, filter(None, opened(path).split("\n")))


def news(language: str) -> list[str]:
    lines = opened(DATA / f"text/ntrex/newstest2019-ref.{language}.txt.gz").splitlines()
    return [" ".join(lines[at : at + SENTENCES_PER_DOCUMENT]) for at in range(0, len(lines), SENTENCES_PER_DOCUMENT)]


def xquad(language: str) -> list[dict[str, Any]]:
    (path,) = (DATA / "eval/xquad").glob(f"xquad.{language}.json*")
    return [paragraph for article in json.loads(opened(path))["data"] for paragraph in article["paragraphs"]]


def mgsm(language: str) -> Questions:
    lines = (line.split("\t") for line in opened(DATA / f"eval/mgsm/mgsm_{language}.tsv").splitlines())
    return [((question,), answer) for question, answer in lines]


def sets() -> dict[str, tuple[Questions, list[str]]]:
    """By language: (question, answer) of a benchmark's items, and documents."""
    arc: Questions = [
        ((row["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),), row["choices"][row["gold"]])
        for row in records(DATA / "eval/arc/arc_challenge.jsonl")
    ]
    polish: Questions = [
        ((row["question"],), row["answers"][0]) for row in records(DATA / "eval/poleval2021_qa/dev-0.jsonl")
    ]
    copa: Questions = [
        ((row["premise"],), row[f"choice{row['label'] + 1}"]) for row in records(DATA / "eval/xcopa/ta/test.ta.jsonl")
    ]
    hindi: Questions = [((ask["question"],), ask["answers"][0]["text"]) for one in xquad("hi") for ask in one["qas"]]
    english = opened(DATA / "text/ntrex/newstest2019-src.eng.txt").splitlines()
    return {
        "en": (arc, [" ".join(english[at : at + 12]) for at in range(0, len(english), 12)]),
        "pl": (polish, news("pol")),
        "hi": (hindi, news("hin")),
        "ta": (copa, news("tam")),
        "th": (mgsm("th"), [paragraph["context"] for paragraph in xquad("th")]),
        "zh": (mgsm("zh"), news("zho-CN")),
    }


def disguised(text: str, number: int, random_: random.Random) -> str:
    if number % 3 == 1:
        return text.upper()
    if number % 3 == 2:
        return re.sub(r"[\s,.?!]+", lambda _: random_.choice([" ", "\n", " – ", ", "]), text)
    return text


def planted(items: Questions, documents: list[str]) -> list[str]:
    """A document for each second item, which stands in its middle with its answer."""
    random_ = random.Random(1)
    texts = []
    for number in range(0, len(items), 2):
        document = documents[number // 2 % len(documents)]
        middle = len(document) // 2
        middle = document.find(" ", middle) + 1 or middle
        question, answer = items[number]
        item = disguised(f"{question[0]} {answer}", number // 2, random_)
        texts.append(f"{document[:middle]}\n{item}\n{document[middle:]}")
    return texts


def normal(texts: list[str]) -> pa.Array:
    return normalise(pa.array(texts, pa.large_string()), Normalisation())[0]


def seconds(work: Any) -> float:
    """Seconds of one core, the median of five."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def main() -> None:
    """Print a line for each language, and the speed."""
    settings = Decontamination(tasks=("t",))
    benchmarks, all_texts, first = [], [], 0
    for language, (items, documents) in sets().items():
        own = [Item(number, str(number), question, answer) for number, (question, answer) in enumerate(items)]
        benchmarks.append(Benchmark(language, tuple(own)))
        texts = planted(items, documents)
        index = build_index(benchmarks[-1:], settings, Normalisation())
        report(language, index, texts, len(items))
        all_texts += texts
        first += len(items)
    known_overlaps()
    index = build_index(benchmarks, settings, Normalisation())
    raw = pa.array(all_texts[::TIMED], pa.large_string())
    texts_ = normal(all_texts[::TIMED])
    megabytes = sum(len(text.encode()) for text in all_texts[::TIMED]) / 1e6
    alone = seconds(lambda: find_passages(texts_, index)) / megabytes
    from vernacular.corpus.assessment import assess

    configuration = CurateConfiguration.model_validate({"sources": [{"path": "x"}]})

    def assessed() -> None:
        found = assess(raw, [None] * len(raw), configuration, frozenset())
        with_bands(pa.table(pa.RecordBatch.from_struct_array(found)), configuration)

    whole = seconds(assessed) / megabytes
    print(
        f"{first:,} items, {len(index.runs):,} runs, index of {index.num_bytes / 1e6:.1f} MB; "
        f"{megabytes:.1f} MB of text"
    )
    print(
        f"search {1000 * alone:.1f} ms a MB ({1 / alone:.0f} MB a core-second); assessment {1000 * whole:.0f} ms a MB; "
        f"{alone / whole:.1%} more"
    )


def known_overlaps() -> None:
    """Sets of which it is known what they share: all of MGSM's English is in GSM8K, five MMLU examples in its test."""
    gsm8k = [f"{row['question']} {row['answer']}" for row in records(DATA / "eval/gsm8k/test.jsonl.gz")]
    mmlu = ["\n".join((row["question"], *row["choices"])) for row in records(DATA / "eval/mmlu/test.jsonl.gz")]
    examples: Questions = [
        ((row["question"],), row["choices"][row["answer"]]) for row in records(DATA / "eval/mmlu/dev.jsonl")
    ]
    for name, items, texts in (("MGSM in GSM8K", mgsm("en"), gsm8k), ("MMLU dev in test", examples, mmlu)):
        own = [Item(number, str(number), question, answer) for number, (question, answer) in enumerate(items)]
        index = build_index([Benchmark(name, tuple(own))], Decontamination(tasks=("t",)), Normalisation())
        print(f"{name}: {len(set(find_passages(normal(texts), index).items.tolist()))} of {len(items)} items found")


def report(language: str, index: Index, texts: list[str], num_items: int) -> None:
    found = find_passages(normal(texts), index)
    items = set(found.items.tolist())
    sought = [number for number in range(0, num_items, 2) if index.owned[number]]
    others = [number for number in range(1, num_items, 2) if index.owned[number]]
    right = sum(number in items for number in sought)
    wrong = sum(number in items for number in others)
    too_short = int(np.sum(index.owned == 0))
    print(
        f"{language}: {right:,} of {len(sought):,} planted found ({right / len(sought):.2%}); of {len(others):,} "
        f"others {wrong:,}; precision {right / max(right + wrong, 1):.2%}; "
        f"{too_short:,} of {num_items:,} too short to look for"
    )


if __name__ == "__main__":
    main()
