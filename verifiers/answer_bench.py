"""Hold answer checkers against labelled pairs: what `progdata bench answers` does."""

import gzip
import json
import math
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from statistics import NormalDist
from typing import Any

from progdata.builders.errors import UsageError, one_line
from progdata.verifiers.checkers import find_checker
from progdata.verifiers.grading import Budget
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB
from progdata.verifiers.verdicts import GRADERS, Comparison
from progdata.verifiers.verify_rows import grading_versions

DEFAULT_CHECKERS = ("math-verify", "deepscaler", "math-verify-direct", "strings")

SHIPPED = "labelled_answers.jsonl"
"""The set that comes with the package, beside this file."""

SHOWN_ERRORS = 5

_FIELDS = {"gold": "a string", "pred": "a string", "equal": "true or false"}
_EXPECTED = "expected an object with gold, pred (strings) and equal (true or false)"


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A gold, a response, and whether its answer is the gold; `line` is where the pair stands."""

    line: int
    gold: str
    pred: str
    equal: bool
    form: str | None


def bench_answers(
    path: Path | None,
    checkers: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    cpu_seconds: float = CPU_SECONDS,
    memory_mb: int = MEMORY_MB,
) -> dict[str, Any]:
    """Run checkers on labelled pairs; the report, which can be written as JSON.

    Args:
        path: JSON lines, `.gz` or not, with `gold`, `pred`, `equal`, and `form` or `group` where
            there is one; None for the set of this package.
        checkers: names and import paths (see `checkers.find_checker`).
        workers: processes of our graders; so are `cpu_seconds` and `memory_mb` their budget.

    Returns:
        The counts, and for each checker its matrix, accuracy with a 95 % interval, speed, and
        mistakes. Who cannot say whether a pair is equal says that it is not, and is counted
        apart as well. Seconds are those by the wall clock, with the start of built-in checkers.

    Raises:
        UsageError: a file that cannot be read, an unknown checker, a budget without sense.
    """
    budget = Budget(cpu_seconds, memory_mb)
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} grading processes; at least 1 is needed")
    names = list(dict.fromkeys(checkers or DEFAULT_CHECKERS))
    found = {name: find_checker(name, workers=workers, budget=budget) for name in names}
    pairs = read_pairs(path)
    said: dict[str, list[Comparison]] = {}
    reports: dict[str, Any] = {}
    for name, check in found.items():
        begun = time.perf_counter()
        said[name] = check([(pair.gold, pair.pred) for pair in pairs])
        reports[name] = score(pairs, said[name], time.perf_counter() - begun)
    equal = sum(pair.equal for pair in pairs)
    return {
        "file": str(path) if path else f"progdata/verifiers/{SHIPPED}",
        "pairs": len(pairs),
        "equal": equal,
        "unequal": len(pairs) - equal,
        "budget": asdict(budget),
        "versions": grading_versions(),
        "checkers": reports,
        "disagreements": _disagreements(pairs, said),
    }


# --- scores


def score(
    pairs: Sequence[LabelledPair], said: Sequence[Comparison], seconds: float
) -> dict[str, Any]:
    """One checker's part of the report: of what it said of each pair, in so many seconds.

    In `confusion`, `false_equal` are the unequal pairs that it called equal, `false_unequal` the
    equal ones that it did not.
    """
    judged = list(zip(pairs, said, strict=True))
    cells = Counter(_cell(pair, own) for pair, own in judged)
    statuses = Counter(own.status for own in said)
    right = cells["true_equal"] + cells["true_unequal"]
    forms: dict[str, list[bool]] = defaultdict(list)
    for pair, own in judged:
        if pair.form is not None:
            forms[pair.form].append(_is_right(pair, own))
    return {
        "confusion": {
            cell: cells[cell]
            for cell in ("true_equal", "false_equal", "true_unequal", "false_unequal")
        },
        "accuracy": right / len(pairs),
        "accuracy_95": list(wilson_interval(right, len(pairs))),
        "seconds": round(seconds, 6),
        "pairs_per_second": round(len(pairs) / max(seconds, 1e-9), 1),
        "timeouts": statuses["timeout"],
        "errors": statuses["error"],
        "undecided": {name: statuses[name] for name in ("no_answer", "gold_unparsable")},
        "error_messages": [
            {"line": pair.line, "message": own.rule}
            for pair, own in judged
            if own.status == "error"
        ][:SHOWN_ERRORS],
        "by_form": {
            form: {"pairs": len(own), "right": sum(own), "accuracy": sum(own) / len(own)}
            for form, own in sorted(forms.items())
        },
        "mistakes": [
            {**asdict(pair), "said": own.status, "rule": own.rule}
            for pair, own in judged
            if not _is_right(pair, own)
        ],
    }


def wilson_interval(right: int, pairs: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share.

    >>> [round(bound, 4) for bound in wilson_interval(9, 10)]
    [0.5958, 0.9821]
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = right / pairs, z * z / pairs
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / pairs + weight / pairs / 4) / (1 + weight)
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def _says_equal(said: Comparison) -> bool:
    return said.status == "correct"


def _is_right(pair: LabelledPair, said: Comparison) -> bool:
    return _says_equal(said) == pair.equal


def _cell(pair: LabelledPair, said: Comparison) -> str:
    return f"{_is_right(pair, said)}_{'' if _says_equal(said) else 'un'}equal".lower()


def _disagreements(
    pairs: Sequence[LabelledPair], said: dict[str, list[Comparison]]
) -> list[dict[str, Any]] | None:
    """The pairs that only one of our graders calls equal; None where not both of them ran."""
    if not said.keys() >= set(GRADERS):
        return None
    found = []
    for i, pair in enumerate(pairs):
        both = {name: said[name][i] for name in GRADERS}
        if len({_says_equal(own) for own in both.values()}) > 1:
            verdicts = {name: {"said": own.status, "rule": own.rule} for name, own in both.items()}
            found.append(asdict(pair) | verdicts)
    return found


# --- pairs


def read_pairs(path: Path | None) -> list[LabelledPair]:
    """The labelled pairs of a file, or of this package.

    Raises UsageError for what cannot be read, with the file, the line and the field.
    """
    if path is None:
        data = files("progdata.verifiers").joinpath(SHIPPED).read_bytes()
    else:
        data = _read(path)
    name = str(path or SHIPPED)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    pairs = [_pair(line, name, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise UsageError(f"{name}: no pairs in it; {_EXPECTED} on each line")
    return pairs


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.name.endswith(".gz") else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(
            f"{path}: no gzip file, or damaged ({one_line(error)}); expected a .jsonl.gz file"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or one_line(error)
        raise UsageError(f"{path}: {why}; expected a .jsonl or .jsonl.gz file") from error


def _pair(line: bytes, name: str, number: int) -> LabelledPair:
    where = f"{name}, line {number}"
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({one_line(error)}); {_EXPECTED}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where}: a {type(row).__name__}; {_EXPECTED}")
    for field, expected in _FIELDS.items():
        if field not in row:
            has = ", ".join(map(repr, list(row)[:9])) or "nothing"
            raise UsageError(f"{where}: the field {field!r} is missing, it has {has}; {_EXPECTED}")
        if type(row[field]) is not (bool if field == "equal" else str):
            shown = json.dumps(row[field])[:50]
            raise UsageError(f"{where}: the field {field!r} is {shown}; expected {expected}")
    form = row.get("form", row.get("group"))
    form = None if form is None else str(form)
    return LabelledPair(number, row["gold"], row["pred"], row["equal"], form)
