"""Hold contamination profiles against planted leaks: what `progdata bench contamination` does."""

import operator
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.nearest import did_you_mean
from progdata.verifiers.answer_bench import wilson_interval
from progdata.verifiers.checkers import find_function
from progdata.verifiers.contamination_profiles import PROFILES, find_leaks
from progdata.verifiers.generated_problems import generated_problems
from progdata.verifiers.leaks import LEAKS, count_words
from progdata.verifiers.near_duplicates import MODEL
from progdata.verifiers.planted_leaks import PlantedLeak, PlantedSet, mix, plant_leaks

DEFAULT_PROFILES = tuple(name for name in PROFILES if name != "embedding")
"""All but `embedding`, which needs an extra and minutes."""

ROWS = 200
"""Leaks of each kind by default."""

ITEMS_FOR_EACH = 2
CLEAN_FOR_EACH = 10
"""Items and clean problems that are generated for each leak of a kind."""

LENGTHS = (8, 13, 25, 50)
"""The numbers of words at which the length of an item falls into the next class."""

SHOWN = 5
"""Misses of each kind, and false alarms, that the report itself shows."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flagged problem; item, reason and score where the checker says them."""

    row: int
    item: int | None = None
    reason: str | None = None
    score: float | None = None


Checker = Callable[[list[str], list[str]], list[Flag]]


def bench_contamination(
    profiles: Sequence[str] | None = None,
    checkers: Sequence[str] = (),
    *,
    items: Sequence[str] | None = None,
    clean: Sequence[str] | None = None,
    rows: int = ROWS,
    seed: int = 0,
    model: str = MODEL,
) -> dict[str, Any]:
    """Plant leaks of items into clean problems; the report, which can be written as JSON.

    Args:
        profiles: names of `contamination_profiles.PROFILES`; None for `DEFAULT_PROFILES`.
        checkers: import paths `package.module:function` of users' checkers, each called as
            `function(problems=[...], items=[...])`; it gives the indices of flagged problems.
        items: the problems of a benchmark; None to generate them.
        clean: problems that hold nothing of `items`; None to generate them. Every flag on them
            counts as a false alarm.
        rows: leaks of each kind at most; fewer where a kind applies to fewer items.
        seed: of the generated problems and of the leaks.
        model: the sentence-transformers path of the profile `embedding`.

    Returns:
        The counts, and for each checker: `recall` by kind with a 95 % interval, and in how many
        the right item was named; `by_length`, of the item in words; `false_alarms` with an
        interval; `misses` and examples; seconds, and problems a second, building its index
        included.

    Raises:
        UsageError: an unknown profile, a checker that cannot be imported, no items, no clean
            problems, a number of rows below 1.
        ProgdataError: a checker that fails, or gives something else than indices.
    """
    if rows < 1:
        raise UsageError(f"{rows} leaks of each kind; at least 1 is needed")
    found = find_checkers(profiles, checkers, model)
    texts = _given(items, "items", seed, "items", rows * ITEMS_FOR_EACH)
    others = _given(clean, "clean problems", seed, "clean", rows * CLEAN_FOR_EACH)
    leaks = plant_leaks(texts, rows, seed)
    sets = mix(leaks, others, seed)
    return {
        "items": {"generated": items is None, "count": len(texts)},
        "clean": {"generated": clean is None, "count": len(others)},
        "rows": rows,
        "seed": seed,
        "sets": len(sets),
        "planted": {kind: sum(leak.kind == kind for leak in leaks) for kind in LEAKS},
        "checkers": {
            name: _measure(name, check, texts, others, sets) for name, check in found.items()
        },
    }


def _given(
    texts: Sequence[str] | None, what: str, seed: int, purpose: str, count: int
) -> list[str]:
    """The given texts, or generated ones of which no other purpose has the seed."""
    if texts is None:
        return generated_problems(f"{seed}/{purpose}", count)
    if not texts:
        raise UsageError(f"no {what} to bench with: the source holds no problem")
    return list(texts)


# --- checkers


def find_checkers(
    profiles: Sequence[str] | None = None,
    checkers: Sequence[str] = (),
    model: str = MODEL,
) -> dict[str, Checker]:
    """The checkers of profiles and import paths, by those names.

    Raises UsageError for a name that is none, and where there is none at all.
    """
    found: dict[str, Checker] = {}
    for name in DEFAULT_PROFILES if profiles is None else profiles:
        if name not in PROFILES:
            raise UsageError(
                f"unknown profile {name!r}{did_you_mean(name, PROFILES)}; "
                f"choose from {', '.join(PROFILES)}"
            )
        found[name] = _profile_checker(name, model)
    for path in checkers:
        found[path] = _user_checker(path)
    if not found:
        raise UsageError(f"no profile to bench; choose from {', '.join(PROFILES)}")
    return found


def _profile_checker(name: str, model: str) -> Checker:
    def check(problems: list[str], items: list[str]) -> list[Flag]:
        matches = find_leaks(problems, items, name, model=model)
        return [Flag(own.row, own.item, own.reason, own.score) for own in matches]

    return check


