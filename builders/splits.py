"""Splits by problem: train, validation, and `ood` for thinking over 16K tokens (paper 000, §4).

A problem stands in one split alone. Several samples of one problem may be short and long: then
the problem belongs to `ood`, and its short traces are refused, or join `ood` if the recipe says.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "ood")

OOD_TOKENS = 16_384
"""16K tokens. The paper says 16K and 16,000; the power of two is our reading."""


@dataclass(frozen=True)
class SplitRule:
    """The share of problems in `validation`, and what makes a trace out of distribution."""

    validation: float = 0.05
    ood_tokens: int = OOD_TOKENS
    ood_siblings: Literal["reject", "ood"] = "reject"


def assign_splits(
    problem_ids: NDArray[np.bytes_], num_tokens: NDArray[np.int64], rule: SplitRule
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The split of each trace, as an index into SPLITS, and which traces are refused.

    `problem_ids`: S16[traces], the ids as bytes; `num_tokens`: int64[traces]. A refused trace is
    a short one of a problem that has a long one.
    """
    long = num_tokens > rule.ood_tokens
    sibling = np.isin(problem_ids, np.unique(problem_ids[long])) & ~long
    heads = problem_ids.view(np.uint8).reshape(-1, 16)[:, :4].copy().view(">u4").ravel()
    split = (heads / 2.0**32 < rule.validation).astype(np.int8)
    split[long | sibling] = SPLITS.index("ood")
    return split, sibling if rule.ood_siblings == "reject" else np.zeros_like(sibling)
