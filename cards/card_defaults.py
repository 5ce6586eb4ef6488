"""What a build does where the paper says nothing, and where it does other than the paper.

The paper is "Real-Time Progress Prediction in Reasoning Language Models" (arXiv 2506.23274).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from progdata.cards.card_sources import short_path
from progdata.cards.markdown_text import code, inline, markdown_table

OPEN = "left open"


def defaults_section(lock: Mapping[str, Any]) -> str:
    """The table of settings: their value here, and what the paper says of them."""
    recipe = lock["recipe"]
    rows = [
        *_label_rows(recipe),
        *_segment_rows(recipe, lock),
        *_row_rows(recipe),
    ]
    return markdown_table(["setting", "value here", "in the paper"], [list(row) for row in rows])


def _label_rows(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    variants = recipe["variants"]
    sigmas = sorted({own["sigma"] for own in variants if own["sigma"]})
    if sigmas:
        shown = ", ".join(f"{own:g}" for own in sigmas)
        yield "sigma of the label noise, as a share of the trace", shown, f"{OPEN} (N(0, σ²))"
        clipped = {own["clip"] for own in variants if own["sigma"]}
        yield "noisy labels beyond 0 and 100", _clipping(clipped), OPEN
    yield "rounding of a progress to its label", inline(recipe["markers"]["rounding"]), OPEN
    if any(own["mask_max"] for own in variants):
        masks = ", ".join(
            f"0 to {own:g}" for own in sorted({v["mask_max"] for v in variants} - {0})
        )
        yield (
            "mask",
            f"{masks}: flags in `masked`, drawn once, by a row's place in its split",
            "0 to 0.5 on a cosine, drawn while training; its length is left open",
        )
    yield "marker after the last segment", "yes, it shows 100 % before noise", OPEN


def _segment_rows(
    recipe: Mapping[str, Any], lock: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    own = recipe["segmenter"]
    settings = {"tokens": f"{_tokens(own['tokens'])} each"} if own["tokens"] else {}
    if own["name"] == "sat":
        settings = {"sat": f"{short_path(own['model'])}, threshold {own['threshold']:g}"}
    shown = code(own["name"]) + "".join(f", {inline(text)}" for text in settings.values())
    yield "segmenter", shown, "paragraphs by SaT; its model and threshold are left open"
    yield "shortest segment", _tokens(own["min_tokens"]), OPEN
    yield (
        "tokenizer",
        code(short_path(lock["tokenizer"]["spec"])),
        "that of DeepScaleR-1.5B-Preview",
    )
    joint = recipe["progress"] == "joint"
    yield (
        "tokens of a segment",
        "from one tokenisation of the thinking" if joint else "each segment tokenised by itself",
        f"added up by segment; together or each by itself is {OPEN}",
    )


def _row_rows(recipe: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    splits, policies, verify = recipe["splits"], recipe["policies"], recipe["verify"]
    yield "share of problems in `validation`", f"{100 * splits['validation']:g} %", OPEN
    yield "`ood` begins above", f"{splits['ood_tokens']:,} thinking tokens", "“16K tokens”"
    siblings = "refused" if splits["ood_siblings"] == "reject" else "in `ood` too"
    yield "short traces of a problem that also has a long one", siblings, OPEN
    cut = "refused" if policies["cut_traces"] == "reject" else "kept, without markers"
    yield "traces that were cut off while thinking", cut, OPEN
    marked = "refused" if policies["marked_traces"] == "reject" else "escaped"
    yield "traces that hold marker text already", marked, OPEN
    yield (
        "several traces of a problem",
        "all that the source gives; of a row with several generations the first that is complete "
        "and verified",
        "one a problem for probes; left open for fine-tuning",
    )
    keep = verify["keep"]
    kept = "all" if keep == "all" else ", ".join(code(own) for own in keep)
    yield "verdicts whose rows stay", kept if verify["enabled"] else "all (not graded)", OPEN
    profile = recipe["prompt_profile"]
    shown = code(profile) if isinstance(profile, str) else "of the recipe's own"
    yield "prompt", shown, "that of DeepScaleR-1.5B-Preview"
    yield "seed", f"{recipe['seed']}", OPEN


def _tokens(number: int) -> str:
    return "1 token" if number == 1 else f"{number:,} tokens"


def _clipping(values: set[bool]) -> str:
    if len(values) == 2:
        return "clipped or kept, by variant"
    return "clipped" if True in values else "kept"
