"""The reports of `progdata train sft` and `train grpo` as plain text for a terminal."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import percent, table


def sft_summary(report: Mapping[str, Any]) -> str:
    """What was trained on, what the model saw of it, and the last losses."""
    dropped = sum(report["dropped"].values())
    head = (
        f"{report['model']} on {_data(report['data'])}: {report['rows']:,} rows, {dropped:,} "
        f"dropped, {report['steps']:,} steps ({report['epochs']:.2f} epochs)"
    )
    return "\n\n".join(
        [
            "\n".join([head, *(f"  {why}: {n:,}" for why, n in report["dropped"].items())]),
            _seen(report),
            _losses(report),
        ]
    )


def grpo_summary(report: Mapping[str, Any]) -> str:
    """What was trained on, and how rewards and lengths moved in each stage."""
    left_out = "".join(f", {n:,} {why}" for why, n in report["left_out"].items() if n)
    head = (
        f"{report['model']} on {_data(report['data'])}: {report['prompts']:,} prompts{left_out}, "
        f"{report['seconds']:.0f} s"
    )
    return "\n\n".join([head, *(_stage(n, own) for n, own in enumerate(report["stages"], 1))])


def _data(data: Mapping[str, Any]) -> str:
    return f"{data['name']} ({data['variant']}{', relabelled' if data['relabelled'] else ''})"


def _seen(report: Mapping[str, Any]) -> str:
    """What each way to cut long rows shows of the markers; the one that was used is named."""
    rows = [
        [
            f"{name} (used)" if name == report["long_rows"] else name,
            own["windows"],
            own["rows_cut"],
            own["markers_seen"],
            percent(own["share_seen"] or 0.0),
            _number(own["mean_label"], 1),
        ]
        for name, own in report["seen"].items()
    ]
    return table(["long rows", "windows", "rows cut", "markers seen", "of all", "mean label"], rows)


def _losses(report: Mapping[str, Any]) -> str:
    """The last losses of training and of the evaluation split, nats a token."""
    names = {"plain_loss": "all tokens", "label_loss": "labels", "other_loss": "others"}
    kinds = {"training": ("last", ""), "evaluation": ("evaluation", "eval_")}
    rows = [
        [kind, *(_number(report[part].get(prefix + name), 4) for name in names)]
        for kind, (part, prefix) in kinds.items()
        if report[part]
    ]
    return table(["last losses", *names.values()], rows)


def _stage(number: int, stage: Mapping[str, Any]) -> str:
    """Means over the first and the last steps of a stage."""
    rows = [
        [name.removesuffix("/mean"), _number(value, 4), _number(stage["last"][name], 4)]
        for name, value in stage["first"].items()
    ]
    title = f"stage {number}, up to {stage['context']:,} tokens, {stage['steps']:,} steps"
    return table([title, "first steps", "last steps"], rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