def _user_checker(path: str) -> Checker:
    try:
        function = find_function(path)
    except UsageError as error:
        what = str(error).partition("; expected")[0]
        raise UsageError(
            f"{what}; expected the import path package.module:function of a function that takes "
            "problems and items and gives the indices of flagged problems"
        ) from error

    def check(problems: list[str], items: list[str]) -> list[Flag]:
        try:
            said = list(function(problems=list(problems), items=list(items)))
        except Exception as error:
            kind = type(error).__name__
            raise ProgdataError(f"checker {path!r} failed: {kind}: {one_line(error)}") from error
        return [Flag(row) for row in sorted({_index(path, row, len(problems)) for row in said})]

    return check


def _index(path: str, said: Any, problems: int) -> int:
    """A flagged index as an int. Raises ProgdataError for what is none, such as a mask of bools."""
    try:
        row = -1 if isinstance(said, bool) else operator.index(said)
    except TypeError:
        row = -1
    if not 0 <= row < problems:
        raise ProgdataError(
            f"checker {path!r} gave {said!r:.80}; expected indices of flagged problems, "
            f"0 to {problems - 1}"
        )
    return row


# --- measures


def _measure(
    name: str,
    check: Checker,
    items: list[str],
    clean: list[str],
    sets: Sequence[PlantedSet],
) -> dict[str, Any]:
    """One checker's part of the report."""
    found: list[tuple[PlantedLeak, list[Flag]]] = []
    alarms: dict[int, Flag] = {}
    seconds = 0.0
    for planted in sets:
        begun = time.perf_counter()
        flags = check(planted.problems, items)
        seconds += time.perf_counter() - begun
        by_row: dict[int, list[Flag]] = {}
        for flag in flags:
            by_row.setdefault(flag.row, []).append(flag)
        for row, (leak, index) in enumerate(zip(planted.leaks, planted.clean, strict=True)):
            if leak is not None:
                found.append((leak, by_row.get(row, [])))
            elif row in by_row:
                alarms.setdefault(index, by_row[row][0])
    problems = sum(len(planted.problems) for planted in sets)
    return {
        "recall": _recall_by_kind(found, names_items=name in PROFILES),
        "by_length": _by_length(found, items),
        "false_alarms": _share(len(alarms), len(clean))
        | {"examples": [_alarm(clean[i], own, items) for i, own in list(alarms.items())[:SHOWN]]},
        "misses": _misses(found, items),
        "seconds": round(seconds, 6),
        "problems": problems,
        "problems_per_second": round(problems / max(seconds, 1e-9), 1),
    }


def _share(found: int, of: int) -> dict[str, Any]:
    """A count, the number it is out of, and their share with Wilson's 95 % interval."""
    share = found / of if of else None
    return {
        "found": found,
        "of": of,
        "share": share,
        "interval_95": list(wilson_interval(found, of)) if of else None,
    }


def _recall_by_kind(
    found: Sequence[tuple[PlantedLeak, list[Flag]]], *, names_items: bool
) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for kind in LEAKS:
        own = [(leak, flags) for leak, flags in found if leak.kind == kind]
        report[kind] = _share(sum(bool(flags) for _, flags in own), len(own))
        if names_items:
            right = sum(any(flag.item == leak.item for flag in flags) for leak, flags in own)
            reasons = Counter(flags[0].reason for _, flags in own if flags)
            report[kind] |= {"right_item": right, "reasons": dict(reasons.most_common())}
    return report


def _by_length(
    found: Sequence[tuple[PlantedLeak, list[Flag]]], items: Sequence[str]
) -> dict[str, Any]:
    """For each class of length, the recall over all kinds, and by kind."""
    names = length_classes()
    words = {leak.item: count_words(items[leak.item]) for leak, _ in found}
    report: dict[str, Any] = {}
    for place, name in enumerate(names):
        own = [
            (leak.kind, bool(flags))
            for leak, flags in found
            if sum(words[leak.item] >= bound for bound in LENGTHS) == place
        ]
        kinds: Mapping[str, list[bool]] = {
            kind: [flagged for one, flagged in own if one == kind] for kind in LEAKS
        }
        report[name] = _share(sum(flagged for _, flagged in own), len(own)) | {
            "kinds": {kind: _share(sum(said), len(said)) for kind, said in kinds.items()}
        }
    return report


def length_classes() -> list[str]:
    """The names of the classes of length, in words.

    >>> length_classes()
    ['1-7', '8-12', '13-24', '25-49', '50+']
    """
    bounds = [1, *LENGTHS]
    closed = [f"{low}-{high - 1}" for low, high in zip(bounds, LENGTHS, strict=False)]
    return [*closed, f"{LENGTHS[-1]}+"]


def _misses(
    found: Iterable[tuple[PlantedLeak, list[Flag]]], items: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """The first misses of each kind, the item and what was planted of it."""
    shown: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LEAKS}
    for leak, flags in found:
        if not flags and len(shown[leak.kind]) < SHOWN:
            shown[leak.kind].append({"item": items[leak.item], "planted": leak.text})
    return shown


def _alarm(problem: str, flag: Flag, items: Sequence[str]) -> dict[str, Any]:
    item = None if flag.item is None else items[flag.item]
    return {"problem": problem, "item": item, "reason": flag.reason, "score": flag.score}
