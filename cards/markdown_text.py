"""Text from data inside Markdown: it is shown as it is, and nothing in it is markup.

Three places where such text may stand: `inline` in prose, `code` for names, `fence` for whole
texts. Characters that cannot be seen, or that turn the direction of what follows, are written as
their code (`\\x00`, `\\u202e`), so that what one reads is all there is.
"""

import re
import unicodedata
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"
"""Invisible, harmless, and part of words and emoji."""

_ENTITIES = "<>&|$@"
"""Written as numeric entities: what other passes (HTML, tables, formulas, mentions) look for before
or after Markdown's own escapes are read."""

_ENTITIES_INSIDE = re.compile(r":(?=\S)|(?<=www)\.", re.IGNORECASE)
"""The same where it stands in a word: links and names of emoji."""

_BACKSLASHED = "\\`*_[]~"

_AT_THE_START = re.compile(r"^(?:[#+=-]|[0-9]+(?=[.)](?:\s|$)))")
"""What begins a heading, a rule or a list where it begins a line."""


def visible(text: str, *, kept: str = "") -> str:
    """The text with what cannot be seen written as its code; `kept` stays.

    >>> visible("a\\x00b\\u202ec")
    'a\\\\x00b\\\\u202ec'
    """
    return "".join(
        own if own in kept or own.isprintable() or own in _JOINERS or _is_space(own) else _code(own)
        for own in text
    )


def one_line(text: str, limit: int | None = None) -> str:
    """The text in one line, what cannot be seen written as its code, cut to `limit` characters.

    >>> one_line("a\\n  b")
    'a b'
    """
    shown = visible(" ".join(text.split()))
    return shown if limit is None or len(shown) <= limit else f"{shown[: limit - 3]}..."


def inline(text: str, limit: int | None = None) -> str:
    """The text in one line of prose or in a cell of a table.

    >>> inline("<b> *x* | $y$"), inline("- 2. http://a")
    ('&#60;b&#62; \\\\*x\\\\* &#124; &#36;y&#36;', '\\\\- 2. http&#58;//a')
    """
    shown = "".join(_escaped(own) for own in one_line(text, limit))
    shown = _ENTITIES_INSIDE.sub(lambda found: f"&#{ord(found[0])};", shown)
    return _AT_THE_START.sub(_escaped_start, shown)


def code(text: str, limit: int | None = None) -> str:
    """The text as a code span, for names; as `inline` where it holds a bar, which tables and prose
    read differently in a code span.

    >>> code("a`b"), code("")
    ('`` a`b ``', '(empty)')
    """
    shown = one_line(text, limit)
    if not shown:
        return "(empty)"
    if "|" in shown:
        return inline(shown)
    run = _longest_run(shown) + 1
    padding = " " if shown.startswith("`") or shown.endswith("`") or run > 1 else ""
    return f"{'`' * run}{padding}{shown}{padding}{'`' * run}"


def fence(text: str, limit: int | None = None, *, info: str = "text") -> str:
    """The text as a fenced block of its own lines; what is left out past `limit` is counted.

    >>> print(fence("a ``` b"))
    ````text
    a ``` b
    ````
    """
    shown = visible(text, kept="\n\t")
    if limit is not None and len(shown) > limit:
        shown = f"{shown[:limit]}\n… ({len(shown) - limit:,} characters left out)"
    run = "`" * max(3, _longest_run(shown) + 1)
    return f"{run}{info}\n{shown}\n{run}"


def paragraphs(text: str) -> str:
    """The text as paragraphs of prose, cut where a blank line stands."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(inline(block) for block in blocks if block.strip())


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escaped(character: str) -> str:
    if character in _ENTITIES:
        return f"&#{ord(character)};"
    return f"\\{character}" if character in _BACKSLASHED else character


def _escaped_start(found: re.Match[str]) -> str:
    """A mark at the start of a line, or the first digit of a number there, as no markup."""
    start = found[0]
    return f"&#{ord(start[0])};{start[1:]}" if start.isdigit() else f"\\{start}"


def _is_space(character: str) -> bool:
    return unicodedata.category(character) == "Zs"


def _code(character: str) -> str:
    point = ord(character)
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)
