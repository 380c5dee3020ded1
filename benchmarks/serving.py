"""Many clients at once, for a while: errors, tokens per second, and whether the server's memory grows.

A server of its own over random weights; each client streams one chat after another, of random length. One in sixteen
hangs up in the middle. Memory is the server's resident set; its growth is the median of the last quarter of the time
less that of the first. Pages of the cache become resident when first used, so the cache is kept small enough to be
used up within the first moments.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from random_weights import SIZES, write_weights
from vernacular.foundation.machine import describe_machine

WORDS = ["नदी", "kite", "jezioro", "மழை", "lantern", "gęś", "صباح", "pebble"]
HANGS_UP = 1 / 16
SAMPLE_S = 0.5
PATIENCE_S = 20
CACHE_BYTES = 64 << 20


@dataclass
class Findings:
    """What the clients and the watcher have seen.

    Attributes:
        first_token_s: seconds from each request to its first text.
        resident: (seconds since the start, bytes) of the server's memory.
    """

    requests: int = 0
    hung_up: int = 0
    tokens: int = 0
    errors: list[str] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)


async def client(number: int, address: str, until: float, findings: Findings) -> None:
    """One chat after another, until the time is over."""
    chance = random.Random(number)
    async with httpx.AsyncClient(base_url=address, timeout=120) as http:
        while time.monotonic() < until:
            findings.requests += 1
            try:
                await one_chat(http, chance, findings)
            except (httpx.HTTPError, ValueError, KeyError) as error:
                findings.errors.append(f"{type(error).__name__}: {error}")


async def one_chat(http: httpx.AsyncClient, chance: random.Random, findings: Findings) -> None:
    """Stream one answer; check that it comes to its end."""
    content = " ".join(chance.choices(WORDS, k=chance.randint(1, 60)))
    asked = {
        "model": "weights",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": chance.randint(1, 64),
        "seed": chance.randrange(1 << 30),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    leaves_after = chance.randint(1, 20) if chance.random() < HANGS_UP else None
    started, chunks, is_complete = time.monotonic(), 0, False
    async with http.stream("POST", "/v1/chat/completions", json=asked) as response:
        if response.status_code != 200:
            raise ValueError(f"status {response.status_code}")
        async for line in response.aiter_lines():
            if not line:
                continue
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                is_complete = True
                break
            event: dict[str, Any] = json.loads(data)
            if "error" in event:
                raise ValueError(event["error"]["code"])
            chunks += 1
            if chunks == 2:
                findings.first_token_s.append(time.monotonic() - started)
            if event.get("usage"):
                findings.tokens += event["usage"]["completion_tokens"]
            if chunks == leaves_after:
                findings.hung_up += 1
                return
    if not is_complete:
        raise ValueError("the stream broke off")


async def watch(process: int, until: float, findings: Findings) -> None:
    """Note the server's resident memory now and then."""
    started = time.monotonic()
    page = os.sysconf("SC_PAGE_SIZE")
    while time.monotonic() < until:
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        findings.resident.append((time.monotonic() - started, pages * page))
        await asyncio.sleep(SAMPLE_S)


async def load_server(address: str, process: int, clients: int, seconds: float) -> Findings:
    """All clients and the watcher together."""
    findings = Findings()
    until = time.monotonic() + seconds
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(process, until, findings))
        for number in range(clients):
            group.create_task(client(number, address, until, findings))
    return findings


def growth(resident: list[tuple[float, int]], seconds: float) -> int:
    """Bytes between the first and the last quarter."""
    first = [size for when, size in resident if when < seconds / 4]
    last = [size for when, size in resident if when >= seconds * 3 / 4]
    return round(statistics.median(last) - statistics.median(first))


def by_eighth(resident: list[tuple[float, int]], seconds: float) -> list[int]:
    """Median of each eighth of the time: shows whether it settles."""
    parts = [[size for when, size in resident if int(when * 8 / seconds) == part] for part in range(8)]
    return [round(statistics.median(part)) for part in parts if part]


def measure(size: str, clients: int, seconds: float) -> dict[str, Any]:
    """Start a server, load it, stop it; what came of it, as JSON data."""
    with tempfile.TemporaryDirectory() as name:
        weights = write_weights(Path(name), size)
        words = ["serve", str(weights), "--port", "0", "--cache-bytes", str(CACHE_BYTES)]
        with (Path(name) / "log").open("w+", encoding="utf-8") as log:
            server = subprocess.Popen([sys.executable, "-m", "vernacular.cli.main", *words], stderr=log)
            try:
                address = wait_for_address(server, Path(log.name))
                findings = asyncio.run(load_server(address, server.pid, clients, seconds))
                still_running = wait_for_rest(address)
            finally:
                server.send_signal(signal.SIGTERM)
                code = server.wait(60)
    return {
        "name": f"{clients} streaming clients for {seconds:g} s, {size}",
        "requests": findings.requests,
        "hung_up": findings.hung_up,
        "errors": len(findings.errors),
        "first_errors": findings.errors[:5],
        "tokens_per_s": findings.tokens / seconds,
        "first_token_s": statistics.median(findings.first_token_s),
        "resident_bytes_by_eighth": by_eighth(findings.resident, seconds),
        "resident_bytes": findings.resident[-1][1],
        "resident_growth_bytes": growth(findings.resident, seconds),
        "still_running": still_running,
        "exit_code": code,
        "machine": describe_machine(),
    }


def wait_for_rest(address: str) -> float:
    """Answers that the engine still works on some seconds after the last client has left: none, if all is well."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = re.search(r"^vernacular_running (\S+)", httpx.get(f"{address}/metrics").text, re.MULTILINE)
        running = float(found[1]) if found else -1.0
        if running == 0 or time.monotonic() > deadline:
            return running
        time.sleep(0.05)


def wait_for_address(server: subprocess.Popen[bytes], log: Path) -> str:
    """The address, once the server says that it listens."""
    while server.poll() is None:
        found = re.search(r"http://\S+(?=/v1)", log.read_text(encoding="utf-8"))
        if found:
            return found[0]
        time.sleep(0.05)
    raise SystemExit(f"the server ended: {log.read_text(encoding='utf-8')}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="how long (default: 120)")
    parser.add_argument("--clients", type=int, default=64, help="how many at once (default: 64)")
    parser.add_argument("--size", choices=SIZES, default="7 M parameters", help="of the random weights")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.size, arguments.clients, arguments.seconds)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        for key, value in found.items():
            print(f"{key}: {value}")
    sys.exit(1 if found["errors"] or found["still_running"] or found["exit_code"] else 0)
