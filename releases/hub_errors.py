"""What an error of the Hub's client means, and what to tell of it in one line.

Errors are told apart by status and by class name: the client stands on httpx or httpx2 by its
version. No message holds the token, whatever a server echoes.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from progdata.builders.errors import one_line
from progdata.builders.redaction import redact
from progdata.builders.retries import Setback, retry_after

_PASSING = {408: "timeout", 425: "server_error", 429: "rate_limited"}
_ABSENT = {"RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError"}
_TIMEOUTS = {"TimeoutException", "TimeoutError"}
_WRONG_ADDRESSES = {"UnsupportedProtocol", "InvalidURL"}
_CONNECTIONS = {"TransportError", "ConnectionError"}


def setback_of_hub(error: Exception) -> Setback:
    """Whether, and after how long, to try again."""
    response = _response(error)
    if response is not None:
        status = response.status_code
        reason = _PASSING.get(status) or ("server_error" if status >= 500 else "refused_by_server")
        wait = retry_after(response.headers, datetime.now(UTC))
        return Setback(reason, _said(error), status, wait)
    classes = _classes(error)
    if "OfflineModeIsEnabled" in classes:
        return Setback("refused_by_server", "HF_HUB_OFFLINE is set")
    if classes & _WRONG_ADDRESSES:
        return Setback("refused_by_server", f"{_said(error)} HF_ENDPOINT must be the URL of a hub")
    if classes & _TIMEOUTS:
        return Setback("timeout", _said(error))
    if "JSONDecodeError" in classes:  # a page of a proxy, where the client expected JSON
        return Setback("broken_answer", "an answer that is not JSON")
    if classes & _CONNECTIONS or "consistency check failed" in str(error).lower():
        return Setback("connection", _said(error))
    return Setback("refused_by_server", _said(error))


def is_tried_out(error: Exception) -> bool:
    """Whether the client has tried again by itself for half a minute: it looked for a file, and
    found neither the Hub nor the file in its cache. An answer that broke off it does not try again.
    """
    classes = _classes(error)
    return "LocalEntryNotFoundError" in classes and "RemoteProtocolError" not in classes


def is_absent(error: Exception) -> bool:
    """Whether there is no such repository, revision or file, or none that this user may see."""
    return type(error).__name__ in _ABSENT


def is_absent_file(error: Exception) -> bool:
    """Whether the repository and the revision are there, and only the file is not."""
    return type(error).__name__ == "RemoteEntryNotFoundError"


def is_local(error: Exception) -> bool:
    """Whether it is this machine's own: a disk that is full, a folder that cannot be written."""
    own = type(error).__module__ == "builtins" and isinstance(error, OSError)
    return own and setback_of_hub(error).reason == "refused_by_server"


def is_unreachable(error: Exception) -> bool:
    """Whether no answer came at all."""
    reason = setback_of_hub(error).reason
    offline = "OfflineModeIsEnabled" in _classes(error)
    return offline or reason in ("timeout", "connection")


def is_stale(error: Exception) -> bool:
    """Whether a commit was refused because its parent is not the head."""
    return _status(error) == 412


def is_conflict(error: Exception) -> bool:
    """Whether there is a thing of this name already."""
    return _status(error) == 409


def told(name: str, error: Exception, tries: int = 1) -> str:
    """One line on what went wrong with a repository, and what to do."""
    setback = setback_of_hub(error)
    if is_absent(error):
        return (
            f"{name}: not found on the Hub, or private: log in with `hf auth login` or set "
            "HF_TOKEN if it is yours"
        )
    if _status(error) == 401:
        advice = "log in with `hf auth login`, or set HF_TOKEN to a token that is valid"
        return f"{name}: the Hub does not take the token: {setback.detail}; {advice}"
    if _status(error) == 403:
        advice = "use a token that may write there"
        return f"{name}: the Hub refuses this to the token: {setback.detail}; {advice}"
    if "OfflineModeIsEnabled" in _classes(error):
        return f"{name}: HF_HUB_OFFLINE is set, and the cache does not hold what is needed"
    if setback.passing:
        return (
            f"{name}: the Hub failed {tries} times, the last time with {setback.detail}; what "
            "arrived is kept: run the same command again"
        )
    return f"{name}: the Hub refused: {setback.detail}"


def _said(error: Exception) -> str:
    """What an error says, without the token."""
    response = _response(error)
    said = str(getattr(error, "server_message", None) or "")
    if response is not None:
        text = f"status {response.status_code}" + (f": {said}" if said else "")
    else:
        cause = next((own for own in _chain(error) if _kinds(own) & _CONNECTIONS), error)
        text = f"{type(cause).__name__}: {cause}"
    return one_line(Exception(redact(text)))


def _status(error: Exception) -> int:
    response = _response(error)
    return response.status_code if response is not None else 0


def _response(error: Exception) -> Any:
    """The HTTP answer that an error of the client, or the error behind it, stands for."""
    for own in _chain(error):
        response = getattr(own, "response", None)
        if response is not None and isinstance(getattr(response, "status_code", None), int):
            return response
    return None


def _classes(error: Exception) -> set[str]:
    return {name for own in _chain(error) for name in _kinds(own)}


def _kinds(error: BaseException) -> set[str]:
    return {known.__name__ for known in type(error).__mro__}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    own: BaseException | None = error
    while own is not None:
        yield own
        own = own.__cause__
