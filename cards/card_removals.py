"""How the answers of a build were checked, and what was taken out of it, on its card."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from progdata.cards.card_sources import describe_source, short_path
from progdata.cards.markdown_text import code, inline, markdown_table

MATCHES = 10
"""Matches with benchmarks that the card shows; the report has all."""

_EXCERPT = 160


def answers_section(lock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """By what answers were graded, the verdicts, and which rows stayed."""
    verify = report["verify"]
    if not verify:
        return (
            "They were not checked: the recipe says `verify: off`. `verdict` is null in every row."
        )
    keep = verify["keep"]
    kept = "all" if keep == "all" else ", ".join(code(own) for own in keep)
    total = max(sum(verify["verdicts"].values()), 1)
    rows = [
        [code(name), f"{count:,}", f"{100 * count / total:.1f} %"]
        for name, count in verify["verdicts"].items()
    ]
    share = verify["accuracy"]
    accuracy = "not known" if share is None else f"{100 * share:.1f} %"
    versions = ", ".join(
        f"{name} {lock['versions'][name]}" for name in ("math-verify", "sympy")
        if name in lock["versions"]
    )  # fmt: skip
    lines = [
        f"The answer after the last `</think>` was graded against the gold answer by "
        f"{code(verify['grader'])} ({inline(versions)}), each in a process with "
        f"{verify['cpu_seconds']:g} CPU seconds and {verify['memory_mb']:,} MB. "
        f"Verdicts whose rows stay: {kept}.",
        "",
        f"Accuracy: {accuracy} of the {verify['decided']:,} answers that are correct, wrong or "
        "missing. `gold_unparsable`, `timeout`, `error` and `ungraded` (no gold) say nothing of "
        "the answer and are not counted.",
    ]
    if rows:
        lines += ["", markdown_table(["verdict", "rows that came to it", "share"], rows)]
    return "\n".join(lines)


def refused_section(report: Mapping[str, Any]) -> str:
    """Rows by the stage and the reason for which they are not here."""
    rows = [
        [code(stage), code(reason), f"{count:,}"]
        for stage, reasons in report["rejected"].items()
        for reason, count in reasons.items()
    ]
    if not rows:
        return f"Nothing: all {report['rows_in']:,} rows are here."
    lines = [
        f"{report['rows_rejected']:,} of {report['rows_in']:,} rows; each is in `rejects.parquet` "
        "with its reason and the evidence.",
        "",
        markdown_table(["stage", "reason", "rows"], rows),
    ]
    if report["curate"]:
        lines += ["", *_funnel(report["curate"]["funnel"])]
    return "\n".join(lines)


def duplicates_section(report: Mapping[str, Any]) -> str:
    """Which repetitions were taken out, and which were not looked for."""
    found = sum(report["rejected"].get("duplicates", {}).values())
    removed = f"{found:,} such rows were" if found != 1 else "1 such row was"
    return (
        "A trace that stands there twice (the same problem, completion and model, character for "
        f"character) is kept once: {removed} removed. Several traces of one problem stay, all in "
        "one split. No duplicates were looked for across problems: two wordings of one problem "
        "count as two, and may stand in different splits."
    )


def contamination_section(lock: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Against which revisions of which benchmarks the problems were held, and what was found."""
    own = report["contamination"]
    if own is None:
        return (
            "The problems were not held against any benchmark. Before you measure on one, see "
            "`progdata decontaminate`."
        )
    left = "They were removed." if own["action"] == "remove" else "They are still in it."
    lines = [
        f"Every problem was held against the benchmarks below by the rule {code(own['profile'])}: "
        f"{own['flagged']:,} of {own['rows']:,} rows ({own['problems_flagged']:,} problems) hold "
        f"text of one. {left if own['flagged'] else 'Nothing was removed.'} Rewordings that share "
        "no text are not found by this.",
        "",
        markdown_table(
            ["benchmark", "which exactly", "items", "rows flagged"],
            [
                [
                    code(short_path(name)),
                    "; ".join(describe_source(benchmark["source"])),
                    f"{benchmark['items']:,}",
                    f"{own['by_benchmark'].get(name, 0):,}",
                ]
                for name, benchmark in lock["benchmarks"].items()
            ],
        ),
    ]
    return "\n".join([*lines, *_matches(own["matches"])])


def _matches(matches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The first matches, both texts side by side."""
    if not matches:
        return
    yield ""
    yield (
        f"The first {min(MATCHES, len(matches))} of {len(matches):,} matches, in the form in which "
        "texts are compared; `reports/build.json` has all."
    )
    yield ""
    yield markdown_table(
        ["benchmark", "reason", "score", "the dataset says", "the benchmark says"],
        [
            [
                f"{code(short_path(match['benchmark']))} row {match['benchmark_row']}",
                inline(match["reason"]),
                inline(f"{match['score']}"),
                inline(match["row_text"], _EXCERPT),
                inline(match["item_text"], _EXCERPT),
            ]
            for match in matches[:MATCHES]
        ],
    )


def _funnel(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [code(own["step"]), f"{own['rows_in']:,}", f"{own['rows_out']:,}",
         f"{own['problems_out']:,}"]
        for own in steps
    ]  # fmt: skip
    header = ["step", "rows before", "rows left", "problems left"]
    return ["Selected by difficulty:", "", markdown_table(header, rows)]
