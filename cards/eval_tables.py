"""The report of `progdata eval` as plain text for a terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from progdata.cards.tables import percent, table

PREDICTORS = {
    "random": "uniform random",
    "constant": "constant 50 %",
    "mean_length": "position / mean length",
    "survival": "position, survival curve",
    "previous": "previous prediction",
}
"""The baselines as tables and plots name them."""

_KINDS = {"raw": "model, raw", "clip": "model, clipped", "filtered": "model, up to 100 %"}


def eval_summary(report: Mapping[str, Any]) -> str:
    """Counts, errors beside the baselines, table 3, the course along the thinking, and what was
    compared besides."""
    blocks = [own(report) for own in (_counts, _errors, _before_end, _cells, _along)]
    if report["compared"]:
        blocks.append(_compared(report))
    if report["dispersion"] is not None:
        blocks.append(_dispersion(report["dispersion"]))
    if "plot" in report:
        blocks.append(f"{report['plot']}: predicted against true progress")
    return "\n\n".join(blocks)


def _counts(report: Mapping[str, Any]) -> str:
    """What was read and left out, how often progress is reported, the accuracy."""
    traces, markers, reports = report["traces"], report["markers"], report["reports"]
    left_out, unreadable = traces["left_out"], report["unreadable"]
    each, spacing = reports["per_trace"], reports["spacing_tokens"]
    unit = Path(report["tokenizer"]["spec"]).name
    lines = [
        f"{report['rows']:,} rows: {markers['scored']:,} markers in {traces['with_markers']:,} "
        f"traces of {report['progress']['problems']:,} problems scored, {report['seconds']:.1f} s",
        *(f"  left out: {why}: {n:,}" for why, n in left_out.items()),
        *(f"  unreadable: {why}: {n:,}" for why, n in unreadable.items()),
        f"markers not scored: {markers['outside']:,} after the thinking, "
        f"{markers['in_traces_left_out']:,} in traces left out; {markers['malformed']:,} malformed",
        f"finished traces without a marker: {traces['without_markers']:,} of "
        f"{traces['finished']:,}; markers a trace: mean {_number(each['mean'])}, median "
        f"{_number(each['p50'])}",
        f"tokens between markers ({unit}): mean {_number(spacing['mean'])}, median "
        f"{_number(spacing['p50'])}, p95 {_number(spacing['p95'])}",
    ]
    accuracy = report["accuracy"]
    if accuracy["mean"] is not None:
        lines.append(
            f"accuracy: {100 * accuracy['mean']:.1f}%{_between(accuracy)} (mean over "
            f"problems, by {report['settings']['grader']})"
        )
    if len(traces["models"]) > 1:
        models = ", ".join(f"{name} ({rows:,})" for name, rows in traces["models"].items())
        lines.append(f"traces of several models as if of one: {models}")
    return "\n".join(lines)


def _errors(report: Mapping[str, Any]) -> str:
    """The model's MAE and each baseline's, with intervals, and the difference."""
    progress = report["progress"]
    shares = ", ".join(
        f"{name} {_share(progress[key])}"
        for key, name in (("share_over_100", "above 100 %"), ("share_below_0", "below 0 %"))
    )
    falls = _share({"micro": progress["non_monotone"]})
    known = report["lengths"]
    source = known["source"] or "the other problems of the same traces"
    return "\n".join(
        [
            _predictors(report, progress, "predictor"),
            f"MAE: mean over traces; model minus it: clipped. Predictions {shares}; below the one "
            f"before {falls}",
            f"lengths of the position baselines: {known['traces']:,} of {source}",
        ]
    )


def _before_end(report: Mapping[str, Any]) -> str:
    """The same without the markers right before `</think>`, whose labels say that it comes."""
    own = report["progress"]["before_end"]
    last = report["progress"]["markers"] - own["markers"]
    return (
        f"{_predictors(report, own, 'before the last token')}\n"
        f"without the {last:,} markers at the end of the thinking, where the truth is 100 %: "
        f"{own['markers']:,} in {own['traces']:,} traces"
    )


def _predictors(report: Mapping[str, Any], progress: Mapping[str, Any], title: str) -> str:
    rows = [[name, *_estimate(progress["mae"][kind]), "", ""] for kind, name in _KINDS.items()]
    for kind, name in PREDICTORS.items():
        own = progress["baselines"][kind]
        minus = own["difference"]["clip"]["macro"]
        rows.append([name, *_estimate(own["mae"]), _error(minus["mean"]), _range(minus)])
    confidence = f"{100 * report['settings']['confidence']:g} % interval"
    header = [title, "MAE", confidence, "over markers", "model minus it", "interval"]
    return table(header, rows)


def _cells(report: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{own['length']} tokens",
            own["verdict"],
            own["traces"],
            own["markers"],
            *(_error(own["mae"][kind]["macro"]["mean"]) for kind in ("raw", "clip")),
            percent(own["share_over_100"]["micro"]["mean"]),
            *(_error(own["baselines"][kind]["mae"]["macro"]["mean"]) for kind in PREDICTORS),
        ]
        for own in report["progress"]["cells"]
        if own["markers"]
    ]
    header = ["thinking", "answer", "traces", "markers", "raw", "clip", "> 100 %",
              "random", "constant", "mean length", "survival", "previous"]  # fmt: skip
    return table(header, rows)


def _along(report: Mapping[str, Any]) -> str:
    rows = [
        [
            _span(own),
            own["markers"],
            percent(own["predicted"]["mean"]),
            percent(own["predicted"]["p25"]),
            percent(own["predicted"]["p75"]),
            _error(own["mae"]["macro"]["mean"]),
            percent(own["non_monotone"]["mean"]),
        ]
        for own in report["progress"]["along"]
    ]
    header = ["progress", "markers", "predicted", "p25", "p75", "MAE, clip", "non-monotone"]
    return table(header, rows)


def _compared(report: Mapping[str, Any]) -> str:
    """Other predictions of the same positions, and the model's there; the last row of each is of
    thinkings in domain (table 5)."""
    rows = []
    for name, own in report["compared"].items():
        for kind, words in (("raw", "raw"), ("clip", "clipped"), ("filtered", "up to 100 %")):
            rows.append([name, words, *_sides(own, kind)])
        rows.append([name, "clipped, in domain", *_sides(own["in_domain"], "clip")])
    header = ["compared", "MAE", "positions", "its", "model's", "model minus it", "interval"]
    none = ", ".join(f"{name} {own['none']:,}" for name, own in report["compared"].items())
    return (
        f"{table(header, rows)}\nin domain: thinking of at most "
        f"{report['settings']['long_tokens']:,} tokens; positions without its prediction: {none}"
    )


def _sides(own: Mapping[str, Any], kind: str) -> list[Any]:
    """The MAE of both on the same positions, and their difference."""
    minus = own["difference"][kind]["macro"]
    return [
        own["filtered"] if kind == "filtered" else own["positions"],
        _error(own["other"][kind]["macro"]["mean"]),
        _error(own["model"][kind]["macro"]["mean"]),
        _error(minus["mean"]),
        _range(minus),
    ]


def _dispersion(found: Mapping[str, Any]) -> str:
    rows = [
        [
            _span(own),
            own["prefixes"],
            *(percent(own[key]["mean"]) for key in ("mad", "mapd")),
        ]
        for own in found["by_position"]
    ]
    rows.append(
        ["all", found["prefixes"], *(percent(found[key]["mean"]) for key in ("mad", "mapd"))]
    )
    left_out = found["prefixes_left_out"]
    return "\n".join(
        [
            f"dispersion over {found['rollouts']:,} rollouts of {found['traces']:,} traces: "
            f"{found['unfinished']:,} did not finish thinking, {left_out:,} prefixes left out",
            table(["progress", "prefixes", "MAD", "MAPD"], rows),
        ]
    )


def _estimate(both: Mapping[str, Any]) -> list[str]:
    return [_error(both["macro"]["mean"]), _range(both["macro"]), _error(both["micro"]["mean"])]


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(both: Mapping[str, Any]) -> str:
    value = both["micro"]["mean"]
    return "-" if value is None else f"{100 * value:.1f}%"


def _range(estimate: Mapping[str, Any]) -> str:
    if estimate["low"] is None:
        return "-"
    return f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _between(estimate: Mapping[str, Any]) -> str:
    """The interval of a share, in percent; nothing where there is none."""
    if estimate["low"] is None:
        return ""
    return f", interval {100 * estimate['low']:.1f}% to {100 * estimate['high']:.1f}%"


def _span(own: Mapping[str, Any]) -> str:
    return f"{100 * own['from']:.0f}-{100 * own['to']:.0f}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}".removesuffix(".0")
