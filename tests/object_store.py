"""S3 over HTTP on this machine: moto's, with signatures checked, which fails as it is told to."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import s3fs
from moto import settings
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

BUCKET = "bucket"
_ACCOUNT, _PARTITION, _REGION, _USER = "123456789012", "aws", "us-east-1", "trainer"
_MAY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
_BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"

Answer = Iterable[bytes]


class ObjectStore:
    """A store with an empty bucket.

    Attributes:
        environment: the variables by which a program finds it and may use it.
        busy: how many of the next requests are answered with 503.
        drops: how many of the next connections end without an answer.
        troubled: what the path ends with of the requests that `busy` and `drops` are about; empty: all.
        requests: method and path of each request.
    """

    def __init__(self) -> None:
        iam = iam_backends[_ACCOUNT][_PARTITION]
        iam.create_user(_REGION, _USER)
        iam.put_user_policy(_USER, "all", json.dumps(_MAY_ALL))
        self.key = iam.create_access_key(_USER)
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0  # signatures count from the first request on
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ACCESS_KEY_ID": self.key.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.key.secret_access_key,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.clear()

    def clear(self) -> None:
        """Empty the bucket, and answer as a store should."""
        self.busy, self.drops, self.troubled = 0, 0, ""
        self.requests: list[str] = []
        self._awaited: Callable[[str, str], bool] = lambda method, path: False
        self._arrived, self._release = threading.Event(), threading.Event()
        backend = s3_backends[_ACCOUNT][_PARTITION]
        backend.reset()
        backend.create_bucket(BUCKET, _REGION)

    def stop(self) -> None:
        """Leave the port: nothing answers any more."""
        self._server.shutdown()
        self._server.server_close()

    def objects(self) -> list[str]:
        """The names of all objects."""
        return sorted(s3_backends[_ACCOUNT][_PARTITION].buckets[BUCKET].keys)

    def upload(self, folder: Path, below: str) -> str:
        """Copy a folder into the bucket, as s3fs does it; returns its address."""
        s3fs.S3FileSystem(
            key=self.key.access_key_id,
            secret=self.key.secret_access_key,
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            skip_instance_cache=True,
        ).put(f"{folder}/", f"{BUCKET}/{below}", recursive=True)
        return f"s3://{BUCKET}/{below}"

    @contextmanager
    def holding(self, method: str, ending: str) -> Iterator[threading.Event]:
        """The first request like this stays on its way: held while within, and nothing of it is stored after.

        What it carried may all have arrived by then, and must not appear among the objects once its sender is dead.
        The event says that the request has begun.
        """
        self._awaited = lambda asked, path: asked == method and path.endswith(ending)
        try:
            yield self._arrived
        finally:
            self._awaited = lambda asked, path: False
            self._release.set()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Answer:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(f"{method} {path}")
        if self._awaited(method, path) and not self._arrived.is_set():
            self._arrived.set()
            self._release.wait()
            raise ConnectionResetError
        is_troubled = path.endswith(self.troubled)
        if self.drops and is_troubled:
            self.drops -= 1
            environ["werkzeug.socket"].shutdown(2)
            raise ConnectionResetError
        if self.busy and is_troubled:
            self.busy -= 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            content = b"" if method == "HEAD" else _BUSY
            start("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))])
            return [content]
        return self._moto(environ, start)
