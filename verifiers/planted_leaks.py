"""Clean problems with leaks among them: what contamination checkers are held against.

An item leaks once in a set of problems at most, as in real data: leaked ten times it would look
common, which is what some checkers weigh by. So the leaks are spread over as many sets as needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from progdata.verifiers.leaks import LEAKS


@dataclass(frozen=True, slots=True)
class PlantedLeak:
    """A leak of one kind of the item with this index, and its text."""

    kind: str
    item: int
    text: str


@dataclass(frozen=True)
class PlantedSet:
    """Problems in a random order: `leaks[i]` is the leak that problem i is, None for a clean one.

    `clean[i]` is the index of problem i among the clean problems, -1 for a leak.
    """

    problems: list[str]
    leaks: list[PlantedLeak | None]
    clean: list[int]


def plant_leaks(items: Sequence[str], rows: int, seed: int) -> list[PlantedLeak]:
    """At most `rows` leaks of each kind, of random items; those that leaked less go first."""
    leaks: list[PlantedLeak] = []
    used = [0] * len(items)
    for kind, leak in LEAKS.items():
        order = list(range(len(items)))
        _shuffle(order, Random(f"{seed}/{kind}"))
        planted = 0
        for item in sorted(order, key=used.__getitem__):
            if planted == rows:
                break
            text = leak(items[item], Random(f"{seed}/{kind}/{item}"))
            if text is not None:
                leaks.append(PlantedLeak(kind, item, text))
                planted += 1
                used[item] += 1
    return leaks


def mix(leaks: Sequence[PlantedLeak], clean: Sequence[str], seed: int) -> list[PlantedSet]:
    """The sets: each with all clean problems, and with each item in one leak at most."""
    rounds: list[dict[int, PlantedLeak]] = []
    for leak in leaks:
        for own in rounds:
            if leak.item not in own:
                own[leak.item] = leak
                break
        else:
            rounds.append({leak.item: leak})
    return [_mixed(list(own.values()), clean, f"{seed}/{i}") for i, own in enumerate(rounds)]


def _mixed(leaks: Sequence[PlantedLeak], clean: Sequence[str], seed: str) -> PlantedSet:
    places: list[tuple[PlantedLeak | None, int]] = [(leak, -1) for leak in leaks]
    places += [(None, index) for index in range(len(clean))]
    _shuffle(places, Random(seed))
    problems = [clean[index] if leak is None else leak.text for leak, index in places]
    return PlantedSet(problems, [leak for leak, _ in places], [index for _, index in places])


def _shuffle(values: list, rng: Random) -> None:
    """Shuffle in place by `rng.random` alone, which is the same in every version of Python."""
    for last in range(len(values) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        values[last], values[other] = values[other], values[last]
