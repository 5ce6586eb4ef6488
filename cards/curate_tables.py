"""The report of `progdata curate` as plain text for a terminal."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import percent, table


def curate_summary(report: Mapping[str, Any]) -> str:
    """What `progdata curate` prints: the funnel, the strata drawn from, the problems' measures."""
    problems = report["problems"]
    blocks = [
        f"{report['rows_in']:,} rows in: {report['kept']:,} kept, {report['dropped']:,} dropped, "
        f"{report['unreadable']:,} unreadable; {problems['count']:,} problems; "
        f"{report['seconds']:.1f} s",
        funnel_table(report["funnel"]),
        *_strata(report["funnel"]),
        _pass_rates(problems["pass_rate"]),
        _measures(problems),
        _labels(problems["label_source"]),
    ]
    if "out" in report:
        blocks.append(
            f"{report['out']}: curated.parquet, problems.parquet, dropped.jsonl, curate.json"
        )
    return "\n\n".join(block for block in blocks if block)


def funnel_table(funnel: list[Mapping[str, Any]]) -> str:
    """Rows and problems left after each step, and why the others left."""
    rows_in = funnel[0]["rows_in"]
    rows = [
        [
            own["step"],
            own["rows_in"] - own["rows_out"],
            own["rows_out"],
            percent(own["rows_out"] / rows_in if rows_in else None),
            own["problems_out"],
            ", ".join(f"{count:,} {reason}" for reason, count in own["dropped"].items()),
        ]
        for own in funnel
    ]
    return table(["step", "dropped", "rows left", "of all", "problems left", "why"], rows)


def _strata(funnel: list[Mapping[str, Any]]) -> list[str]:
    return [
        table(
            ["stratum", "problems", "drawn"],
            [[one["stratum"], one["problems"], one["drawn"]] for one in own["strata"]],
        )
        for own in funnel
        if "strata" in own
    ]


def _pass_rates(pass_rate: Mapping[str, Any]) -> str:
    ranges = [(name, count) for name, count in pass_rate["ranges"].items()]
    return table(["pass rate", "problems"], ranges)


def _measures(problems: Mapping[str, Any]) -> str:
    names = {
        "pass_rate_cv": "variation over models",
        "majority_share": "majority's share",
        "finished_share": "finished share",
        "mean_tokens": "mean thinking tokens",
        "problem_tokens": "problem's tokens",
    }
    rows = [
        [shown, *(_number(problems[name].get(key)) for key in ("mean", "p5", "p50", "p95"))]
        for name, shown in names.items()
        if problems.get(name)
    ]
    return table(["over problems", "mean", "p5", "median", "p95"], rows) if rows else ""


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _labels(sources: Mapping[str, int]) -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in sources.items())
    return f"labels from: {counts}" if counts else ""
