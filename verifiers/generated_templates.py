r"""What generated problems say: a story, and the quantity that is asked for.

`<goods>` is a word of that kind from the vocabulary, `<3-40>` a number, `<poly/x>` a formula in
the variable `<var:x>`; what has a name after a colon is the same wherever it stands again.
`[[a|b]]` is either, and may stand in another. The rest is text and LaTeX. Templates are drawn by
position, so their order and number are part of the problems that a seed gives.
"""

from typing import NamedTuple


class Template(NamedTuple):
    """A kind of problem: the story (may be empty) and the quantity, a noun phrase."""

    kind: str
    story: str
    quantity: str
