"""What a context of limited length shows of a trace: its start, or all of it in windows.

Under truncation a model sees the early markers of long traces only, so low labels (facts.md 2.1).
`what_is_seen` says how many markers and which labels are left under either choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from progdata.training_refs.encoded_rows import NO_MARKER, EncodedRow

LongRows = Literal["truncate", "windows"]

IGNORED = -100
"""The label of a token outside the loss, as transformers has it."""


@dataclass(frozen=True)
class Window:
    """A stretch of a row that fits the context: the whole prompt, then completion[first:end], of
    which the tokens from `target` on are in the loss."""

    row: EncodedRow
    first: int
    target: int
    end: int

    @property
    def input_ids(self) -> NDArray[np.int32]:
        return np.append(self.row.prompt, self.row.completion[self.first : self.end])

    @property
    def position_ids(self) -> NDArray[np.int64]:
        """The positions in the whole row, so that a later window leaves some out."""
        start = len(self.row.prompt)
        return np.append(np.arange(start), start + np.arange(self.first, self.end))

    @property
    def positions(self) -> int:
        """How many positions a model must have for this window."""
        return len(self.row.prompt) + self.end

    @property
    def labels(self) -> NDArray[np.int64]:
        """The input ids, -100 for those that are no target."""
        labels = self.input_ids.astype(np.int64)
        labels[: len(self.row.prompt) + self.target - self.first] = IGNORED
        return labels

    @property
    def markers(self) -> NDArray[np.int32]:
        """Which marker of the row each token shows the label of; -1 for none."""
        before = np.full(len(self.row.prompt), NO_MARKER, dtype=np.int32)
        return np.append(before, self.row.markers[self.first : self.end])


def cut_windows(row: EncodedRow, context: int, long_rows: LongRows, overlap: int) -> list[Window]:
    """The windows of a row, none where its prompt leaves no room in the context.

    `truncate` keeps the start, in one window. With `windows` every token of the completion is a
    target in exactly one; each but the first shows the `overlap` tokens before its targets too, or
    as many as fill half of the room that the prompt leaves.
    """
    room, tokens = context - len(row.prompt), len(row.completion)
    if room < 1 or not tokens:
        return []
    windows = [Window(row, 0, 0, min(room, tokens))]
    shown = min(overlap, room // 2)  # a long prompt must not leave a window without targets
    while long_rows == "windows" and windows[-1].end < tokens:
        target = windows[-1].end
        end = min(target + room - shown, tokens)
        windows.append(Window(row, target - shown, target, end))
    return windows


def what_is_seen(rows: Sequence[EncodedRow], context: int, overlap: int) -> dict[str, Any]:
    """The report of what a model sees of these rows, under both choices."""
    return {
        choice: _seen_under(rows, context, choice, overlap) for choice in ("truncate", "windows")
    }


def _seen_under(
    rows: Sequence[EncodedRow], context: int, long_rows: LongRows, overlap: int
) -> dict[str, Any]:
    """Counts and labels of the markers whose whole label is a target."""
    seen: list[NDArray[np.int32]] = []
    windows = cut = targets = without = 0
    for row in rows:
        own = cut_windows(row, context, long_rows, overlap)
        end = own[-1].end if own else 0
        windows, targets = windows + len(own), targets + end
        without += not own
        cut += end < len(row.completion)
        beyond = row.markers[end:][row.markers[end:] != NO_MARKER]
        seen.append(row.labels[: beyond[0]] if len(beyond) else row.labels)
    labels = np.concatenate(seen) if seen else np.zeros(0, dtype=np.int32)
    markers = sum(len(row.labels) for row in rows)
    deciles = np.bincount(np.clip(labels, 0, 99) // 10, minlength=10)
    return {
        "windows": windows,
        "target_tokens": targets,
        "rows_without_room": without,
        "rows_cut": cut,
        "markers": markers,
        "markers_seen": len(labels),
        "share_seen": len(labels) / markers if markers else 0.0,
        "mean_label": float(labels.mean()) if len(labels) else None,
        "labels_by_decile": deciles.tolist(),
    }
