"""Ways to forge one row of a variant table."""

from collections.abc import Callable
from typing import Any

from tampering import Row, remark

from progdata.builders.markers import MarkerGrammar, strip

RowEdit = Callable[[Row, MarkerGrammar], None]
NOT_LAST = 1


def change(**values: Any) -> RowEdit:
    return lambda row, _: row.update(values)


def change_label_column(row: Row, _: MarkerGrammar) -> None:
    row["labels"][NOT_LAST] += 1


def change_label_text(row: Row, grammar: MarkerGrammar) -> None:
    labels = list(row["labels"])
    remark(row, grammar, labels={NOT_LAST: labels[NOT_LAST] + 1})
    row["labels"] = labels


def change_label(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, labels={NOT_LAST: row["labels"][NOT_LAST] + 1})


def change_last_label(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, labels={len(row["labels"]) - 1: 99})


def label_beyond_hundred(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, labels={NOT_LAST: 101})


def move_marker(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, moves={NOT_LAST: 9})


def move_marker_by_a_character(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, moves={NOT_LAST: -1})


def move_marker_into_response(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, moves={len(row["labels"]) - 1: 12})


def move_last_marker_back(row: Row, grammar: MarkerGrammar) -> None:
    remark(row, grammar, moves={len(row["labels"]) - 1: -1})


def move_marker_before_thinking(row: Row, grammar: MarkerGrammar) -> None:
    first = row["label_spans"][0]["start"] - len(grammar.opening)
    remark(row, grammar, moves={0: -first})


def shift_label_span(row: Row, _: MarkerGrammar) -> None:
    row["label_spans"][NOT_LAST] = {
        name: value + 1 for name, value in row["label_spans"][NOT_LAST].items()
    }


def show_one_marker_twice(row: Row, _: MarkerGrammar) -> None:
    row["label_spans"][NOT_LAST] = row["label_spans"][0]


def append_marker(row: Row, grammar: MarkerGrammar) -> None:
    row["completion"] += grammar.render(50)


def append_opening_tag(row: Row, grammar: MarkerGrammar) -> None:
    row["completion"] += grammar.opening


def change_character(row: Row, _: MarkerGrammar) -> None:
    row["completion"] = row["completion"].replace("e", "a", 1)


def change_character_at_the_end(row: Row, _: MarkerGrammar) -> None:
    row["completion"] = row["completion"][:-1] + "\u00e9"


def drop_character_at_the_end(row: Row, _: MarkerGrammar) -> None:
    row["completion"] = row["completion"][:-1]


def merge_segments(row: Row, grammar: MarkerGrammar) -> None:
    """Take one marker out, with all that is said of it."""
    spans = row["label_spans"].pop(NOT_LAST)
    start, end = spans["start"] - len(grammar.opening), spans["end"] + len(grammar.closing)
    row["completion"] = row["completion"][:start] + row["completion"][end:]
    for column in ("labels", "progress", "masked"):
        row[column].pop(NOT_LAST)
    remark(row, grammar)


def unmark(row: Row, grammar: MarkerGrammar) -> None:
    row["completion"] = strip(row["completion"], grammar)
    row.update(labels=[], progress=[], masked=[], label_spans=[])


def nudge_progress(row: Row, _: MarkerGrammar) -> None:
    row["progress"][NOT_LAST] *= 1.0000002  # one step of a float32


def drop_one_item(column: str) -> RowEdit:
    return lambda row, _: row[column].pop() and None


def flip_mask(row: Row, _: MarkerGrammar) -> None:
    row["masked"][NOT_LAST] = not row["masked"][NOT_LAST]


def add_tokens(row: Row, _: MarkerGrammar) -> None:
    row["num_tokens"] += 1
