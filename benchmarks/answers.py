"""Grade the finished real traces: math-verify called directly, and ours with one and two workers.

    python benchmarks/answers.py [--traces DIR] [--limit N]

Direct is `verify(parse(gold), parse(response))` in one process, with its own timeouts and every
gold in dollars unless it has delimiters. Ours is a whole process each, from its start: with its
imports, its grading processes, and nothing cached. Prints the rates, and every verdict that
differs where math-verify finished.
"""

import argparse
import gzip
import json
import logging
import multiprocessing
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

TRACES = Path(__file__).resolve().parents[2] / "shared" / "data" / "traces"

PROSE = "prose without an answer"


def finished_traces(folder: Path, limit: int | None) -> list[dict[str, Any]]:
    """The rows with a gold and a `</think>`."""
    rows = [
        json.loads(line) | {"file": path.name}
        for path in sorted(folder.glob("*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    kept = [row for row in rows if row["answer"] and "</think>" in row["completion"]]
    return kept[:limit]


def directly(rows: list[dict[str, Any]], answers: Any) -> None:
    """Send the seconds and, for each row, True, False or "timeout"."""
    begun = time.perf_counter()
    from math_verify import parse, verify

    timeouts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: timeouts.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("math_verify").addHandler(handler)
    logging.getLogger("math_verify").propagate = False
    verdicts: list[Any] = []
    for row in rows:
        timeouts.clear()
        response = row["completion"].rpartition("</think>")[2]
        equal = verify(parse(wrapped(row["answer"])), parse(response))
        verdicts.append("timeout" if timeouts else equal)
    answers.send((time.perf_counter() - begun, verdicts))


def wrapped(gold: str) -> str:
    delimiters = ("$", r"\(", r"\[", r"\boxed")
    bare = gold.replace(r"\$", "")
    return gold if any(mark in bare for mark in delimiters) else f"${gold}$"


def ours(rows: list[dict[str, Any]], answers: Any, workers: int) -> None:
    """Send the seconds and the verdicts."""
    begun = time.perf_counter()
    from progdata.verifiers import grade_all

    verdicts = grade_all(
        golds=[row["answer"] for row in rows],
        completions=[row["completion"] for row in rows],
        workers=workers,
        thinks=True,
    )
    answers.send((time.perf_counter() - begun, verdicts))


def in_a_process(function: Any, *arguments: Any) -> Any:
    """What a function sends from a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    rows, *rest = arguments
    process = context.Process(target=function, args=(rows, sender, *rest))
    process.start()
    answer = receiver.recv()
    process.join()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--traces", type=Path, default=TRACES)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    rows = finished_traces(options.traces, options.limit)
    if not rows:
        sys.exit(f"{options.traces}: no finished trace with a gold")
    runs = {workers: in_a_process(ours, rows, workers) for workers in (1, 2)}
    seconds, direct = in_a_process(directly, rows)
    print(f"{len(rows):,} finished traces")
    print(f"math-verify directly: {seconds:6.1f} s, {len(rows) / seconds:6.0f} rows/s")
    for workers, (own, _) in runs.items():
        rate = len(rows) / own
        print(
            f"ours, {workers} worker(s):   {own:6.1f} s, {rate:6.0f} rows/s, {seconds / own:.1f}x"
        )
    first, second = runs[1][1], runs[2][1]
    differ = sum(a.status != b.status for a, b in zip(first, second, strict=True))
    print("one and two workers differ on", differ)
    print("ours:", dict(Counter(verdict.status for verdict in first)))
    print("rules:", dict(Counter(verdict.rule for verdict in first).most_common(12)))
    print("math-verify:", dict(Counter(map(str, direct))))
    differing = [
        (row, equal, verdict)
        for row, equal, verdict in zip(rows, direct, first, strict=True)
        if equal != "timeout" and equal != verdict.correct
    ]
    prose = [own for own in differing if own[2].rule == PROSE]
    print(f"{len(prose)} rows differ whose gold is prose, of which math-verify takes a last number")
    differing = [own for own in differing if own[2].rule != PROSE]
    pairs = Counter(
        (
            row["file"],
            row["answer"][:70],
            str(verdict.extracted_answer)[:70],
            verdict.status,
            verdict.rule,
            equal,
        )
        for row, equal, verdict in differing
    )
    print(f"{len(differing)} rows differ where math-verify finished, {len(pairs)} pairs:")
    for (file, gold, answer, status, rule, equal), count in pairs.most_common():
        print(
            f"  {count:4} {file}: gold {gold!r}, answer {answer!r}: {status} ({rule}), not {equal}"
        )


if __name__ == "__main__":
    main()
