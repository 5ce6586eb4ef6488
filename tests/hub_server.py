"""The HTTP side of the loopback hub: requests and answers, streamed, and cut where a fault says."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from hub_faults import Fault

if TYPE_CHECKING:
    from loopback_hub import LoopbackHub

CHUNK = 1 << 20
Form = dict[str, list[str]]


@dataclass(frozen=True)
class FilePart:
    """Bytes `start` to `end` of a file on disk, as the body of an answer."""

    path: Path
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def part(self, start: int, end: int) -> "FilePart":
        return FilePart(self.path, self.start + start, self.start + end)

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(len(self))


Body = bytes | FilePart


@dataclass(frozen=True)
class Answer:
    status: int
    body: Body
    headers: dict[str, str]


class RefusedError(Exception):
    """A request that the Hub answers with an error code."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message, **headers}
        if code:
            self.headers["X-Error-Code"] = code


class Request:
    """One request. Its body is read when it is asked for, by chunks, and only once."""

    def __init__(self, method: str, target: str, headers: dict[str, str], source: Any) -> None:
        url = urlsplit(target)
        self.method = method
        self.path = url.path
        self.query = parse_qs(url.query)
        self.headers = headers
        self.length = int(headers.get("content-length", 0))
        self.is_chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        self._chunks = self._read_chunked(source) if self.is_chunked else self._read(source)

    def has_body(self) -> bool:
        return self.is_chunked or self.length > 0

    def chunks(self) -> Iterator[bytes]:
        """The body, or what is left of it; raises ConnectionError if the client goes away."""
        return self._chunks

    def body(self) -> bytes:
        return b"".join(self._chunks)

    def json(self) -> Any:
        try:
            return json.loads(self.body() or b"{}")
        except ValueError as error:
            raise RefusedError(400, "", f"The body is not JSON: {error}") from error

    def read_ahead(self) -> None:
        """Read the whole body now, for whoever asks for it later."""
        self._chunks = iter([self.body()])

    def drain(self) -> None:
        for _ in self._chunks:
            pass

    def read_half(self) -> None:
        """Half of the body; of a body of unknown length, the first chunk."""
        read = 0
        for chunk in self._chunks:
            read += len(chunk)
            if self.is_chunked or read >= self.length // 2:
                return

    def _read(self, source: BufferedIOBase) -> Iterator[bytes]:
        left = self.length
        while left:
            chunk = source.read(min(CHUNK, left, max(self.length // 2, 1)))
            if not chunk:
                raise ConnectionAbortedError("the client went away")
            left -= len(chunk)
            yield chunk

    def _read_chunked(self, source: BufferedIOBase) -> Iterator[bytes]:
        while size := int(source.readline().split(b";")[0].strip() or b"0", 16):
            chunk = source.read(size)
            if len(chunk) < size:
                raise ConnectionAbortedError("the client went away")
            source.readline()
            yield chunk
        source.readline()


class HubServer(ThreadingHTTPServer):
    request_queue_size = 128


class HubHandler(BaseHTTPRequestHandler):
    """Reads a request, lets the hub answer it, and sends the answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 1 << 16

    def __init__(self, hub: "LoopbackHub", *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client's end, or ours for a fault
            super().handle()

    def do_GET(self) -> None:
        with self.hub.at_work():
            self._take()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _take(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.rfile)
        line = f"{self.command} {self.path}"
        fault = self.hub.arrived(line)
        if fault and fault.kind == "cut" and request.has_body():
            request.read_half()
            raise ConnectionAbortedError("planned")
        if self.command != "PUT":
            request.read_ahead()
        self.hub.tell(line)
        if fault and fault.kind == "slow":
            self.hub.pause(fault.seconds)
        answer = planned_failure(fault) or self.hub.answer(request)
        request.drain()
        if fault and fault.kind == "lose_answer":
            raise ConnectionAbortedError("planned")
        self._send(answer, fault)

    def _send(self, answer: Answer, fault: Fault | None) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in pieces(answer.body, fault):
            send_body(self.connection, piece)
        if fault and fault.kind == "cut":
            raise ConnectionAbortedError("planned")


def planned_failure(fault: Fault | None) -> Answer | None:
    if fault is None or fault.kind != "status":
        return None
    after = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return json_answer({"error": f"Planned failure {fault.status}"}, after, fault.status)


def pieces(body: Body, fault: Fault | None) -> list[Body]:
    """What is sent of an answer's body: all, half of it, or all with its middle byte flipped."""
    middle = len(body) // 2
    if fault and fault.kind == "cut":
        return [part_of(body, 0, middle)]
    if fault and fault.kind == "corrupt" and len(body):
        flipped = part_of(body, middle, middle + 1)
        byte = flipped if isinstance(flipped, bytes) else flipped.read()
        rest = part_of(body, middle + 1, len(body))
        return [part_of(body, 0, middle), bytes([byte[0] ^ 1]), rest]
    return [body]


def part_of(body: Body, start: int, end: int) -> Body:
    return body[start:end] if isinstance(body, bytes) else body.part(start, end)


def send_body(connection: socket.socket, body: Body) -> None:
    if isinstance(body, bytes):
        connection.sendall(body)
    elif len(body):
        with body.path.open("rb") as file:
            connection.sendfile(file, body.start, len(body))


def json_answer(value: Any, headers: dict[str, str] | None = None, status: int = 200) -> Answer:
    headers = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status, json.dumps(value, default=str).encode(), headers)


def is_true(query: Form, name: str) -> bool:
    return query.get(name, [""])[-1].lower() in ("true", "1")
