"""What is known of a request when it ends: one line of the log. No prompt, no answer and no key is in it."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field

LOG = logging.getLogger("vernacular.serving")


@dataclass
class Record:
    """One request.

    Attributes:
        id: ours; the client gets it as x-request-id.
        route: the path, if it is one of the API's; what else a client writes there is not kept.
        texts: prompts and answers; only filled where they are to be logged.
    """

    id: str
    method: str
    route: str = "other"
    status: int = 0
    code: str | None = None
    choices: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    first_token_s: float | None = None
    finished_by: list[str] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    arrived: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Since it arrived."""
        return time.perf_counter() - self.arrived

    def log(self) -> None:
        """Write the line, and one more for each text."""
        parts = [f"request={self.id}", f"{self.method} {self.route}", f"status={self.status}"]
        if self.code:
            parts.append(f"code={self.code}")
        if self.choices:
            parts += [
                f"choices={self.choices}",
                f"prompt_tokens={self.prompt_tokens}",
                f"answer_tokens={self.answer_tokens}",
            ]
        if self.first_token_s is not None:
            parts.append(f"first_token_ms={self.first_token_s * 1000:.1f}")
        if self.finished_by:
            parts.append(f"finished_by={','.join(self.finished_by)}")
        parts.append(f"total_ms={self.seconds * 1000:.1f}")
        LOG.info(" ".join(parts))
        for prompt, answer in self.texts:
            LOG.info(
                "request=%s text=%s", self.id, json.dumps({"prompt": prompt, "answer": answer}, ensure_ascii=False)
            )
