"""Statistics of several samples of each problem: what `progdata stats --samples` does.

The samples are graded first, into a temporary table (see `verified`); of each the measures stay, a
few dozen bytes whatever its length.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.markers import strip
from progdata.builders.nearest import did_you_mean
from progdata.builders.thinking import CLOSE
from progdata.builders.tokenizer import Counter, find_tokenizer, load_counter
from progdata.cards.plots import check_plot_path, plot_coverage
from progdata.cards.statistics import quantiles
from progdata.releases.lockfile import read_lock
from progdata.releases.observed import answer_of
from progdata.releases.verified import verify_source
from progdata.releases.workspace import LOCK_FILE
from progdata.verifiers.difficulty import find_cut
from progdata.verifiers.majority_votes import DRAWS, majority_at_k
from progdata.verifiers.sample_metrics import (
    BOOTSTRAP_DRAWS,
    CONFIDENCE,
    SAMPLES,
    SEED,
    count_problems,
    default_cutoffs,
    default_ks,
    estimate_mean,
    judge_samples,
    pass_at_k,
    share_by_context,
)
from progdata.verifiers.verdicts import GRADERS

_READ = [
    "problem_id", "model", "completion", "finish_reason", "verdict", "extracted_answer",
]  # fmt: skip

_COLUMNS = pl.Schema({**SAMPLES, "model": pl.String})

_DIGITS = 6
"""Decimals of a number in the report."""


def sample_statistics(
    spec: str,
    *,
    tokenizer: str = "words",
    grader: str = "math-verify",
    ks: Sequence[int] | None = None,
    limit: int | None = None,
    workers: int | None = None,
    plot: str | Path | None = None,
) -> dict[str, Any]:
    """Grade the samples of a source, or of a build whose folder `spec` is; what papers report.

    `docs/samples.md` says what each number means. Lengths are in tokens of `tokenizer`, of the
    completion without the markers of a build. `ks`: of pass@k and maj@k; by default powers of two
    up to the samples that half of the problems have. `plot`: a .png or .svg file for coverage and
    truncation. All shares are in [0, 1], None where nothing can be said.

    Raises UsageError for a wrong option, ProgdataError where the source cannot be read or not one
    of its samples can be decided.
    """
    begun = time.monotonic()
    _check_options(grader, ks)
    if plot is not None:
        check_plot_path(plot)
    found = find_tokenizer(tokenizer)
    unmarked = _without_markers(spec)
    with tempfile.TemporaryDirectory() as folder:
        verified = verify_source(
            spec, grader=grader, out=Path(folder), workers=workers, limit=limit
        )
        counter = load_counter(found.path, False)
        samples = _read_samples(Path(folder) / "verified.parquet", counter, unmarked)
    report = {
        "source": spec,
        "rows": verified["rows"],
        "unreadable": verified["unreadable"],
        **measure_samples(samples, ks, where=spec),
        "tokenizer": {"spec": found.spec, "fingerprint": found.fingerprint},
        **{name: verified[name] for name in ("grader", "budget", "versions")},
    }
    if plot is not None:
        plot_coverage(report, plot)
        report["plot"] = str(plot)
    report["seconds"] = round(time.monotonic() - begun, 3)
    return report


def measure_samples(
    samples: pl.DataFrame, ks: Sequence[int] | None = None, *, where: str = "samples"
) -> dict[str, Any]:
    """All measures of samples (columns as in SAMPLES, and `model`) as plain numbers.

    Raises ProgdataError, naming `where` they are from, where none of them can be decided.
    """
    judged = judge_samples(samples)
    decided = judged.filter(pl.col("passed").is_not_null())
    left_out = _tally(judged["left_out"])
    if not decided.height:
        raise ProgdataError(_nothing_decided(where, left_out))
    counts = count_problems(decided)
    ks = sorted(set(ks)) if ks is not None else default_ks(counts.samples)
    cutoffs = default_cutoffs(decided["tokens"].to_numpy())
    measures = {
        "samples": decided.height,
        "left_out": left_out,
        "cut": decided.height - decided["cut"].null_count(),
        "problems": len(counts.samples),
        "problems_left_out": judged["problem_id"].n_unique() - len(counts.samples),
        "samples_per_problem": quantiles(counts.samples),
        "models": _tally(decided["model"].fill_null("unknown")),
        "accuracy": asdict(estimate_mean(counts.rates)),
        "pass_at_k": [
            {"k": own.k, "problems": own.problems, **asdict(own.estimate)}
            for own in pass_at_k(counts, ks)
        ],
        "majority_at_k": [asdict(own) for own in majority_at_k(decided, ks)],
        "tokens": _lengths(decided),
        "contexts": [asdict(own) for own in share_by_context(decided, cutoffs)],
        "settings": {
            "seed": SEED,
            "confidence": CONFIDENCE,
            "bootstrap_draws": BOOTSTRAP_DRAWS,
            "majority_draws": DRAWS,
        },
    }
    return _rounded(measures)


def _check_options(grader: str, ks: Sequence[int] | None) -> None:
    if grader not in GRADERS:
        hint = did_you_mean(grader, GRADERS)
        raise UsageError(f"unknown grader {grader!r}{hint}; choose from {', '.join(GRADERS)}")
    if ks is not None and (not ks or min(ks) < 1):
        shown = ", ".join(map(str, ks)) or "none"
        raise UsageError(f"k of pass@k and maj@k: found {shown}; expected numbers from 1")


def _without_markers(spec: str) -> Callable[[str], str]:
    """What makes a completion of the source the text that was sampled: a build's have markers."""
    folder = Path(spec)
    if not (folder / LOCK_FILE).is_file():
        return str
    grammar = read_lock(folder).recipe.grammar()
    return lambda text: strip(text, grammar)


