"""The grammar of markers: render, insert, find, strip, and read them from a stream.

A marker is `<progressbar>37%</progressbar>`; its label is the number it shows. Paper 000,
section 5, writes it in ordinary vocabulary; section 6.1 writes the label as one of 101 special
tokens, `<progressbar>[37%]</progressbar>`. Nothing else in the project knows these strings.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

LABELS = range(101)
"""The labels of a marker: whole percents."""

_MAX_DIGITS = 9


@dataclass(frozen=True)
class Marker:
    """One marker found in a text: its span, its label, and the span of the text inside its tags."""

    start: int
    end: int
    label: int
    label_start: int
    label_end: int


@dataclass(frozen=True)
class MarkerGrammar:
    """How markers are written: the tag, and the label inside it (`{label}` stands for the number).

    `find_markers` and `strip` accept both token styles, whichever `special` says is written.
    `escaped` says that the text around the markers went through `escape`.
    """

    tag: str = "progressbar"
    format: str = "{label}%"
    special: bool = False
    escaped: bool = False

    @property
    def opening(self) -> str:
        return f"<{self.tag}>"

    @property
    def closing(self) -> str:
        return f"</{self.tag}>"

    def label_text(self, label: int) -> str:
        """What stands between the tags: `37%`, or the special token `[37%]`."""
        text = self.format.format(label=label)
        return f"[{text}]" if self.special else text

    def render(self, label: int) -> str:
        """The marker that shows `label`.

        >>> MarkerGrammar().render(37)
        '<progressbar>37%</progressbar>'
        """
        return f"{self.opening}{self.label_text(label)}{self.closing}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """A marker in either style; group 1 or 2 is the label."""
        number = rf"(-?\d{{1,{_MAX_DIGITS}}})"
        plain = re.escape(self.format).replace(re.escape("{label}"), number)
        return re.compile(
            f"{re.escape(self.opening)}(?:{plain}|\\[{plain}\\]){re.escape(self.closing)}", re.ASCII
        )

    @cached_property
    def tag_pattern(self) -> re.Pattern[str]:
        """One of the tags, as it stands or escaped with backslashes."""
        return re.compile(rf"<(\\*)(/?{re.escape(self.tag)}>)")

    @cached_property
    def token_pattern(self) -> re.Pattern[str]:
        """The text of a special token, `[0%]` .. `[100%]`."""
        number = "(?:100|[1-9]?[0-9])"
        plain = re.escape(self.format).replace(re.escape("{label}"), number)
        return re.compile(f"\\[{plain}\\]")

    @cached_property
    def longest(self) -> int:
        """The length of the longest text that can be one marker."""
        brackets_and_sign = 3
        inside = len(self.format.format(label="9" * _MAX_DIGITS)) + brackets_and_sign
        return len(self.opening) + inside + len(self.closing)


DEFAULT = MarkerGrammar()


def special_tokens(grammar: MarkerGrammar = DEFAULT) -> list[str]:
    """The 101 special tokens `[0%]` .. `[100%]` (paper 000, section 6.1)."""
    return [f"[{grammar.format.format(label=label)}]" for label in LABELS]


def find_markers(text: str, grammar: MarkerGrammar = DEFAULT) -> list[Marker]:
    """Every marker of `text`, in order.

    >>> [(m.label, m.start, m.end) for m in find_markers("a<progressbar>5%</progressbar>")]
    [(5, 1, 30)]
    """
    found = grammar.pattern.finditer(text)
    opening, closing = len(grammar.opening), len(grammar.closing)
    return [
        Marker(m.start(), m.end(), int(m[1] or m[2]), m.start() + opening, m.end() - closing)
        for m in found
    ]


def holds_markers(text: str, grammar: MarkerGrammar = DEFAULT) -> bool:
    """Whether `text` holds a marker or one of its tags, so that inserting would double it."""
    return grammar.opening in text or grammar.closing in text


def holds_special_token(text: str, grammar: MarkerGrammar = DEFAULT) -> bool:
    """Whether `text` holds the text of a special token, which a tokenizer would take for one."""
    return grammar.token_pattern.search(text) is not None


def insert(text: str, ends: Sequence[int], labels: Sequence[int], grammar: MarkerGrammar) -> str:
    """`text` with a marker after each of the character offsets `ends`, which never fall.

    The inverse is `strip`. Raises ValueError where `ends` and `labels` differ in length.

    >>> insert("ab", [1, 2], [50, 100], MarkerGrammar("p"))
    'a<p>50%</p>b<p>100%</p>'
    """
    pieces: list[str] = []
    previous = 0
    for end, label in zip(ends, labels, strict=True):
        pieces += text[previous:end], grammar.render(label)
        previous = end
    pieces.append(text[previous:])
    return "".join(pieces)


def strip(text: str, grammar: MarkerGrammar = DEFAULT) -> str:
    """`text` without its markers: the completion as it was before `insert`.

    >>> strip("a<progressbar>5%</progressbar>b<progressbar>[100%]</progressbar>")
    'ab'
    """
    stripped = grammar.pattern.sub("", text) if grammar.opening in text else text
    return unescape(stripped, grammar) if grammar.escaped else stripped


@dataclass(frozen=True)
class Unmarked:
    """A text without its markers, as `strip` gives it; its markers, with their places in the marked
    text; and for each the character of `text` before which it stood (`ends`)."""

    text: str
    markers: list[Marker]
    ends: list[int]


def unmark(text: str, grammar: MarkerGrammar = DEFAULT) -> Unmarked:
    """Take the markers out of a text, and keep where they stood.

    >>> unmark("ab<progressbar>5%</progressbar>c").ends
    [2]
    """
    markers = find_markers(text, grammar)
    pieces = cut_markers(text, [own.start for own in markers], [own.end for own in markers])
    if grammar.escaped:
        pieces = [unescape(piece, grammar) for piece in pieces]
    return Unmarked("".join(pieces), markers, list(accumulate(map(len, pieces[:-1]))))


def cut_markers(text: str, starts: Sequence[int], ends: Sequence[int]) -> list[str]:
    """The text before, between and after the markers at these spans."""
    return [text[a:b] for a, b in zip([0, *ends], [*starts, len(text)], strict=True)]


def escape(text: str, grammar: MarkerGrammar = DEFAULT) -> str:
    r"""`text` with one backslash more in each of its tags, so that none can be read as a marker.

    >>> escape("<progressbar>5%</progressbar>")
    '<\\progressbar>5%<\\/progressbar>'
    """
    return grammar.tag_pattern.sub(r"<\\\1\2", text)


def escape_offsets(text: str, grammar: MarkerGrammar = DEFAULT) -> list[int]:
    """The offsets in `text` at which `escape` puts a backslash."""
    return [match.start() + 1 for match in grammar.tag_pattern.finditer(text)]


def unescape(text: str, grammar: MarkerGrammar = DEFAULT) -> str:
    """The inverse of `escape`."""
    return re.sub(rf"<\\(\\*)(/?{re.escape(grammar.tag)}>)", r"<\1\2", text)


class StreamParser:
    """Reads markers from text that arrives in arbitrary pieces, as a model writes it.

    Holds back at most one unfinished marker, whatever the length of the stream.

    >>> parser = StreamParser()
    >>> parser.feed("Let me see. <progress"), parser.feed("bar>37%</progressbar> Now")
    ([], [37])
    """

    def __init__(self, grammar: MarkerGrammar = DEFAULT) -> None:
        self._grammar = grammar
        self._held = ""

    def feed(self, piece: str) -> list[int]:
        """The labels of the markers that this piece completes, in order."""
        text = self._held + piece
        found = find_markers(text, self._grammar)
        rest = text[found[-1].end :] if found else text
        self._held = rest[-(self._grammar.longest - 1) :]
        return [marker.label for marker in found]


def labels_in(pieces: Iterable[str], grammar: MarkerGrammar = DEFAULT) -> list[int]:
    """The labels in a stream of pieces: `StreamParser` over all of them."""
    parser = StreamParser(grammar)
    return [label for piece in pieces for label in parser.feed(piece)]
