r"""The checkers that `progdata bench answers` compares: ours, others, and those of users.

A checker is given (gold, pred) pairs, where `pred` is a response without thinking, and says of
each what a grader would: a status, and the rule that decided.
"""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.nearest import did_you_mean
from progdata.builders.thinking import CLOSE
from progdata.verifiers.answers import find_boxes
from progdata.verifiers.grading import Budget, grade_all
from progdata.verifiers.math_verify_direct import check_directly, fresh_python
from progdata.verifiers.verdicts import GRADERS, STATUSES, Comparison, GraderName, Verdict

Pairs = Sequence[tuple[str, str]]
Checker = Callable[[Pairs], list[Comparison]]

CHECKERS = (*GRADERS, "math-verify-direct", "strings")
"""The names of the built-in checkers: our two graders, math-verify as its README shows, equality
of the texts."""

_IMPORT_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
_EXPECTED = f"expected {', '.join(CHECKERS)}, or the import path package.module:function"


def find_checker(
    spec: str,
    *,
    workers: int | None = None,
    budget: Budget = Budget(),  # noqa: B008, frozen
) -> Checker:
    """The checker of a built-in name, or of the import path of a function.

    `workers` and `budget` are those of our graders. Raises UsageError for what is neither.
    """
    if spec in GRADERS:
        return partial(check_by_grader, grader=spec, workers=workers, budget=budget)
    if spec == "math-verify-direct":
        return lambda pairs: list(check_directly(pairs))
    if spec == "strings":
        return check_strings
    return partial(check_by_function, function=find_function(spec))


# --- ours


def check_by_grader(
    pairs: Pairs, grader: GraderName, *, workers: int | None, budget: Budget
) -> list[Comparison]:
    """What `grade_all` says, in a fresh process: nothing of it runs yet, and nothing is cached.

    Raises ProgdataError where that process fails.
    """
    request = {
        "golds": [gold for gold, _ in pairs],
        "completions": [as_completion(pred, grader) for _, pred in pairs],
        "grader": grader,
        "workers": workers,
        **asdict(budget),
    }
    command, environment = fresh_python(__name__)
    try:
        done = subprocess.run(
            command,
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
    except OSError as error:
        raise ProgdataError(f"checker {grader!r}: cannot start its process: {error}") from error
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
        raise ProgdataError(f"checker {grader!r}: its process failed: {reason}")
    return [Comparison(**said) for said in json.loads(done.stdout)]


def as_completion(pred: str, grader: GraderName) -> str:
    r"""A response as a completion whose thinking is over.

    DeepScaleR's rule reads boxes only. For it a response without a complete one is put in a box,
    whole; not where its braces do not match, since part of it would then be taken for the box.

    >>> as_completion(r"$\frac12$", "deepscaler")
    '</think>\\boxed{$\\frac12$}'
    >>> as_completion(r"It is \boxed{25", "deepscaler")
    '</think>It is \\boxed{25'
    """
    if grader == "deepscaler" and not find_boxes(pred):
        boxed = f"\\boxed{{{pred}}}"
        if [(box.start, box.end) for box in find_boxes(boxed)] == [(0, len(boxed))]:
            pred = boxed
    return f"{CLOSE}{pred}"


def _comparison(verdict: Verdict) -> Comparison:
    return Comparison(verdict.status, verdict.rule, verdict.gold_normal, verdict.answer_normal)


def main() -> None:
    """Grade the request on standard input: the arguments of `grade_all`."""
    try:
        verdicts = grade_all(**json.load(sys.stdin))
    except ProgdataError as error:
        sys.exit(str(error))
    print(json.dumps([asdict(_comparison(verdict)) for verdict in verdicts]))


# --- plain strings


def check_strings(pairs: Pairs) -> list[Comparison]:
    """Equality of the gold and the last complete box (without one, the response), as texts.

    White space and dollars around them do not count.
    """
    return [_compare_strings(gold, pred) for gold, pred in pairs]


def _compare_strings(gold: str, pred: str) -> Comparison:
    boxes = find_boxes(pred)
    answer = pred[boxes[-1].inner_start : boxes[-1].inner_end] if boxes else pred
    texts = _without_dollars(gold), _without_dollars(answer)
    return Comparison("correct" if texts[0] == texts[1] else "wrong", "strings", *texts)


def _without_dollars(text: str) -> str:
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] == "$" and text[-2] != "\\":
        text = text[1:-1].strip()
    return text


# --- those of users


def find_function(spec: str) -> Callable[..., Any]:
    """The function that an import path names, looked for in the working directory as well.

    Raises UsageError where there is none.
    """
    path = _IMPORT_PATH.fullmatch(spec)
    if path is None:
        raise UsageError(f"unknown checker {spec!r}{did_you_mean(spec, CHECKERS)}; {_EXPECTED}")
    module_name, name = path.groups()
    try:
        with _working_directory_on_path():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        raise UsageError(
            f"checker {spec!r}: cannot import {module_name} ({why}); {_EXPECTED}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        what = "is not a function" if hasattr(module, name) else "is not in it"
        known = [own for own, value in vars(module).items() if callable(value)]
        raise UsageError(f"checker {spec!r}: {name} {what}{did_you_mean(name, known)}; {_EXPECTED}")
    return function


@contextmanager
def _working_directory_on_path() -> Iterator[None]:
    """The working directory is the last place where modules are looked for."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def check_by_function(pairs: Pairs, function: Callable[..., Any]) -> list[Comparison]:
    """What a function says, called as `function(gold=..., pred=...)` in this process.

    It gives a bool, a status (see `verdicts`), something with a `status`, or None where it cannot
    say. What it raises is an `error`, or a `timeout` where that is in the exception's name.
    """
    return [_call(function, gold, pred) for gold, pred in pairs]


def _call(function: Callable[..., Any], gold: str, pred: str) -> Comparison:
    try:
        return _as_comparison(function(gold=gold, pred=pred))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # some checkers' timeouts are no Exception
        kind = type(error).__name__
        status = "timeout" if "timeout" in kind.lower() else "error"
        return Comparison(status, f"{kind}: {one_line(error)}")


def _as_comparison(said: Any) -> Comparison:
    status, rule = getattr(said, "status", said), str(getattr(said, "rule", "the function"))
    if status is None:
        return Comparison("no_answer", rule)
    if isinstance(status, str) and status in STATUSES:
        return Comparison(status, rule)
    if not isinstance(status, str) and status in (True, False):
        return Comparison("correct" if status else "wrong", rule)
    expected = f"a bool, None, or one of {', '.join(STATUSES)}"
    return Comparison("error", f"it gave {said!r:.80}, and not {expected}")


if __name__ == "__main__":
    main()
