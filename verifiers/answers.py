r"""Find the final answer in what a model wrote, in one pass, whatever it wrote.

Only what stands after the last `</think>` counts. The answer is the last complete `\boxed{}`;
where there is none, the graders look for one in the text (see `math_verify_grader`).
"""

import re
from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple

from progdata.builders.thinking import CLOSE, OPEN

Extraction = Literal["boxed", "list of boxes", "answer is"]


@dataclass(frozen=True, slots=True)
class Answer:
    r"""An answer found in a text: `text` is the slice `start:end` of it.

    `latex` is what it says: the content of the box, or of each box of a list, with commas between,
    with `\%` at its end where a percent sign or word stands behind the box; words in `\text{}`.
    """

    text: str
    start: int
    end: int
    latex: str
    extraction: Extraction


class Box(NamedTuple):
    r"""A complete `\boxed{}`: where its command begins, its content's span, and the span of what
    it says, which is its content or that of the one box in it."""

    start: int
    inner_start: int
    inner_end: int
    says_start: int
    says_end: int

    @property
    def end(self) -> int:
        return self.inner_end + 1


_BRACES = re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,9}\{|\\.|[{}]", re.DOTALL)

_DELIMITER = r"\$\$?|\\[()\[\]]"
_SPACE = rf"\s|~|\\[,;:! ]|\\q?quad(?![A-Za-z])|{_DELIMITER}|\*\*"
_WORDY = (
    r"\\(?:text|textbf|textrm|mbox|mathrm)\s?\{[^{}]{0,60}?(?:\b(?:and|or)\b|[,;])[^{}]{0,60}\}"
)
_SEPARATOR = rf"[,;&]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|{_WORDY}"
_NAMED = r"[A-Za-z](?:_(?:\w|\{\w{1,9}\}))?(?:\(\w\))?(?:\s)?="
_BETWEEN = re.compile(
    rf"(?:{_SPACE})*+(?:(?:{_SEPARATOR})(?:{_SPACE})*+){{1,3}}(?:{_NAMED}(?:{_SPACE})*+)?"
)
_NOTHING = re.compile(r"(?:[ \t]|\\[,;:! ]|\\q?quad(?![A-Za-z]))*")
_PERCENT = re.compile(rf"\s{{0,9}}(?:{_DELIMITER})?\s{{0,9}}(?:\\?%|(?:percent(?:age)?|pct)\b)")

_BETWEEN_CHARS = 70
"""Boxes further apart than this are never one list (as in math-verify)."""

_SAID = re.compile(
    r"(?i:\banswer[*_]{0,2}(?:\s+is\b|\s?:))[\s:*_(\[$]{0,9}(?:\\text\w{0,6}\{\(?)?"
    r"(?i:(?:option|choice|letter)[\s*_(\[$]{1,5})?"
    r"([A-J](?=\W{1,4}(?:because|since|as|which)\b)|[A-Za-z][A-Za-z ,'\u2019-]{0,80})"
)
_SAID_AFTER = re.compile(r"(?i:final answer is)[^\n]{1,200}I hope")
"""Minerva's closing sentence: where it stands after every box, the answer is in it."""


def response_start(completion: str, *, thinks: bool = False) -> int | None:
    """Where the response begins: after the last `</think>`. None where there is no response.

    A completion with `<think>` and no `</think>` was cut off while thinking. One with neither is
    all response, unless `thinks` says that the model thinks: then it was cut off as well.

    >>> response_start("<think>a</think>b")
    16
    """
    closed = completion.rfind(CLOSE)
    if closed >= 0:
        return closed + len(CLOSE)
    return None if thinks or OPEN in completion else 0


def find_answer(text: str, start: int = 0) -> Answer | None:
    r"""The last complete box from `start` that holds something, with the boxes it is a list with.

    Boxes are one list where nothing but a separator stands between them: a comma, a semicolon,
    "and", "or", spacing, math delimiters, a name such as `y_2 =`. Equal neighbours count once.

    >>> find_answer(r"It is $\boxed{\frac{1}{2}}$.").text
    '\\frac{1}{2}'
    >>> find_answer(r"\boxed{3} and \boxed{4}").latex
    '3,4'
    >>> find_answer(r"First \boxed{3}. No: \boxed{4}").latex
    '4'
    """
    boxes = find_boxes(text, start)
    while boxes and not _says(text, boxes[-1]):
        boxes.pop()
    if not boxes or _SAID_AFTER.search(text, boxes[-1].end):
        return None
    run = [boxes.pop()]
    while boxes and _is_list(text[boxes[-1].end : run[-1].start]):
        run.append(boxes.pop())
    said = [says for says in (_says(text, box) for box in reversed(run)) if says]
    distinct = [own for i, own in enumerate(said) if i == 0 or own != said[i - 1]]
    percent = r"\%" if _percent_follows(text, run[0], distinct[-1]) else ""
    latex = ",".join(distinct) + percent
    if len(distinct) > 1:
        begin, end = run[-1].start, run[0].end
        return Answer(text[begin:end], begin, end, latex, "list of boxes")
    begin = text.index(distinct[0], run[0].says_start)
    return Answer(distinct[0], begin, begin + len(distinct[0]), latex, "boxed")


def find_said(text: str, start: int = 0) -> Answer | None:
    """The words that the last "the answer is" or "answer:" is followed by, for a gold that is a
    letter or words.

    >>> find_said("So the answer is (D).").text
    'D'
    """
    said = next(iter(deque(_SAID.finditer(text, start), maxlen=1)), None)
    if said is None:
        return None
    words = said[1].rstrip(" ,")
    start = said.start(1)
    return Answer(words, start, start + len(words), rf"\text{{{words}}}", "answer is")


def find_boxes(text: str, start: int = 0) -> list[Box]:
    r"""The complete boxes of a text that stand in no other complete box, in order.

    One pass. A box whose brace is never closed is none; escaped braces do not count.

    >>> [text[b.inner_start : b.inner_end] for text in [r"\boxed{\{1\}} \boxed{2"]
    ...  for b in find_boxes(text)]
    ['\\{1\\}']
    """
    opened: list[tuple[int, int]] = []  # of each open brace: where its \boxed begins, its content
    found: list[Box] = []
    for token in _BRACES.finditer(text, start):
        mark = token.group()
        if mark == "}":
            if opened:
                command, inner = opened.pop()
                if command >= 0:
                    found.append(_closed(text, command, inner, token.start(), found))
        elif mark.endswith("{") and mark != r"\{":
            opened.append((-1 if mark == "{" else token.start(), token.end()))
    return found


def _closed(text: str, start: int, inner_start: int, inner_end: int, found: list[Box]) -> Box:
    """The box with this content, where the boxes in it are the last of `found` and leave it."""
    children: list[Box] = []
    while found and found[-1].start > start:
        children.append(found.pop())
    says = inner_start, inner_end
    if len(children) == 1:
        (child,) = children
        if not (text[inner_start : child.start].strip() or text[child.end : inner_end].strip()):
            says = child.says_start, child.says_end
    return Box(start, inner_start, inner_end, *says)


def _is_list(between: str) -> bool:
    if len(between) > _BETWEEN_CHARS:
        return False
    return bool(_NOTHING.fullmatch(between) or _BETWEEN.fullmatch(between))


def _says(text: str, box: Box) -> str:
    return text[box.says_start : box.says_end].strip()


def _percent_follows(text: str, box: Box, content: str) -> bool:
    return not content.endswith("%") and bool(_PERCENT.match(text, box.end))
