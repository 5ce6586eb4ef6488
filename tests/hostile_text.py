"""Texts that break careless code: for the property tests of the ground floor."""

from itertools import pairwise

from hypothesis import strategies as st

PIECES = (
    *["\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\t", "\f", "\v", " ", "   ", "\x00", "\x1c", "\x85"],
    *["\u00a0", "\u2028", "\u3000", "\u200d", "\u202e", "\ufeff", "🙂", "🧑‍🚀", "👩‍👩‍👧"],
    *["é", "中", "数", "مرحبا"],
    *["e\u0301", "\u0323", "\u212b", "\u1100\u1161", "½", "３７"],
    *["Wait", "But wait, ", "Alternatively", "so ", "a", "x" * 40],
    *["42", "1000000", ". ", "\\boxed{5}"],
    *["<progressbar>", "</progressbar>", "<progress", "bar>", "37%", "[50%]", "[100%]", "%", "-5%"],
    *["<", ">", "</", "/", "\\", "<\\progressbar>", "<\\\\/progressbar>", "<p>", "</p>", "<\\p>"],
)  # fmt: skip

texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=25).map("".join)
"""White space of every kind, emoji, combining characters, and pieces of markers and tags."""

giant_lines = st.builds(lambda piece, times: piece * times, texts, st.integers(50, 400))


def cuts(text: str) -> st.SearchStrategy[list[int]]:
    """Rising offsets at which a text may be cut; some stand there twice."""
    return st.lists(st.integers(0, len(text)), max_size=12).map(sorted)


def pieces_of(text: str, ends: list[int]) -> list[str]:
    """The text in the pieces that end at `ends`, and what is left."""
    bounds = [0, *ends, len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]
