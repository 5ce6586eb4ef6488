"""Measure the problems of a source by their traces, and select: what `progdata curate` does.

The traces are graded first, into a temporary table (see `verified`); measuring and selecting keep
a few hundred bytes a trace, whatever its length.
"""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from progdata.builders.atomic import TEMPORARY, write_text
from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.builders.tokenizer import find_tokenizer, load_counter
from progdata.cards.problem_statistics import describe_problems
from progdata.releases.curated_files import (
    refused_rows,
    write_dropped,
    write_problems,
    write_traces,
)
from progdata.releases.observed import Observed, observe
from progdata.releases.outputs import refuse_out
from progdata.releases.verified import find_traces, verify_source
from progdata.verifiers.difficulty import add_labels, majority, measure
from progdata.verifiers.grading import Budget
from progdata.verifiers.selection import CurateSettings, Selection, select
from progdata.verifiers.strata import add_bins
from progdata.verifiers.verdicts import GRADERS

FILES = ("curated.parquet", "problems.parquet", "dropped.jsonl", "curate.json")


def curate_source(
    spec: str,
    *,
    settings: CurateSettings = CurateSettings(),  # noqa: B008, frozen
    out: Path | None = None,
    grader: str = "math-verify",
    tokenizer: str = "words",
    workers: int | None = None,
    budget: Budget = Budget(),  # noqa: B008, frozen
    limit: int | None = None,
) -> dict[str, Any]:
    """Grade the traces of a source, measure its problems, and select by `settings`; the report.

    Lengths are in tokens of `tokenizer`. With `out`, the kept traces with their measures go to
    `curated.parquet` (itself a source), each problem's measures to `problems.parquet`, each row
    that was dropped or could not be read, with step, reason and evidence, to `dropped.jsonl`, and
    the report to `curate.json`. Raises UsageError or ProgdataError where the source cannot be read,
    or `out` would replace it.
    """
    begun = time.monotonic()
    if grader not in GRADERS:
        hint = did_you_mean(grader, GRADERS)
        raise UsageError(f"unknown grader {grader!r}{hint}; choose from {', '.join(GRADERS)}")
    source = find_traces(spec)
    found = find_tokenizer(tokenizer)
    refuse_out(out, FILES, source)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=out) as folder:
        graded = Path(folder) / "verified.parquet"
        verified = verify_source(
            spec, grader=grader, out=graded.parent, workers=workers, budget=budget, limit=limit
        )
        observed = observe(graded, load_counter(found.path, False))
        problems = measure_problems(observed, settings)
        selection = select(observed.traces, problems, settings)
        report = {
            "source": spec,
            **_counts(verified, observed, selection),
            "settings": asdict(settings),
            "tokenizer": {"spec": found.spec, "fingerprint": found.fingerprint},
            "problems": describe_problems(problems),
            **{name: verified[name] for name in ("grader", "verdicts", "budget", "versions")},
        }
        if out is not None:
            write_traces(out / "curated.parquet", graded, observed, problems, selection)
            write_problems(out / "problems.parquet", observed, problems, selection)
            unreadable = refused_rows(source, limit) if report["unreadable"] else iter(())
            write_dropped(out / "dropped.jsonl", unreadable, observed, selection)
    report["seconds"] = round(time.monotonic() - begun, 3)
    if out is not None:
        report["out"] = str(out)
        write_text(out / "curate.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return report


def measure_problems(observed: Observed, settings: CurateSettings) -> pl.DataFrame:
    """The problems with all their measures, labels and bins, in order of `problem_id`."""
    traces, cut_traces = observed.traces, settings.cut_traces
    problems = add_bins(measure(traces, cut_traces), settings.length_of, settings.stratify)
    voted = majority(traces, cut_traces)
    return add_labels(
        observed.problems.join(problems, on="problem_id", maintain_order="left")
        .join(voted, on="problem_id", how="left", maintain_order="left")
    )  # fmt: skip


def _counts(verified: dict[str, Any], observed: Observed, selection: Selection) -> dict[str, Any]:
    """Rows in, kept, dropped and unreadable, and the funnel; rows in are the sum of the others."""
    rows, readable = verified["rows"], observed.traces.height
    read = {
        "step": "read",
        "rows_in": rows,
        "rows_out": readable,
        "problems_out": observed.problems.height,
        "dropped": verified["unreadable"],
    }
    return {
        "rows_in": rows,
        "kept": len(selection.kept),
        "dropped": selection.dropped.height,
        "unreadable": rows - readable,
        "funnel": [read, *selection.funnel],
    }
