"""The four published families of rules on every document, beside datatrove: documents per second of one core.

    python benchmarks/filters.py --peer PYTHON

PYTHON is the interpreter of an environment with `datatrove==0.10.1 spacy indic-nlp-library orjson`. Both judge the
same real documents of some 3 kB in English, Polish and Hindi, in turns in one process tree; how many verdicts are the
same is printed for each language and family, and what kinds of verdict differ. (Documents on which its filter fails
are left out of that count.)
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from claim import Claim
from vernacular.corpus.configuration import Filters, Normalisation
from vernacular.corpus.counting.counts import count
from vernacular.corpus.filters import family_verdicts
from vernacular.corpus.languages import language_data
from vernacular.corpus.normalisation import normalise
from worker import Worker

TEXT = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "text"
FAMILIES = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
# Our language, datatrove's name for it, NTREX's.
LANGUAGES = {"en": ("eng", "eng"), "pl": ("pol", "pol"), "hi": ("hin_Deva", "hin")}
# What both have is compared, with the same stop words, and its bound for tokens with letters in place of our fitted
# ones. Our profanity list has no counterpart in its C4 filter.
FILTERS = Filters(disable=("c4.profanity",), thresholds={"gopher_quality.few_words_with_letters": 0.8})
BYTES = 3000
TRIES = 5


def read_texts(language: str) -> Iterator[str]:
    """Real texts: news articles, handbooks, stories, web pages and speech transcripts."""
    if not TEXT.is_dir():
        sys.exit("this benchmark reads ../shared/data/text, which is not there")
    paths = [*TEXT.glob(f"opensource_guide/**/{language}*"), *TEXT.glob(f"pratham_books/{language}.jsonl.gz")]
    paths += TEXT.glob("ud_english_ewt_docs/*.jsonl.gz" if language == "en" else "nothing")
    paths += TEXT.glob("wolnelektury_asr/*.jsonl.gz" if language == "pl" else "nothing")
    for path in sorted(path for path in paths if path.name.endswith(".jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)
    (news,) = TEXT.glob(f"ntrex/newstest2019-*.{LANGUAGES[language][1]}.txt*")
    raw = gzip.decompress(news.read_bytes()) if news.suffix == ".gz" else news.read_bytes()
    yield "\n".join(line.strip() for line in raw.decode("utf-8").split("\n"))


def documents(language: str) -> list[str]:
    """The texts in pieces of about `BYTES`, cut at line ends, normalised."""
    pieces: list[str] = []
    for text in read_texts(language):
        gathered: list[str] = []
        for line in text.split("\n"):
            gathered.append(line)
            if len("\n".join(gathered).encode()) >= BYTES:
                pieces.append("\n".join(gathered))
                gathered = []
        if gathered and len("\n".join(gathered).encode()) > BYTES // 4:
            pieces.append("\n".join(gathered))
    return normalise(pa.array(pieces, pa.large_string()), Normalisation())[0].to_pylist()


def ours(texts: list[str], language: str, script: str) -> tuple[float, dict[str, list[str]]]:
    """Processor seconds, and each family's verdicts."""
    started = time.process_time()
    array = pa.array(texts, pa.large_string())
    languages, scripts = [language] * len(texts), [script] * len(texts)
    counts = count(array, languages)
    verdicts = {
        family: [reason or "" for reason in family_verdicts(counts, languages, scripts, FILTERS, [family])[0]]
        for family in FAMILIES
    }
    return time.process_time() - started, verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="Python of an environment with datatrove")
    parser.add_argument("--json", action="store_true", help="one JSON object per claim")
    parser.add_argument("--documents", type=int, default=300, help="of each language")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Worker(arguments.peer, "datatrove_filters_worker.py") as worker:
        for language, (known_as, _) in LANGUAGES.items():
            texts = documents(language)
            texts = texts[:: max(len(texts) // arguments.documents, 1)][: arguments.documents]
            file = Path(folder) / f"{language}.jsonl"
            file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
            script = "Deva" if language == "hi" else "Latn"
            stop_words = list(language_data()[language].stop_words)
            ours(texts, language, script)  # compiles and builds the tables
            seconds: tuple[list[float], list[float]] = ([], [])
            for _ in range(TRIES):
                taken, mine = ours(texts, language, script)
                answer = worker.ask({"documents": str(file), "language": known_as, "stop_words": stop_words})
                seconds[0].append(taken)
                seconds[1].append(answer["seconds"])
            rates = [len(texts) / statistics.median(each) for each in seconds]
            mean = sum(len(text.encode()) for text in texts) // len(texts)
            name = f"four families, documents of {mean} bytes, {language}, per core-second; peer: datatrove"
            claim = Claim(name, rates[0], rates[1], goal="15")
            shown = f"{name}: ours {rates[0]:.0f}, peer {rates[1]:.0f}, ratio {claim.ratio:.0f} (goal: 15)"
            print(json.dumps(asdict(claim)) if arguments.json else shown, flush=True)
            for family in FAMILIES:
                print_agreement(language, family, mine[family], answer["verdicts"][family])


def print_agreement(language: str, family: str, mine: list[str], peers: list[str]) -> None:
    """How many documents get the same verdict (stay or go), and the commonest differences."""
    pairs = [(one, other) for one, other in zip(mine, peers, strict=True) if other != "!"]
    same = sum(bool(one) == bool(other) for one, other in pairs)
    differing = Counter((one or "kept", other or "kept") for one, other in pairs if bool(one) != bool(other))
    removed = sum(bool(one) for one, _ in pairs), sum(bool(other) for _, other in pairs)
    listed = "; ".join(f"{number} × {one} / {other}" for (one, other), number in differing.most_common(4))
    print(f"  {language} {family}: {same} of {len(pairs)} the same, removed {removed[0]} / {removed[1]}  {listed}")


if __name__ == "__main__":
    main()
