"""Score a model on tasks and on held-out text, and write the record.

The folder receives scores.json, scores.md and records/, from which every number can be computed again. Answers are kept
on disk as they come: after a kill, the same command with --resume goes on, and its record equals an undisturbed one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.foundation.errors import UserError

if TYPE_CHECKING:
    from vernacular.inference.backends.address import Address

EXAMPLES = """\
  vernacular evaluate runs/demo/instruct --tasks my-tasks/ -o scores/instruct
  vernacular evaluate runs/demo/base --heldout runs/demo/corpus -o scores/base     bits per byte
  vernacular evaluate runs/demo/base --text novel.txt news.jsonl -o scores/text    of any text, and per grapheme
  vernacular evaluate WEIGHTS --suite krutrim-1 --data sets/ -o scores/k1          and the card's own average
  vernacular evaluate WEIGHTS --suite granite-3.0 --data sets/ --only-available -o scores/g     what data there is for
  vernacular evaluate WEIGHTS --suite krutrim-2-english --data sets/ --only "humaneval*" \\
      --allow-code-execution --samples 50 -o scores/he                             programs, run in a sandbox
  vernacular evaluate WEIGHTS --suite granite-3.0 --data sets/ --only mt_bench --template always \\
      --judge https://HOST/v1 --judge-model NAME --judge-key-from JUDGE_KEY --judge-runs 5 -o scores/mt
  vernacular evaluate WEIGHTS --suite bharatbench --data sets/ --bert-score xlm-roberta-large/ \\
      --bert-score-layer 17 -o scores/bb
  vernacular evaluate WEIGHTS --only "m_ifeval_*" gsm8k --data sets/ -o scores/some     built-in tasks by name
  vernacular evaluate WEIGHTS --tasks my-tasks/ --limit 50 -o scores/quick
  vernacular evaluate WEIGHTS --tasks my-tasks/ -o scores/base --resume            after a kill
  vernacular evaluate WEIGHTS --tasks my-tasks/ -o scores/base --processes 4       one record, made by four
  vernacular evaluate 'vernacular:WEIGHTS?dtype=int8' --tasks my-tasks/ -o scores/int8
  vernacular evaluate 'llama.cpp:model.gguf?weights=WEIGHTS' --tasks my-tasks/ -o scores/gguf
  vernacular evaluate 'openai:http://localhost:8000/v1?model=NAME&weights=WEIGHTS' --tasks my-tasks/ -o scores/server
  torchrun --standalone --nproc-per-node=8 -m vernacular.cli.main evaluate WEIGHTS --tasks my-tasks/ -o s --device cuda
"""
_PASSED_ON = (
    "tasks",
    "suite",
    "heldout",
    "out",
    "data",
    "only_available",
    "contamination",
    "text",
    "resume",
    "no_cache",
)
CONTINUES = "run the same command again with --resume to continue"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, tasks, the folder, and every setting of an evaluation."""
    from vernacular.evaluation.configuration import EvaluateConfiguration

    parser.add_argument("model", metavar="MODEL", help="a weights folder, or a back-end's address (docs/backends.md)")
    parser.add_argument("--tasks", type=Path, metavar="PATH", help="a folder of harness YAML, or one YAML file")
    parser.add_argument("--suite", metavar="NAME", help="a card's suite; its tasks are built in, or those of --tasks")
    parser.add_argument("--heldout", type=Path, metavar="FOLDER", help="a curated corpus with held-out documents")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FOLDER", help="receives scores and records")
    parser.add_argument("--data", type=Path, metavar="PATH", help="sets, as PATH/OWNER/SET/CONFIG/SPLIT.jsonl")
    parser.add_argument("--only-available", action="store_true", help="leave out what has no data in --data")
    parser.add_argument("--contamination", type=Path, metavar="CORPUS", help="a corpus searched for items, or its file")
    parser.add_argument(
        "--text", type=Path, nargs="+", default=[], metavar="FILE", help="its bits per byte: .txt, .jsonl"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the evaluation in the folder")
    parser.add_argument("--no-cache", action="store_true", help="ask everything, whatever was answered before")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes here that answer together")
    parser.add_argument("--device", help="where our own engine runs: cpu (the default), cuda, cuda:1")
    for name, field in EvaluateConfiguration.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        has_default = field.default not in (None, ()) and "(default" not in (field.description or "")
        shown = f"{field.description} (default: {field.default})" if has_default else field.description
        if field.annotation is bool:
            parser.add_argument(flag, action="store_true", help=field.description)
        elif name == "only":
            parser.add_argument(flag, nargs="+", default=[], metavar="TASK", help=field.description)
        else:
            parser.add_argument(flag, default=None, metavar="VALUE", help=shown)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    from vernacular.evaluation.configuration import EvaluateConfiguration
    from vernacular.foundation.configuration import validate_flags

    if arguments.processes < 1:
        raise UserError(f"{arguments.processes} is too few", where="--processes", fix="give 1 or more")
    if arguments.processes > 1:
        from vernacular.parallel.launch import launch

        return launch(_words(arguments), arguments.processes)

    given = {name: getattr(arguments, name) for name in EvaluateConfiguration.model_fields}
    said = {name: value for name, value in given.items() if value is not None}
    configuration = validate_flags(EvaluateConfiguration, said)
    from vernacular.evaluation.answer_cache import AnswerCache
    from vernacular.evaluation.command import Places, evaluate_weights
    from vernacular.foundation.native import cache_folder
    from vernacular.inference.backends.address import OPENAI, read_address

    address = read_address(arguments.model)
    judge = None
    if configuration.judge is not None:
        from vernacular.inference.backends.judging import open_judge

        judge = open_judge(configuration.judge, configuration.judge_model, configuration.judge_key_from)
    places = Places(
        model=arguments.model,
        folder=arguments.out,
        weights=address.weights,
        tasks=arguments.tasks,
        suite=arguments.suite,
        heldout=arguments.heldout,
        data=arguments.data,
        contamination=arguments.contamination,
        only_available=arguments.only_available,
        texts=tuple(arguments.text),
    )

    def load(model: str) -> object:
        from vernacular.inference.backends.opening import open_model

        return open_model(model, dtype=arguments.dtype, device=_device(arguments.device, address))

    # Who answers at a URL tomorrow, nobody knows.
    is_known = address.backend != OPENAI
    cache = AnswerCache(cache_folder() / "answers") if is_known and not arguments.no_cache else None
    evaluate_weights(configuration, places, load, resume=arguments.resume, judge=judge, cache=cache)
    return 0


def _device(asked: str | None, address: Address) -> str | None:
    """Where this process's model runs, as far as the command line says it."""
    from vernacular.parallel.processes import processes_here, share_machine

    if "device" in address.settings and processes_here() > 1:
        raise UserError(
            "the address gives the same device to several processes",
            where=address.where,
            fix="leave it out there and give --device, of which each takes its own",
        )
    shared = share_machine(asked or "cpu")
    return None if asked is None else shared


def _words(arguments: argparse.Namespace) -> list[str]:
    """The command line of one of several processes."""
    from vernacular.evaluation.configuration import EvaluateConfiguration

    words = ["evaluate", arguments.model]
    for name in (*_PASSED_ON, "device", *EvaluateConfiguration.model_fields):
        value = getattr(arguments, name)
        if value in (None, False, []):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += [str(one) for one in (value if isinstance(value, list) else [value])]
    return words
