"""What went wrong with a request to a server, whether to ask again, and after how long.

Errors are told apart by their HTTP status and by the names of their classes: the `openai` client
stands on httpx or httpx2 by its version, and older versions let errors of those through bare.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from progdata.builders.errors import ProgdataError, one_line

BASE_DELAY = 2.0
"""Seconds before the second try, up to a half less by chance; doubled for each further one."""

LONGEST_DELAY = 60.0
"""Seconds that the doubling stops at."""

LONGEST_RETRY_AFTER = 600.0
"""Seconds of a Retry-After header that are honoured."""

RETRIED = frozenset({"rate_limited", "server_error", "timeout", "connection", "broken_answer"})
"""The reasons that may have passed at the next try."""

_BY_STATUS = {
    401: "key_refused",
    402: "no_credit",
    403: "key_refused",
    404: "not_found",
    405: "not_found",
    408: "timeout",
    409: "server_error",
    425: "server_error",
    429: "rate_limited",
}
_BY_CODE = {"insufficient_quota": "no_credit", "model_not_found": "not_found"}
_TIMEOUTS = {"APITimeoutError", "TimeoutException", "TimeoutError"}
_CONNECTIONS = {"APIConnectionError", "RequestError", "OSError"}


class BadAnswer(Exception):
    """An answer that cannot be a sample; `reason` is one of RETRIED."""

    def __init__(self, message: str, reason: str = "broken_answer") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Setback:
    """Why a try gave nothing.

    `reason`: one of RETRIED; `refused_by_server`, where this request is at fault; or what makes
    all requests fail: `key_refused`, `no_credit`, `not_found`. `detail`: one line, with the status
    and the server's message. `status`: of HTTP, 0 where none came. `retry_after`: seconds that the
    server asks to wait, 0 for none.
    """

    reason: str
    detail: str
    status: int = 0
    retry_after: float = 0.0

    @property
    def passing(self) -> bool:
        return self.reason in RETRIED


def setback_of(error: Exception, secret: str = "") -> Setback:
    """The setback that an error of the client is. `secret` is struck out, should a server echo it.

    What is not known by its status or class counts as a broken answer.
    """
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        detail = _line(f"status {status}: {said_by_server(getattr(error, 'body', None))}", secret)
        headers = getattr(getattr(error, "response", None), "headers", {})
        wait = retry_after(headers, datetime.now(UTC))
        return Setback(_reason(status, error), detail, status, wait)
    classes = {known.__name__ for known in type(error).__mro__}
    cause = error.__cause__ if "APIConnectionError" in classes and error.__cause__ else error
    if isinstance(error, BadAnswer):
        reason, said = error.reason, str(error)
    elif classes & _TIMEOUTS:
        reason, said = "timeout", f"no byte from the server in time ({type(cause).__name__})"
    elif classes & _CONNECTIONS:
        reason, said = "connection", f"{type(cause).__name__}: {cause}"
    elif "APIError" in classes:
        limited = getattr(error, "code", None) == "429"
        reason = "rate_limited" if limited else "server_error"
        said = f"an error in the stream: {said_by_server(getattr(error, 'body', None))}"
    else:
        reason, said = "broken_answer", f"{type(error).__name__}: {error}"
    return Setback(reason, _line(said, secret))


def said_by_server(body: Any) -> str:
    """The message in the body of an error: that of OpenAI, of FastAPI, or the body as it is."""
    if not isinstance(body, Mapping):
        return str(body or "no message")
    for name in ("message", "detail", "error"):
        if said := body.get(name):
            return said_by_server(said)
    return str(dict(body))


def retry_after(headers: Mapping[str, str], now: datetime) -> float:
    """The seconds that a Retry-After header asks for, at most LONGEST_RETRY_AFTER.

    The header holds seconds or an HTTP date. 0 where it is absent, past or unreadable.

    >>> new_year = datetime(2026, 1, 1, tzinfo=UTC)
    >>> retry_after({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, new_year)
    30.0
    """
    value = headers.get("retry-after") or "0"
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return 0.0
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def delay(tries: int, setback: Setback) -> float:
    """Seconds to wait after so many tries: backoff or, where it is longer, Retry-After.

    Both are spread by chance, so that requests that failed together do not come back together.
    """
    backoff = min(BASE_DELAY * 2 ** min(tries - 1, 16), LONGEST_DELAY) * random.uniform(0.5, 1)
    if not setback.retry_after:
        return backoff
    return max(backoff, setback.retry_after + random.uniform(0, BASE_DELAY))


def locked_out(setback: Setback, url: str) -> ProgdataError:
    """The error for a server that takes no request of this user: `key_refused` or `no_credit`."""
    if setback.reason == "no_credit":
        return ProgdataError(
            f"{url}: the server asks for credit: {setback.detail}; what is done is kept: add "
            "credit and run the same command again"
        )
    return ProgdataError(
        f"{url}: the server refused the key: {setback.detail}; set OPENAI_API_KEY to a key that "
        "it takes"
    )


def server_down(last: Setback, url: str, requests: int, tries: int) -> ProgdataError:
    """The error for a server that gave nothing for so many requests in a row."""
    return ProgdataError(
        f"{url}: {requests} requests in a row failed after {tries} tries each, the last with "
        f"{last.reason}: {last.detail}; what is done is kept: see to the server and run the same "
        "command again"
    )


def _reason(status: int, error: Exception) -> str:
    if by_code := _BY_CODE.get(str(getattr(error, "code", None))):
        return by_code
    return _BY_STATUS.get(status) or ("server_error" if status >= 500 else "refused_by_server")


def _line(text: str, secret: str) -> str:
    return one_line(Exception(text.replace(secret, "***") if secret else text))
