"""Talk to a model.

At a terminal: write a line, read the answer; /reset starts anew, Ctrl-C breaks an answer off, Ctrl-D ends. Lines from
a file or a pipe are taken as one turn each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.cli.generate import (
    add_model_arguments,
    decode_input,
    load_model,
    naming_files,
    read_sampling,
    warn_unless_whole,
    write_pieces,
)

if TYPE_CHECKING:
    from vernacular.inference.conversation import Conversation, Question
    from vernacular.models.language_model import Sampling

EXAMPLES = """\
  vernacular chat runs/demo/instruct
  vernacular chat runs/demo/instruct --system "Odpowiadaj krótko." --temperature 0.7
  echo "भारत की राजधानी क्या है?" | vernacular chat runs/demo/instruct
  vernacular chat runs/demo/instruct --questions questions.jsonl    {"language", "question", "answer"} a line
  vernacular chat 'llama.cpp:instruct.gguf?weights=runs/demo/instruct'
"""

MAX_NEW_TOKENS = 512
RESET = "/reset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Weights, sampling, system message, questions."""
    add_model_arguments(parser, max_new_tokens=MAX_NEW_TOKENS, without=("log_probabilities",))
    parser.add_argument("--system", metavar="TEXT", help="the system's message, before the first turn")
    parser.add_argument(
        "--questions",
        type=Path,
        metavar="FILE",
        help="ask each line's question of this JSON Lines file, and print the known answer beside the model's",
    )


def run(arguments: argparse.Namespace) -> None:
    """Chat at the terminal, with a pipe, or through a list of questions."""
    sampling = read_sampling(arguments)
    from vernacular.inference.conversation import Conversation, read_questions

    questions = read_questions(arguments.questions) if arguments.questions else None
    lm = load_model(arguments)
    conversation = Conversation(lm, sampling, arguments.system)
    with naming_files(arguments):
        if questions is not None:
            _ask(conversation, questions, sampling)
        elif sys.stdin.isatty():
            _talk(conversation, sampling)
        else:
            _take_lines(conversation, sampling)


def _ask(conversation: Conversation, questions: Sequence[Question], sampling: Sampling) -> None:
    """Each question by itself, its known answer beside the model's."""
    for question in questions:
        conversation.reset()
        print(f"[{question.language}] {question.question}")
        print("  model: ", end="")
        warn_unless_whole(write_pieces(conversation.ask(question.question)), sampling)
        print(f"  known: {question.answer}")


def _take_lines(conversation: Conversation, sampling: Sampling) -> None:
    """A turn for each line of standard input."""
    from vernacular.foundation.errors import UserError

    for number, line in enumerate(sys.stdin.buffer, start=1):
        where = f"standard input:{number}"
        text = decode_input(line, where)
        try:
            _take(conversation, text, sampling)
        except UserError as error:
            if error.where != "prompt":
                raise
            # The whole conversation is the prompt; only a turn by itself can be shortened.
            fix = f"put a line {RESET} before it: it forgets the turns so far" if conversation.has_turns else error.fix
            raise UserError(error.message, where=where, fix=fix) from error


def _talk(conversation: Conversation, sampling: Sampling) -> None:
    """Turns at a terminal, until Ctrl-D or Ctrl-C at the prompt."""
    import readline  # noqa: F401 (gives `input` its line editing)

    from vernacular.foundation.errors import UserError

    print("Ctrl-D ends, Ctrl-C breaks an answer off, /reset starts anew.")
    while True:
        try:
            line = input("\n> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        try:
            _take(conversation, line, sampling)
        except KeyboardInterrupt:
            print(" …")
        except UserError as error:
            print(f"{error}\n  {RESET} forgets the conversation so far", file=sys.stderr)


def _take(conversation: Conversation, line: str, sampling: Sampling) -> None:
    if line.strip() == RESET:
        conversation.reset()
    elif line.strip():
        warn_unless_whole(write_pieces(conversation.ask(line)), sampling)
