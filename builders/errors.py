"""Errors that reach the user: one line that says what was wrong, where, and what to do."""


class ProgdataError(Exception):
    """A run that failed (exit code 1). The message is one line for the user."""

    exit_code = 1


class UsageError(ProgdataError):
    """A wrong option, recipe or combination of both (exit code 2)."""

    exit_code = 2


class LawError(ProgdataError):
    """A check found a broken law (exit code 3)."""

    exit_code = 3


def missing_extra(package: str, extra: str) -> ProgdataError:
    """The error for a feature whose optional package is not installed."""
    return ProgdataError(
        f"{package} is not installed; it comes with the extra '{extra}': "
        f"pip install 'progdata[{extra}]'"
    )


def one_line(error: BaseException) -> str:
    """What an error says, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
