"""The page: a small server on this machine that shows one document after another and takes verdicts."""

from __future__ import annotations

import socket
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

from vernacular.corpus.quality.labelling.sampling import sample
from vernacular.corpus.quality.labelling.store import LabelStore, Task
from vernacular.corpus.quality.model import QualityModel
from vernacular.foundation.artifact import read_artifact
from vernacular.foundation.errors import MachineError, UserError, missing_extra

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_PAGE = {
    "/": ("label.html", "text/html"),
    "/label.js": ("label.js", "text/javascript"),
    "/label.css": ("label.css", "text/css"),
}
_LONGEST_NAME = 60
_MOST_BYTES = 4096


def label(documents: Path, out: Path, *, number: int, model: Path | None, host: str, port: int) -> None:
    """Serve the page until told to stop.

    Args:
        documents: a curated artifact.
        out: the file of labels; one that is there is continued.
        number: of documents to offer.
        model: a trained classifier whose doubts decide what is offered, or None.
        host: to listen at.
        port: to listen at; 0 takes any that is free.

    Raises:
        UserError: the documents or the labels are not what they should be.
        MachineError: the port is taken, or a package is missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise missing_extra(error.name or "uvicorn", "serve", "labelling") from error
    digest = read_artifact(documents).digest
    with LabelStore(out) as store, _listen(host, port) as listener:
        store.belongs_to(digest)
        store.offer(sample(documents, number, QualityModel.load(model) if model else None))
        place = f"http://{host}:{listener.getsockname()[1]}"
        print(f"labelling at {place} — stop with Ctrl-C; every verdict is in {out}", file=sys.stderr, flush=True)
        settings = uvicorn.Config(application(store), log_level="warning", lifespan="off")
        uvicorn.Server(settings).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # before the address is printed, so that who reads it can come
    except OSError as error:
        listener.close()
        raise MachineError(
            f"cannot listen at {host}:{port}: {error.strerror}", fix="choose another with --port, or 0 for any"
        ) from error
    return listener


def application(store: LabelStore) -> Any:
    """The routes over a store."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def page(request: Request) -> Response:
        name, kind = _PAGE[request.url.path]
        content = files("vernacular.corpus.quality.labelling").joinpath("page", name).read_text(encoding="utf-8")
        return Response(content, media_type=kind, headers=_HEADERS)

    def shown(annotator: str, task: Task | None) -> Response:
        waiting = None if task is None else {"document": task.document, "text": task.text, "language": task.language}
        return JSONResponse({"task": waiting, "progress": store.progress(annotator)}, headers=_HEADERS)

    async def answer(request: Request) -> Response:
        """POST /api/next, /api/verdict, /api/undo: one object in, what to show next out."""
        # A page elsewhere cannot send JSON here without asking first, and is never allowed to.
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise UserError("send application/json")
        body = await request.body()
        if len(body) > _MOST_BYTES:
            raise UserError("the request is too long")
        value = await request.json()
        annotator = _name(value)
        match request.url.path.rsplit("/", 1)[-1]:
            case "undo":
                return shown(annotator, store.undo(annotator) or store.next_task(annotator))
            case "verdict":
                seconds = value.get("seconds")
                measured = float(seconds) if isinstance(seconds, int | float) else 0.0
                store.give(annotator, str(value.get("document")), value.get("grade"), measured)
        return shown(annotator, store.next_task(annotator))

    def refuse(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": str(error)}, status_code=400, headers=_HEADERS)

    routes = [Route(path, page) for path in _PAGE]
    routes += [Route(f"/api/{act}", answer, methods=["POST"]) for act in ("next", "verdict", "undo")]
    return Starlette(routes=routes, exception_handlers={UserError: refuse, ValueError: refuse})


def _name(value: Any) -> str:
    name = value.get("annotator") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
        raise UserError("say who you are", fix="give a name of 1 to 60 characters")
    return name.strip()
