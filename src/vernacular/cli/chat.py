"""Talk to a model.

At a terminal: write a line, read the answer; /reset starts anew, Ctrl-C breaks an answer off, Ctrl-D ends. Lines from
a file or a pipe are taken as one turn each.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.cli.generate import add_model_arguments, decode_input, load_model, read_sampling, write_pieces

if TYPE_CHECKING:
    from vernacular.inference.conversation import Conversation

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
    if questions is not None:
        for question in questions:
            conversation.reset()
            print(f"[{question.language}] {question.question}")
            print("  model: ", end="")
            write_pieces(conversation.ask(question.question))
            print(f"  known: {question.answer}")
    elif sys.stdin.isatty():
        _talk(conversation)
    else:
        for number, line in enumerate(sys.stdin.buffer, start=1):
            _take(conversation, decode_input(line, f"standard input:{number}"))


def _talk(conversation: Conversation) -> None:
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
            _take(conversation, line)
        except KeyboardInterrupt:
            print(" …")
        except UserError as error:
            print(f"{error}\n  {RESET} forgets the conversation so far", file=sys.stderr)


def _take(conversation: Conversation, line: str) -> None:
    if line.strip() == RESET:
        conversation.reset()
    elif line.strip():
        write_pieces(conversation.ask(line))
