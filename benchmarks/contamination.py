"""Hold the training problems of DeepScaleR against every shared benchmark, with every profile.

    python benchmarks/contamination.py [--data DIR] [--profile NAME ...] [--rows N]

Prints, in one run: what each profile flags, by benchmark and by reason; its problems a second,
with the index of the benchmarks, beside the plain set of word 8-grams that scripts use; the false
alarms on AIME 1983-2023 against AIME 2024; the real rewrites of MATH-Perturb that are flagged;
and the peak memory of the default profile for the problems once, 4 and 16 times over.
"""

import argparse
import gzip
import json
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from progdata.verifiers.contamination import SAMPLE, find_matches
from progdata.verifiers.contamination_profiles import PROFILES, find_leaks, make_detector

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

_WORD = re.compile(r"[a-z0-9]+")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def texts(path: Path) -> list[str]:
    return [row["problem"] for row in read(path)]


def plain_8_grams(problems: list[str], items: list[str]) -> int:
    """The number of problems that share a word 8-gram with an item: a set and two loops."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = _WORD.findall(text.lower())
        return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}

    known = set().union(*map(grams, items))
    return sum(not known.isdisjoint(grams(problem)) for problem in problems)


def stream(path: Path, times: int) -> Iterator[str]:
    """The problems of a file, so many times over."""
    for _ in range(times):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line)["problem"] for line in lines)


def peak_memory(path: Path, times: int, items: list[str], answers: Any) -> None:
    """Send the count of problems and the peak of this process in MB with the default profile."""
    detector = make_detector("weighted", items, islice(stream(path, 1), SAMPLE))
    count = 0

    def counted() -> Iterator[str]:
        nonlocal count
        for count, problem in enumerate(stream(path, times), 1):  # noqa: B007
            yield problem

    for _ in find_matches(counted(), detector):
        pass
    status = Path("/proc/self/status").read_text()  # Linux
    peak = int(status.partition("VmHWM:")[2].split()[0])
    answers.send((count, peak / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--profile", nargs="+", choices=PROFILES)
    parser.add_argument("--rows", type=int)
    options = parser.parse_args()
    items, owners = [], []
    for path in sorted((options.data / "benchmarks").glob("*.jsonl.gz")):
        own = texts(path)
        items += own
        owners += [path.name.partition(".")[0]] * len(own)
    problems = texts(options.data / "problems" / "deepscaler_train.jsonl.gz")[: options.rows]
    print(f"{len(problems):,} problems, {len(items):,} items of {len(set(owners))} benchmarks")

    begun = time.perf_counter()
    flagged = plain_8_grams(problems, items)
    seconds = time.perf_counter() - begun
    print(f"plain set of 8-grams: {flagged} flagged, {len(problems) / seconds:,.0f} problems/s")
    profiles = options.profile or [name for name in PROFILES if name != "embedding"]
    for name in profiles:
        begun = time.perf_counter()
        detector = make_detector(name, items, problems[:SAMPLE])
        ready = time.perf_counter()
        matches = list(find_matches(problems, detector))
        ended = time.perf_counter()
        by_benchmark = Counter(
            benchmark for _, benchmark in {(own.row, owners[own.item]) for own in matches}
        )
        by_reason = Counter(reason for _, reason in {(own.row, own.reason) for own in matches})
        print(
            f"{name}: {len({own.row for own in matches})} flagged, "
            f"{len(problems) / (ended - begun):,.0f} problems/s with its index, "
            f"{len(problems) / (ended - ready):,.0f} without\n"
            f"  {dict(by_benchmark.most_common())}\n  {dict(by_reason.most_common())}"
        )

    part = read(options.data / "problems" / "deepscaler_train_part.jsonl.gz")
    old = [row["problem"] for row in part if "aime_1983" in json.dumps(row)]
    new = texts(options.data / "benchmarks" / "aime24.jsonl.gz")
    rewrites = texts(options.data / "problems" / "math_perturb.jsonl.gz")
    for name in profiles:
        alarms = len({own.row for own in find_leaks(old, new, name)})
        found = len({own.row for own in find_leaks(rewrites, [*items, *problems], name)})
        print(
            f"{name}: flags {alarms} of {len(old)} AIME problems against AIME 2024, "
            f"{found} of {len(rewrites)} rewrites against all others"
        )

    context = multiprocessing.get_context("spawn")
    for times in (1, 4, 16):
        receiver, sender = context.Pipe(duplex=False)
        path = options.data / "problems" / "deepscaler_train.jsonl.gz"
        process = context.Process(target=peak_memory, args=(path, times, items, sender))
        process.start()
        count, peak = receiver.recv()
        process.join()
        print(f"weighted: {count:,} problems, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
