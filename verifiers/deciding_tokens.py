"""What two problems must share, in order, before similar wording may call them the same.

Sentence embeddings hardly see what decides a maths problem: all-MiniLM-L6-v2 puts `log_36(36)`
and `log_36 6`, "largest" and "smallest" over 0.9 (facts.md 8.16). So near duplicates must agree in
their numbers (also as words), formulas, negations and the words of `OPPOSITES`, in the order they
stand in: "12 of 6" is not "6 of 12". benchmarks/duplicates.py measures what that changes.
"""

from progdata.verifiers.problem_forms import Token, tokens_of

OPPOSITES = """
sum sums | product products | difference | quotient | ratio | average mean | median
largest greatest maximum maximal maximize highest biggest longest
    | smallest minimum minimal minimize lowest shortest fewest
exactly | most | least
even | odd
positive | negative
increasing increases increased increase ascending
    | decreasing decreases decreased decrease descending
more greater above | less fewer below
area | perimeter circumference | volume | radius | diameter | center | diagonal | surface | slope
different distinct distinguishable | same identical
boy boys man men male males | girl girls woman women female females
inscribed | circumscribed
before | after
first | last
left | right
inside | outside
prime | composite
rational | irrational
integer integers | real reals | complex
row rows | column columns
numerator | denominator
horizontal | vertical
clockwise | counterclockwise
parallel | perpendicular
multiple multiples | divisor divisors factor factors
square squares | cube cubes
head heads | tail tails
win wins won | lose loses lost
arithmetic | geometric | harmonic
acute | obtuse
equilateral | isosceles | scalene
sine | cosine | tangent
union | intersection
add added adding | subtract subtracted subtracting | multiply multiplied | divide divided
red | blue | green | yellow | white | black | orange | purple | brown | pink
monday | tuesday | wednesday | thursday | friday | saturday | sunday
day days | week weeks | month months | year years | hour hours | minute minutes | second seconds
"""
"""Words that turn a problem into another one when they change places; synonyms between bars."""

_NEGATIONS = "not no non none never neither nor without cannot except"
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_OTHER_NUMBERS = (
    "thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half third "
    "quarter fourth fifth sixth once twice thrice double triple dozen"
)

_WORDS: dict[str, str] = {
    word: f"={synonyms.split()[0]}"
    for line in OPPOSITES.replace("\n    |", " |").strip().splitlines()
    for synonyms in line.split("|")
    for word in synonyms.split()
}
_WORDS |= dict.fromkeys(_NEGATIONS.split(), "=not")
_WORDS |= {word: str(number) for number, word in enumerate(_NUMBERS.split())}
_WORDS |= {word: word for word in _OTHER_NUMBERS.split()}

_NOT = {
    f"{prefix}{word}": ["=not", _WORDS[word]]
    for prefix, words in {
        "non": "negative positive zero decreasing increasing",
        "in": "distinguishable",
    }.items()
    for word in words.split()
}

_PUNCTUATION = set('.,;:?"`')
_OPERATORS = set("+*/^_=<>|%{}")
_BETWEEN = set("()[]-!'aAI")
"""Signs and letters that prose holds too: they decide only beside mathematics."""


def deciding_tokens(text: str) -> tuple[str, ...]:
    """The numbers, formulas and deciding words of a problem, in order.

    >>> deciding_tokens("What is the greatest of the two roots of $x^2 - 3x$?")
    ('=largest', '2', 'x', '^', '2', '-', '3', 'x')
    """
    tokens = tokens_of(text)
    maths = [_is_maths(tokens, place) for place in range(len(tokens))]
    found: list[str] = []
    for place, token in enumerate(tokens):
        if maths[place]:
            found.append(token.text)
        elif word := _word(tokens, place):
            found += word
        elif token.text in _BETWEEN and _beside(maths, place):
            found.append(token.text)
    return tuple(found)


def _is_maths(tokens: list[Token], place: int) -> bool:
    token = tokens[place]
    piece = token.text
    if piece in _PUNCTUATION:
        return False
    if token.maths or piece[0] == "\\" or piece[-1].isdigit() or piece in _OPERATORS:
        return True
    apostrophe = place > 0 and tokens[place - 1].text == "'"
    return len(piece) == 1 and piece.isalpha() and piece not in _BETWEEN and not apostrophe


def _beside(maths: list[bool], place: int) -> bool:
    return (place > 0 and maths[place - 1]) or (place + 1 < len(maths) and maths[place + 1])


def _word(tokens: list[Token], place: int) -> list[str]:
    """What a word of prose decides: "nonnegative" and "non-negative" are "not" and "negative"."""
    word = tokens[place].text.lower()
    if word in _WORDS:
        return [_WORDS[word]]
    if word == "t" and place > 1 and tokens[place - 1].text == "'":
        return ["=not"]
    return _NOT.get(word, [])
