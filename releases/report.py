"""`reports/build.json`: what a build took in, gave out and refused, and how its labels lie."""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from progdata.builders.splits import SPLITS
from progdata.cards.statistics import accuracy_of, add_tallies, quantiles, survival
from progdata.releases.lockfile import TokenizerRecord
from progdata.releases.plan import Plan
from progdata.releases.recipe import Recipe
from progdata.releases.rejects import Rejected

STAGES = ("read", "think", "progress", "verify", "duplicates", "contamination", "curate", "splits")
"""The stages that can refuse a row, in order (law 4: rows in = rows out + rejected)."""


def make_report(
    recipe: Recipe,
    plan: Plan,
    summaries: Sequence[Mapping[str, Any]],
    rejected: Rejected,
    tallies: Mapping[str, Mapping[str, Any]],
    tokenizer: TokenizerRecord,
) -> dict[str, Any]:
    """The report of a build; `docs/reports.md` says what each field means."""
    kept = plan.split >= 0
    rows_in = sum(summary["rows_in"] for summary in summaries)
    return {
        "name": recipe.name,
        "rows_in": rows_in,
        "rows_out": int(kept.sum()),
        "rows_rejected": sum(sum(reasons.values()) for reasons in rejected.values()),
        "rejected": rejected,
        "stages": _stages(rows_in, rejected),
        "splits": {
            split: int((plan.split == number).sum())
            for number, split in enumerate(SPLITS)
            if (plan.split == number).any()
        },
        "problems": len(np.unique(plan.index.problem_id[kept])),
        "tokens": int(plan.index.num_tokens[kept].sum()),
        "tokens_per_trace": quantiles(plan.index.num_tokens[kept]),
        "segments_per_trace": quantiles(plan.index.num_segments[kept]),
        "tokenizer": tokenizer.model_dump(),
        "segmenter": recipe.segmenter.model_dump(),
        "progress": {"mode": recipe.progress, "sample": _sample(summaries)},
        "verify": _verify(recipe, summaries),
        "contamination": plan.leaked.report if plan.leaked else None,
        "curate": plan.curated.report if plan.curated else None,
        "variants": {
            variant.name: {
                "settings": variant.model_dump(exclude={"name"}),
                **_variant_report(tallies[variant.name]),
            }
            for variant in recipe.variants
        },
    }


def _stages(rows_in: int, rejected: Rejected) -> list[dict[str, Any]]:
    """Rows into and out of each stage."""
    stages = []
    for stage in STAGES:
        reasons = rejected.get(stage, {})
        rows_out = rows_in - sum(reasons.values())
        stages.append(
            {"stage": stage, "rows_in": rows_in, "rows_out": rows_out, "rejected": reasons}
        )
        rows_in = rows_out
    return stages


def _verify(recipe: Recipe, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the verify stage found on the rows that came to it; None where it is off."""
    if not recipe.verify.enabled:
        return None
    verdicts = sum((Tally(summary["verdicts"]) for summary in summaries), Tally())
    return recipe.verify.model_dump(exclude={"enabled"}) | accuracy_of(verdicts)


def _sample(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How far labels by segment-sum are from joint ones, over the sampled traces of all shards."""
    found = [summary["sample"] for summary in summaries if summary["sample"]]
    if not found:
        return {"traces": 0}
    total = reduce(add_tallies, found)
    labels = max(total["labels"], 1)
    return {
        "traces": total["traces"],
        "labels": total["labels"],
        "labels_touched": round(total["labels_touched"] / labels, 4),
        "mean_points": round(total["points"] / labels, 4),
        "max_points": max(own["max_points"] for own in found),
        "extra_tokens": round(total["segment_sum_tokens"] / max(total["joint_tokens"], 1) - 1, 4),
    }


def _variant_report(by_split: Mapping[str, Any]) -> dict[str, Any]:
    """The label histogram of a variant, and what training contexts show of it, over all splits."""
    total = reduce(add_tallies, by_split.values())
    return {
        "rows": {split: tally["rows"] for split, tally in by_split.items()},
        "markers": total["markers"],
        "masked": total["masked"],
        "labels_out_of_range": total["out_of_range"],
        "label_histogram": total["labels"],
        "contexts": survival(total),
    }
