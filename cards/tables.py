"""Reports as plain text for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header, in columns; numbers to the right."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    right = [bool(rows) and not isinstance(rows[0][i], str) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def build_summary(report: Mapping[str, Any], out: Path, seconds: float) -> str:
    """What `progdata build` prints."""
    return "\n".join(
        [
            f"{report['rows_in']:,} rows in, {report['rows_out']:,} out, "
            f"{report['rows_rejected']:,} rejected, {seconds:.1f} s",
            *_rejects(report),
            *_verdicts(report.get("verify")),
            "",
            stats_summary(report),
            "",
            f'{out}: load_dataset("{out}", "{next(iter(report["variants"]))}")',
        ]
    )


def stats_summary(report: Mapping[str, Any]) -> str:
    """What `progdata stats` prints."""
    lengths = [
        [name, *(_number(values.get(key)) for key in ("mean", "p5", "p50", "p95", "p100"))]
        for name, values in (
            ("tokens a trace", report["tokens_per_trace"]),
            ("segments a trace", report["segments_per_trace"]),
        )
    ]
    blocks = [table(["", "mean", "p5", "median", "p95", "most"], lengths)]
    if "splits" in report:
        blocks.append(table(["split", "rows"], list(report["splits"].items())))
    variants = report.get("variants", {})
    if variants:
        contexts = next(iter(variants.values()))["contexts"]
        blocks.append(
            table(
                ["variant", "markers", "masked", *(f"seen at {int(c):,} tokens" for c in contexts)],
                [
                    [
                        name,
                        own["markers"],
                        own["masked"],
                        *(percent(own["contexts"][c]["markers"]) for c in contexts),
                    ]
                    for name, own in variants.items()
                ],
            )
        )
        blocks.append(_label_block(variants))
    return "\n\n".join(blocks)


def segment_summary(report: Mapping[str, Any]) -> str:
    """What `progdata segment` prints."""
    lines = [
        f"{report['rows_in']:,} rows in, {report['rows_out']:,} segmented, "
        f"{report['rows_rejected']:,} rejected",
        *_rejects(report),
        "",
        stats_summary(report),
    ]
    for shown in report.get("shown", []):
        lines += ["", f"trace {shown['trace_id']}: {shown['num_tokens']:,} tokens"]
        lines += [
            f"{piece['percent']:>4}%  {piece['tokens']:>6} tokens  {repr(piece['text'])[:100]}"
            for piece in shown["segments"]
        ]
    if report.get("out"):
        lines += ["", f"{report['out']}: the base table"]
    return "\n".join(lines)


def _label_block(variants: Mapping[str, Any]) -> str:
    """The share of labels in each tenth of the range."""
    bounds = [(low, low + 10 if low < 90 else 101) for low in range(0, 100, 10)]
    header = ["labels", *(f"{low}-{min(high - 1, 100)}" for low, high in bounds)]
    rows = [
        [
            name,
            *(
                percent(sum(own["label_histogram"][low:high]) / max(own["markers"], 1))
                for low, high in bounds
            ),
        ]
        for name, own in variants.items()
    ]
    return table(header, rows)


def _verdicts(verify: Mapping[str, Any] | None) -> list[str]:
    if verify is None:
        return []
    counts = ", ".join(f"{rows:,} {name}" for name, rows in verify["verdicts"].items())
    return [f"  answers by {verify['grader']}: {counts}"] if counts else []


def _rejects(report: Mapping[str, Any]) -> list[str]:
    return [
        f"  {stage}: {reason}: {rows:,}"
        for stage, reasons in report["rejected"].items()
        for reason, rows in reasons.items()
    ]


class _Right(float):
    """A share, shown in percent."""


def percent(share: float | None) -> _Right:
    """A share as a cell that shows percent; a dash for None."""
    return _Right("nan" if share is None else share)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _cell(value: Any) -> str:
    if isinstance(value, _Right):
        return "-" if value != value else f"{100 * value:.1f}%"
    if isinstance(value, float):
        return "-" if value != value else f"{value:,.1f}".removesuffix(".0")
    return f"{value:,}" if isinstance(value, int) else str(value)
