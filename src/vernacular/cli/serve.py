"""Answer over HTTP, as OpenAI's API does.

Completions and chats, with streaming, at http://HOST:PORT/v1; /health and /metrics beside them. API keys come from a
file or from the variable VERNACULAR_API_KEYS (between commas); without any, everybody is let in.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vernacular.cli.generate import add_load_arguments

if TYPE_CHECKING:
    from vernacular.inference.engine_settings import EngineSettings

EXAMPLES = """\
  vernacular serve runs/demo/instruct
  vernacular serve runs/demo/instruct --port 8080 --dtype bfloat16 --model-name demo
  vernacular serve runs/demo/instruct --host 0.0.0.0 --api-key-file keys.txt
  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"model": "instruct", "messages": [{"role": "user", "content": "Co słychać?"}]}'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Weights, address, keys, limits."""
    from vernacular.inference.serving.settings import ServingSettings

    parser.add_argument("weights", type=Path, metavar="WEIGHTS", help="a weights folder, e.g. runs/demo/instruct")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="keys that are let in, one a line (# begins a comment)"
    )
    for name, field in ServingSettings.model_fields.items():
        extra = field.json_schema_extra
        shown = extra["shown"] if isinstance(extra, dict) else field.default
        if field.annotation is bool:
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                dest=name,
                action="store_true",
                default=argparse.SUPPRESS,
                help=field.description,
            )
            continue
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            default=argparse.SUPPRESS,
            metavar="TEXT" if field.annotation is str else "NUMBER",
            help=f"{field.description} (default: {shown})",
        )
    add_load_arguments(parser)
    add_engine_arguments(parser)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """How much is answered at once, and how: the fields of `EngineSettings`."""
    from vernacular.inference.engine_settings import EngineSettings

    for name, field in EngineSettings.model_fields.items():
        shown = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{field.description}{shown}",
        )


def read_engine_settings(arguments: argparse.Namespace) -> EngineSettings:
    """What stands on the command line, checked."""
    from vernacular.foundation.configuration import validate_flags
    from vernacular.inference.engine_settings import EngineSettings

    given = {name: getattr(arguments, name) for name in EngineSettings.model_fields if hasattr(arguments, name)}
    return validate_flags(EngineSettings, given)


def run(arguments: argparse.Namespace) -> None:
    """Serve until told to stop."""
    from vernacular.foundation.configuration import validate_flags
    from vernacular.foundation.errors import missing_extra
    from vernacular.inference.serving.keys import ApiKeys
    from vernacular.inference.serving.settings import ServingSettings

    given = {name: getattr(arguments, name) for name in ServingSettings.model_fields if hasattr(arguments, name)}
    settings = validate_flags(ServingSettings, given)
    of_engine = read_engine_settings(arguments)
    keys = ApiKeys.read(arguments.api_key_file, os.environ)
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name or "uvicorn", "serve", "the server") from error
    from vernacular.inference.loading import load
    from vernacular.inference.serving.server import reserve, serve

    listener = reserve(settings)
    lm = load(
        arguments.weights,
        dtype=arguments.dtype,
        device=arguments.device,
        kernels=arguments.kernels,
        window=arguments.window,
        engine=of_engine,
    )
    serve(lm, listener, settings, keys)
