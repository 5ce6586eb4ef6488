r"""Units, number bases, ratios and times of day: what they decide, and what they leave alone."""

import re

import pytest
from shared_data import SHARED, benchmark_golds, needs_shared_data, read_rows

from progdata.verifiers import conventions
from progdata.verifiers.conventions import by_convention
from progdata.verifiers.readings import as_latex, read_gold

UNITS: list[tuple[str, str, bool]] = [
    (r"5\text{ km}", r"5\text{ m}", False),
    (r"5\text{ km}", r"5000\text{ m}", True),
    (r"5\text{ km}", r"5000\text{ metres}", True),
    (r"5\text{ kilometers}", r"5000\mathrm{~m}", True),
    (r"0.5\text{ km}", r"500\text{ m}", True),
    (r"1.5\text{ hours}", r"90\text{ minutes}", True),
    (r"\frac{3}{2}\text{ hours}", r"90\text{ min}", True),
    (r"1,000\text{ m}", r"1\text{ km}", True),
    (r"1\,000\text{ m}", r"1\text{ km}", True),
    (r"5\,\text{km}", r"5000~\mathrm{m}", True),
    (r"12\text{ inches}", r"1\text{ foot}", True),
    (r"3\text{ feet}", r"1\text{ yard}", True),
    (r"3\text{ ft.}", r"1\text{ yd.}", True),
    (r"5280\text{ ft}", r"1\text{ mile}", True),
    (r"100\text{ cm}", r"1000\text{ mm}", True),
    (r"100\text{ cm}", r"100\text{ mm}", False),
    (r"2\text{ weeks}", r"14\text{ days}", True),
    (r"1\text{ day}", r"86400\text{ s}", True),
    (r"250\text{ g}", r"0.25\text{ kg}", True),
    (r"250\text{ mL}", r"250\text{ L}", False),
    (r"5\mbox{ dollars}", r"500\mbox{ cents}", True),
    (r"80 \text{ cents}", r"80 \text{ dollars}", False),
    (r"5\text{ m}^2", r"50000\text{ cm}^{2}", True),
    (r"5\text{ m}^2", r"500\text{ cm}^2", False),
    (r"1\text{ m}^3", r"1000000\text{ cm}^3", True),
    (r"5\text{ m}", r"5\text{ s}", False),
    (r"5\text{ dollars}", r"5\text{ hours}", False),
    (r"30^\circ", r"30\text{ rad}", False),
    (r"30^{\circ}", r"30\text{ radians}", False),
    ("30\u00b0", r"30\text{ radians}", False),
    (r"\frac{\pi}{2}\text{ radians}", r"\frac{\pi}{2}^\circ", False),
]

NUMBER_BASES: list[tuple[str, str, bool]] = [
    ("241_6", "241_6", True),
    ("241_6", "(241)_{6}", True),
    ("241_6", "241_7", False),
    ("241_6", "201_{7}", False),
    ("97_{10}", "241_6", True),
    (r"241_{\text{six}}", "241_6", True),
    ("1101_2", "1101_{10}", False),
    ("32_{(8)}", "32_8", True),
    ("-37_8", "-31_{10}", True),
    ("-37_8", "37_8", False),
    (r"2\text{B}7_{12}", "2B7_{12}", True),
    (r"\text{A5}_{11}", "115_{10}", True),
    ("FF_{16}", "255_{10}", True),
    ("1011\u2082", "11_{10}", True),
    ("2_{10}", "2_{3}", True),
    ("0_{10}", "0_2", True),
]

RATIOS: list[tuple[str, str, bool]] = [
    ("1:2", "2:4", True),
    ("1 : 2", "1:2", True),
    ("1:2", "2:1", False),
    ("1:2:3", "2:4:6", True),
    ("1:2:3", "1:3:2", False),
    ("1:2", "1:2:0", False),
    (r"1 \colon 2", "3:6", True),
    (r"1 \to 2", "1:2", True),
    ("1 to 2", "3:6", True),
    ("17:25", "34:50", True),
    ("$1:2$", r"\(2:4\)", True),
    ("5:0", "7:0", True),
]

TIMES: list[tuple[str, str, bool]] = [
    ("6:00", "12:00", False),
    ("6:00", "6:00", True),
    ("6:05", "12:10", False),
    ("06:05", "6:05", True),
    (r"7:55 \text{ p.m.}", r"7:55 \text{ a.m.}", False),
    (r"7:55 \text{ p.m.}", r"7:55\text{ PM}", True),
    (r"7:55 \text{ p.m.}", "7:55", True),
    (r"7:55 \text{ p.m.}", "19:55", True),
    (r"3:20 \text{ p.m.}", r"6:40 \text{ p.m.}", False),
    (r"12:05\text{ AM}", "0:05", True),
    (r"12:30\text{ PM}", r"12:30\text{ p.m.}", True),
    (r"4\!:\!51\!:\!06 \text{ p.m.}", "4:51:06", True),
    (r"4\!:\!51\!:\!06 \text{ p.m.}", "4:51:07", False),
    ("14:05", r"2:05\text{ pm}", True),
]

