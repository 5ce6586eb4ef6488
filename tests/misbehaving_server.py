"""A server on 127.0.0.1 that speaks OpenAI's API, and misbehaves by script.

    with MisbehavingServer() as server:
        server.script = [refuse(503), cut(after=2)]  # the first two requests; others are answered
        server.always = hang()  # or: what the others meet
        ... OpenAIEngine("tiny", base_url=server.url) ...
        server.asked[0].body["seed"]

The text of an answer is made from the request (`expected_text`), so that tests know it.
"""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Json = dict[str, Any]
Act = Callable[["Handler", Json], None]
WORDS = ("so", "wait", "we", "try", "seven", "times", "three", "minus", "é", "∑")


@dataclass(frozen=True)
class Asked:
    """A request: its path, body, headers (lower case) and the second (monotonic) it came at."""

    path: str
    body: Json
    headers: dict[str, str]
    at: float


class MisbehavingServer:
    """Serves while its `with` block lasts.

    script: an act for each request for a sample, in order of arrival; `always` after those.
    models_script: the same for GET /v1/models; after those, `models` are listed (None: 404).
    asked: the requests for samples. most_at_once: the most of them that were open at a time.
    version: what GET /version says (None: 404).
    """

    def __init__(self) -> None:
        self.models: list[Json] | None = [{"id": "tiny", "owned_by": "tests"}]
        self.version: str | None = None
        self.script: list[Act] = []
        self.models_script: list[Act] = []
        self.always: Act = answer()
        self.asked: list[Asked] = []
        self.looks = 0
        self.most_at_once = 0
        self.stopped = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._server = _Listener(("127.0.0.1", 0), partial(Handler, self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def open_request(self, asked: Asked) -> Iterator[Act]:
        """What this request meets; it counts as open while the block lasts."""
        with self._lock:
            self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            act = self.script.pop(0) if self.script else self.always
        try:
            yield act
        finally:
            with self._lock:
                self._at_once -= 1

    def list_models(self, handler: "Handler") -> None:
        self.looks += 1
        if self.models_script:
            self.models_script.pop(0)(handler, {})
        elif self.models is None:
            handler.send_json({"detail": "Not Found"}, 404)
        else:
            handler.send_json({"object": "list", "data": self.models})


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # a full queue makes a client wait for a second


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Loopback", ""
    disable_nagle_algorithm = True

    def __init__(self, server: MisbehavingServer, *args: Any) -> None:
        self.owner = server
        super().__init__(*args)

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self.owner.list_models(self)
        elif self.path == "/version" and self.owner.version is not None:
            self.send_json({"version": self.owner.version})
        else:
            self.send_json({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.owner.open_request(Asked(self.path, body, headers, time.monotonic())) as act:
            act(self, body)

    def send_json(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_event(self, value: Any) -> None:
        data = value if isinstance(value, str) else json.dumps(value)
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))

    def end_stream(self) -> None:
        self.send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def expected_text(body: Json) -> str:
    """The text for a request: words drawn from its prompt or messages, and its seed."""
    told = json.dumps([body.get("prompt"), body.get("messages"), body["seed"]])
    return " ".join(WORDS[byte % len(WORDS)] for byte in hashlib.sha256(told.encode()).digest())


def _words(text: str) -> list[str]:
    """The words of a text, each with the white space after it."""
    return re.findall(r"\S+\s*|\s+", text)


def _events(body: Json, text: str, reasoning: str, field: str, finish: str | None) -> list[Json]:
    """The chunks of a stream, a word each, before the one with the usage."""
    chat = "messages" in body
    pieces = [{field: word} for word in _words(reasoning)]
    pieces += [{"content" if chat else "text": word} for word in _words(text)]
    choices = [{"index": 0} | ({"delta": piece} if chat else piece) for piece in pieces]
    choices.append(
        {"index": 0, "finish_reason": finish} | ({"delta": {}} if chat else {"text": ""})
    )
    return [{"id": "x", "choices": [choice]} for choice in choices]


def answer(
    text: str | None = None,
    *,
    reasoning: str = "",
    field: str = "reasoning_content",
    finish: str | None = "stop",
    usage: bool = True,
    pause: float = 0.0,
    before: float = 0.0,
) -> Act:
    """A stream of `text`, by default the expected: a word each `pause` seconds, after `before`."""

    def act(handler: Handler, body: Json) -> None:
        time.sleep(before)
        handler.begin_stream()
        whole = expected_text(body) if text is None else text
        for event in _events(body, whole, reasoning, field, finish):
            handler.send_event(event)
            time.sleep(pause)
        if usage:
            count = {"prompt_tokens": 5, "completion_tokens": len(whole.split())}
            handler.send_event({"id": "x", "choices": [], "usage": count})
        handler.end_stream()

    return act


def at_once(**message: Any) -> Act:
    """One JSON body, as from a server that does not stream."""

    def act(handler: Handler, body: Json) -> None:
        text = expected_text(body)
        said = {"message": {"content": text} | message} if "messages" in body else {"text": text}
        choice = {"index": 0, "finish_reason": "stop"} | said
        usage = {"prompt_tokens": 5, "completion_tokens": len(text.split())}
        handler.send_json({"choices": [choice], "usage": usage})

    return act


def refuse(status: int, message: str = "no reason", **headers: str) -> Act:
    """An error of OpenAI's form, with headers such as Retry_After."""

    def act(handler: Handler, _: Json) -> None:
        code = headers.get("code")
        error = {"message": message, "type": "error", "code": code}
        rest = {name: value for name, value in headers.items() if name != "code"}
        handler.send_json({"error": error}, status, **rest)

    return act


def send(value: Any) -> Act:
    """One JSON body of any kind, or bytes as they are."""
    return lambda handler, _: handler.send_json(value)


def stream(*events: Any, end: bool = True) -> Act:
    """These events, JSON or text as it is; without `end` the connection is closed after them."""

    def act(handler: Handler, _: Json) -> None:
        handler.begin_stream()
        for event in events:
            handler.send_event(event)
        if end:
            handler.end_stream()
        else:
            handler.hang_up()

    return act


def cut(after: int) -> Act:
    """An answer whose connection is closed after so many words."""

    def act(handler: Handler, body: Json) -> None:
        events = _events(body, expected_text(body), "", "", "stop")
        stream(*events[:after], end=False)(handler, body)

    return act


def hang(after: int = -1) -> Act:
    """No byte comes: not one for -1, else none after the headers and so many words."""

    def act(handler: Handler, body: Json) -> None:
        if after >= 0:
            handler.begin_stream()
            for event in _events(body, expected_text(body), "", "", "stop")[:after]:
                handler.send_event(event)
        handler.owner.stopped.wait(60)
        handler.hang_up()

    return act


def close_at_once() -> Act:
    """The connection is closed before the headers."""
    return lambda handler, _: handler.hang_up()
