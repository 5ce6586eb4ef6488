"""Clients of the loopback hub as processes, and plain HTTP for what the clients would not send."""

import json
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loopback_hub import LoopbackHub

CLIENT = Path(__file__).with_name("hub_client.py")


class ClientError(Exception):
    """What the client's exception was, as "Name: message"."""


class Client:
    """Runs functions of hub_client.py in processes that know only the hub."""

    def __init__(self, hub: LoopbackHub, home: Path) -> None:
        self.hub, self.home = hub, home

    def __call__(self, name: str, *args: Any, token: str | None = None) -> Any:
        return self.finish(self.start(name, token), *args)

    def start(self, name: str, token: str | None = None) -> subprocess.Popen[str]:
        """A process that waits for the function's arguments."""
        return subprocess.Popen(
            [sys.executable, CLIENT, name],
            env=self.hub.client_env(self.home, token),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen[str], *args: Any) -> Any:
        output, _ = process.communicate(json.dumps(args), timeout=60)
        if process.returncode != 0:
            raise ClientError(f"exit code {process.returncode}")
        answer = json.loads(output.splitlines()[-1])
        if answer["raised"]:
            raise ClientError(answer["raised"])
        return answer["value"]


def ask(
    hub: LoopbackHub,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    token: str | None = None,
    timeout: float = 20,
    **headers: str,
) -> tuple[int, bytes]:
    """The status and body of the answer; `token` as in `LoopbackHub.client_env`."""
    token = hub.token if token is None else token
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection = HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def commit_lines(*operations: dict[str, Any], parent: str | None = None) -> bytes:
    """The body of a request to commit."""
    header = {"summary": "By hand", "parentCommit": parent}
    lines = [{"key": "header", "value": header}, *operations]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def file_line(path: str, text: str) -> dict[str, Any]:
    return {"key": "file", "value": {"path": path, "content": text, "encoding": "utf-8"}}
