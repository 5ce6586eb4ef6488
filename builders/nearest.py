"""The nearest known name to a mistyped one, for error messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'noisy'?`, or nothing where no known name is near.

    >>> did_you_mean("nosy", ["clean", "noisy"])
    "; did you mean 'noisy'?"
    """
    close = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