LEFT_ALONE: list[tuple[str, str, str]] = [
    ("5", r"5\text{ m}", "one unit missing is no fault"),
    (r"5\text{ km}", "5", "one unit missing is no fault"),
    (r"5\text{ km}", r"5\text{ kilometers}", "the same unit is for the other rules"),
    (r"30^\circ", r"30\text{ degrees}", "the same unit"),
    (r"5\text{ apples}", r"5\text{ pears}", "unknown units"),
    (r"5\text{ m}", r"5\text{ apples}", "an unknown unit"),
    (r"5\text{ cm}^2", r"5\text{ cm}", "another dimension: the square was forgotten"),
    (r"5\text{ m}", r"6\text{ s}", "of another kind and another number: left to math-verify"),
    (r"\frac43 \mathrm{~m}/\mathrm{s}", r"\frac43 \mathrm{~m}", "a quotient of units"),
    (r"5 \text{ miles per hour}", r"5 \text{ hours}", "more than one word"),
    (r"45^\circ, 135^\circ", r"45, 135\text{ rad}", "a list"),
    (r"25^\circ\text{C}", r"25^\circ\text{F}", "temperatures are no angles"),
    (r"5m", "5s", "letters that are not in text are letters"),
    ("a_1", "a_2", "names with an index"),
    ("A_{12}", "A_{11}", "one letter is a name, not a number"),
    ("x_{10}", "10_{10}", "lower case is a name"),
    ("10_0", "10_{10}", "no base 0"),
    ("10_1", "1_{10}", "no base 1"),
    ("9_8", "9_8", "no digit of that base"),
    ("12_{37}", "39_{10}", "no base above 36"),
    ("24_n", "24_n", "a base that is a letter"),
    ("241_6", "241", "one base missing is no fault"),
    ("12_5", "12_{5", "an open brace"),
    ("F_{n+1}", "F_{n}", "an index that is no number"),
    ("1:2", "0.5", "a ratio and a number"),
    ("0:0", "1:2", "no ratio"),
    ("x:2", "y:2", "a ratio with letters"),
    ("1.5:2", "3:4", "a ratio of decimals"),
    ("5", "6", "numbers"),
    ("", "", "nothing"),
    (r"5\text{ km}" + " " * 300, r"5\text{ m}", "longer than any quantity"),
]

CASES = [
    (*case, rule)
    for rule, table in {
        "units": UNITS,
        "number base": NUMBER_BASES,
        "ratio": RATIOS,
        "time of day": TIMES,
    }.items()
    for case in table
]


@pytest.mark.parametrize(("gold", "answer", "equal", "rule"), CASES)
def test_a_notation_on_both_sides_is_compared_by_its_own_rule(gold, answer, equal, rule):
    assert by_convention(gold, answer) == (equal, rule)
    assert by_convention(answer, gold) == (equal, rule)


@pytest.mark.parametrize(("gold", "answer", "why"), LEFT_ALONE)
def test_what_is_not_surely_a_notation_is_left_to_the_other_rules(gold, answer, why):
    assert by_convention(gold, answer) is None
    assert by_convention(answer, gold) is None


SHAPES = {
    "_unit": r".*(\\circ\s?\}?|\\(text|mbox|mathrm)\{[\s~]*[A-Za-z]+\}(\^\{?[23]\}?)?)\.?",
    "_in_base": r"\{?-?\(?(\\text\{)?[0-9A-Z]+\}?\)?_\{?\(?[0-9]+\)?\}?\.?",
    "_ratio": r"\d+( ?: ?\d+)+",
    "_time": r"(\d|[ :{}.]|\\!|\\text(sc)?|[AaPp]\.?[Mm])+",
}


@pytest.fixture(scope="module")
def golds() -> set[str]:
    rows = read_rows(SHARED / "data" / "problems" / "deepscaler_train.jsonl.gz")
    given = {str(row["answer"]) for row in rows} | set().union(*benchmark_golds().values())
    return {read_gold(gold).latex for gold in given}


@needs_shared_data
@pytest.mark.parametrize("reads", SHAPES)
def test_real_golds_are_not_mistaken_for_a_notation(golds: set[str], reads: str):
    claimed = {own for own in golds if getattr(conventions, reads)(as_latex(own)) is not None}
    assert len(claimed) > 60
    assert {gold for gold in claimed if not re.fullmatch(SHAPES[reads], gold)} == set()
    assert not any(re.search(r"\\circ.*\\circ|,|/", gold) for gold in claimed)