def _read_samples(path: Path, counter: Counter, unmarked: Callable[[str], str]) -> pl.DataFrame:
    """The samples of a Parquet table of graded traces (`verified.VERIFIED`), by row group."""
    samples = [pl.DataFrame(schema=_COLUMNS)]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = pl.DataFrame(file.read_row_group(group, columns=_READ))
            samples.append(_measured(rows, counter, unmarked))
    return pl.concat(samples)


def _measured(rows: pl.DataFrame, counter: Counter, unmarked: Callable[[str], str]) -> pl.DataFrame:
    """The columns of _COLUMNS of some graded traces."""
    completions = [unmarked(text) for text in rows["completion"].to_list()]
    answers = map(answer_of, completions, rows["extracted_answer"].to_list())
    closed = pl.col("completion").str.contains(CLOSE, literal=True)
    return rows.with_columns(
        answer=pl.Series(answers, dtype=pl.String, strict=True),
        cut=find_cut(closed, pl.col("finish_reason")),
        tokens=pl.Series(counter.starts(completions).per_text()),
    ).select(pl.col(name).cast(kind) for name, kind in _COLUMNS.items())


def _lengths(decided: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Samples, mean and quantiles of tokens of the correct, the incorrect, and all answers."""
    tokens, passed = decided["tokens"].to_numpy(), decided["passed"].to_numpy()
    groups = {"correct": tokens[passed], "incorrect": tokens[~passed], "all": tokens}
    return {name: {"samples": len(own), **quantiles(own)} for name, own in groups.items()}


def _tally(values: pl.Series) -> dict[str, int]:
    """How often each value stands in a column, by name; nulls are left out."""
    counts = values.drop_nulls().value_counts(name="rows")
    return dict(sorted(counts.iter_rows()))


def _nothing_decided(where: str, left_out: dict[str, int]) -> str:
    why = ", ".join(f"{rows:,} {reason}" for reason, rows in left_out.items()) or "no samples"
    return (
        f"{where}: no sample can be called right or wrong ({why}); "
        "expected rows with a gold answer that can be read, such as a column 'answer'"
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(own) for name, own in value.items()}
    if isinstance(value, list):
        return [_rounded(own) for own in value]
    return round(value, _DIGITS) if isinstance(value, float) else value
