"""`progdata bench answers`: checkers against labelled pairs."""

import gzip
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest

from progdata.builders.errors import ProgdataError, UsageError
from progdata.cards.answer_tables import bench_summary
from progdata.verifiers import grade_all
from progdata.verifiers.answer_bench import (
    DEFAULT_CHECKERS,
    bench_answers,
    read_pairs,
    wilson_interval,
)
from progdata.verifiers.checkers import (
    CHECKERS,
    as_completion,
    check_by_grader,
    check_strings,
    find_function,
)
from progdata.verifiers.grading import Budget
from progdata.verifiers.math_verify_direct import check_directly, in_delimiters
from progdata.verifiers.verdicts import GRADERS, GraderName

SHIPPED = Path(__file__).resolve().parent.parent / "verifiers" / "labelled_answers.jsonl"

HANGS = "$(10^9)!$"
"""An answer that math-verify's own timeouts do not end."""

SURROGATE = {"gold": "\ud800", "pred": "\\boxed{\ud800\x00}", "equal": False, "form": "odd"}


def write_pairs(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def pair(gold: str, pred: str, equal: bool, **other: Any) -> dict[str, Any]:
    return {"gold": gold, "pred": pred, "equal": equal, **other}


# --- the shipped set


FORMS = {"base_notation", "complex", "inequality", "multiple_choice", "units"}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, Any]:
    """All built-in checkers on some forms of the shipped set, and on a pair that is not UTF-8."""
    rows = map(json.loads, SHIPPED.read_text("utf-8").splitlines())
    chosen = [*(row for row in rows if row["form"] in FORMS), SURROGATE]
    file = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", chosen)
    return bench_answers(file, workers=2)


def test_the_default_checkers_are_all_built_in_ones(report: dict[str, Any]):
    assert set(DEFAULT_CHECKERS) == set(CHECKERS)
    assert list(report["checkers"]) == list(DEFAULT_CHECKERS)


def test_the_report_is_json(report: dict[str, Any]):
    assert json.loads(json.dumps(report)) == report


def test_the_counts_of_every_checker_add_up(report: dict[str, Any]):
    assert report["equal"] + report["unequal"] == report["pairs"] > 60
    for own in report["checkers"].values():
        cells = own["confusion"]
        assert cells["true_equal"] + cells["false_unequal"] == report["equal"]
        assert cells["true_unequal"] + cells["false_equal"] == report["unequal"]
        assert len(own["mistakes"]) == cells["false_equal"] + cells["false_unequal"]
        wrong = len(own["mistakes"]) / report["pairs"]
        assert own["accuracy"] == pytest.approx(1 - wrong)
        assert own["accuracy_95"][0] < own["accuracy"] <= own["accuracy_95"][1]
        assert sum(form["pairs"] for form in own["by_form"].values()) == report["pairs"]
        by_form = Counter(mistake["form"] for mistake in own["mistakes"])
        for name, form in own["by_form"].items():
            assert form["pairs"] - form["right"] == by_form[name]
        assert own["pairs_per_second"] == pytest.approx(report["pairs"] / own["seconds"], rel=0.05)


def test_ours_makes_fewer_mistakes_than_the_others(report: dict[str, Any]):
    mistakes = {name: len(own["mistakes"]) for name, own in report["checkers"].items()}
    assert mistakes["math-verify"] < mistakes["math-verify-direct"] < mistakes["strings"]
    assert mistakes["math-verify"] < mistakes["deepscaler"] < mistakes["strings"]


def test_on_a_disagreement_one_of_our_graders_is_wrong(report: dict[str, Any]):
    wrong = {
        name: {mistake["line"] for mistake in report["checkers"][name]["mistakes"]}
        for name in GRADERS
    }
    found = {pair["line"] for pair in report["disagreements"]}
    assert found == wrong["math-verify"] ^ wrong["deepscaler"] != set()
    for row in report["disagreements"]:
        said = [row[name]["said"] == "correct" for name in GRADERS]
        assert sorted(said) == [False, True]
        assert all(row[name]["rule"] for name in GRADERS)


def test_the_summary_names_every_checker_form_and_mistake(report: dict[str, Any]):
    text = bench_summary(report)
    assert f"{report['pairs']} pairs" in text
    for name, own in report["checkers"].items():
        assert f"\n{name} " in text
        assert (f"{name} is wrong on {len(own['mistakes'])}:" in text) == bool(own["mistakes"])
        assert all(form in text for form in own["by_form"])
        assert all(f"\n{mistake['line']:>4}  " in text for mistake in own["mistakes"][:10])
    assert all(line.isprintable() for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 160


def test_without_a_file_the_shipped_set_is_read():
    assert read_pairs(None) == read_pairs(SHIPPED)
    report = bench_answers(None, ["strings"])
    assert report["pairs"] == len(SHIPPED.read_text("utf-8").splitlines()) > 300
    assert report["file"] == "progdata/verifiers/labelled_answers.jsonl"
    assert report["disagreements"] is None


# --- scores


TEN = [
    *[pair("1", "correct", True, group="a")] * 3,
    *[pair("1", "wrong", True, group="a")],
    *[pair("1", "correct", False, group="b")],
    *[pair("1", "wrong", False, group="b")] * 2,
    *[pair("1", "timeout", False, group="b")],
    *[pair("1", "no_answer", False), pair("1", "gold_unparsable", False)],
]
"""Ten pairs, with what the checker is to say of them: 8 of 10 are right."""

SPEAKER = """
def speak(*, gold, pred):
    return pred
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Writes a module into the working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def write(name: str, code: str) -> None:
        (folder / f"{name}.py").write_text(code, "utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_a_report_computed_by_hand(module: Callable[[str, str], None], tmp_path: Path):
    module("speaking", SPEAKER)
    report = bench_answers(write_pairs(tmp_path / "ten.jsonl", TEN), ["speaking:speak"])
    assert (report["pairs"], report["equal"], report["unequal"]) == (10, 4, 6)
    own = report["checkers"]["speaking:speak"]
    assert own["confusion"] == {
        "true_equal": 3,
        "false_equal": 1,
        "true_unequal": 5,
        "false_unequal": 1,
    }
    assert own["accuracy"] == 0.8
    assert own["accuracy_95"] == pytest.approx([0.49016, 0.94332], abs=1e-5)
    assert (own["timeouts"], own["errors"]) == (1, 0)
    assert own["undecided"] == {"no_answer": 1, "gold_unparsable": 1}
    assert own["by_form"] == {
        "a": {"pairs": 4, "right": 3, "accuracy": 0.75},
        "b": {"pairs": 4, "right": 3, "accuracy": 0.75},
    }
    mistake = {"line": 4, "gold": "1", "pred": "wrong", "equal": True, "form": "a"}
    assert own["mistakes"][0] == mistake | {"said": "wrong", "rule": "the function"}
    assert [own["line"] for own in own["mistakes"]] == [4, 5]


@pytest.mark.parametrize(
    ("right", "pairs", "bounds"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_intervals_from_the_literature(right: int, pairs: int, bounds: tuple[float, float]):
    """Newcombe (1998), Statistics in Medicine 17, pages 857-872, table I, method 3."""
    assert wilson_interval(right, pairs) == pytest.approx(bounds, abs=5e-5)


# --- checkers of users


MANY = """
from dataclasses import dataclass

class GraderTimeoutException(BaseException):
    pass

@dataclass
class Said:
    status: str
    rule: str = "my rule"

def many(*, gold, pred):
    if pred.startswith("raise"):
        raise {"raise": ValueError("no\\nwonder"), "raise late": GraderTimeoutException(),
               "raise exit": SystemExit(3)}[pred]
    return {"true": True, "one": 1.0, "false": False, "none": None, "three": 3, "word": "maybe",
            "timeout": "timeout", "verdict": Said("correct"), "list": [1, 2]}[pred]
"""

SAID = {
    "true": ("correct", "the function"),
    "one": ("correct", "the function"),
    "verdict": ("correct", "my rule"),
    "false": ("wrong", "the function"),
    "none": ("no_answer", "the function"),
    "timeout": ("timeout", "the function"),
    "raise late": ("timeout", "GraderTimeoutException: GraderTimeoutException"),
    "raise": ("error", "ValueError: no wonder"),
    "raise exit": ("error", "SystemExit: 3"),
    "three": ("error", "it gave 3, and not a bool, None, or one of correct, wrong, "),
    "word": ("error", "it gave 'maybe', and not a bool"),
    "list": ("error", "it gave [1, 2], and not a bool"),
    "unknown": ("error", "KeyError: 'unknown'"),
}


def test_what_functions_give_and_raise(module: Callable[[str, str], None], tmp_path: Path):
    module("manifold", MANY)
    rows = [pair("1", pred, SAID[pred][0] != "correct") for pred in SAID]
    before = list(sys.path)
    report = bench_answers(write_pairs(tmp_path / "a.jsonl", rows), ["manifold:many"])
    assert sys.path == before
    own = report["checkers"]["manifold:many"]
    assert own["confusion"]["false_equal"] == 3
    for mistake, (status, rule) in zip(own["mistakes"], SAID.values(), strict=True):
        assert mistake["said"] == status, mistake
        assert mistake["rule"].startswith(rule), mistake
    assert (own["timeouts"], own["errors"]) == (2, 6)
    assert own["undecided"]["no_answer"] == 1
    assert [error["line"] for error in own["error_messages"]] == [8, 9, 10, 11, 12]
    assert own["error_messages"][0]["message"] == "ValueError: no wonder"
    assert own["by_form"] == {}
    assert "manifold:many failed on line 8: ValueError: no wonder" in bench_summary(report)


def test_a_function_of_an_installed_package_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "checking.py").write_text(SPEAKER)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_function("their_package.checking:speak")(gold="1", pred="wrong") == "wrong"


def test_a_checker_is_run_once_however_often_it_is_named():
    report = bench_answers(SHIPPED, ["strings", "strings"])
    assert list(report["checkers"]) == ["strings"]


# --- the built-in checkers


@pytest.mark.parametrize(
    ("gold", "pred", "status"),
    [
        ("5", r"So \boxed{5}.", "correct"),
        (" $5$ ", r"\boxed{4} and \boxed{ 5 }", "correct"),
        ("$$5$$", "5", "correct"),
        ("5", "$5$", "correct"),
        ("5", "It is 5", "wrong"),
        ("0.5", r"\boxed{1/2}", "wrong"),
        (r"\$5", r"\boxed{\$5}", "correct"),
        ("5", r"\boxed{5", "wrong"),
        ("$", "$", "correct"),
    ],
)
def test_strings(gold: str, pred: str, status: str):
    assert check_strings([(gold, pred)])[0].status == status


PREDS = [r"So \boxed{5}.", "5", "$5$", r"\boxed{5", r"\boxed{", "}", "", "a</think>5", "<think>5"]


@pytest.mark.parametrize("grader", GRADERS)
def test_our_graders_say_what_grade_all_says(grader: GraderName):
    pairs = [("5", pred) for pred in PREDS]
    found = check_by_grader(pairs, grader, workers=1, budget=Budget())
    completions = [as_completion(pred, grader) for pred in PREDS]
    verdicts = grade_all(golds=["5"] * len(PREDS), completions=completions, grader=grader)
    assert [(own.status, own.rule) for own in found] == [(own.status, own.rule) for own in verdicts]
    assert {found[0].status, found[1].status, found[2].status} == {"correct"}


def test_deepscaler_gets_a_box_where_there_is_none():
    assert as_completion("$5$", "deepscaler") == r"</think>\boxed{$5$}"
    for pred in (r"So \boxed{5}.", r"So \boxed{5", "}{", "}"):
        assert as_completion(pred, "deepscaler") == f"</think>{pred}"
    assert as_completion("$5$", "math-verify") == "</think>$5$"


@pytest.mark.parametrize(
    ("gold", "given"),
    [
        (r"2\pi", r"$2\pi$"),
        ("$5$", "$5$"),
        (r"\(5\)", r"\(5\)"),
        (r"\[5\]", r"\[5\]"),
        (r"So \boxed{5}", r"So \boxed{5}"),
        (r"\$5", r"$\$5$"),
        ("", "$$"),
    ],
)
def test_golds_that_math_verify_is_given(gold: str, given: str):
    assert in_delimiters(gold) == given


def test_math_verify_called_directly():
    pairs = [
        (r"2\pi", r"\boxed{2\pi}"),
        (r"2\pi", r"\boxed{2}"),
        ("", r"\boxed{2}"),
        ("5", ""),
        ("\ud800", "\ud800\x00"),
        ("7" * 100_000, "7" * 100_000),
    ]
    found = [said.status for said in check_directly(pairs)]
    assert found[:4] == ["correct", "wrong", "gold_unparsable", "no_answer"]
    assert len(found) == len(pairs)


def test_a_direct_item_that_hangs_costs_only_itself():
    pairs = [("5", "$5$"), ("5", HANGS), ("5", "$6$"), (HANGS, "$5$"), ("5", r"\boxed{5}")]
    begun = time.monotonic()
    found = list(check_directly(pairs, wall_seconds=1.5))
    assert [said.status for said in found] == ["correct", "timeout", "wrong", "timeout", "correct"]
    assert found[1].rule == "killed after 1.5 seconds"
    assert time.monotonic() - begun > 3
    assert our_children("math_verify_direct") == []


def test_a_direct_item_that_kills_the_process_costs_only_itself():
    found = check_directly([("5", "$5$"), ("5", HANGS), ("5", "$5$")], wall_seconds=60)
    assert next(found).status == "correct"
    (process,) = our_children("math_verify_direct")
    killer = threading.Timer(0.5, process.kill)
    killer.start()
    said = next(found)
    assert (said.status, said.rule) == ("error", "its process died of SIGKILL")
    assert [said.status for said in found] == ["correct"]


def test_a_direct_run_that_is_given_up_leaves_no_process():
    found = check_directly([("5", "$5$"), ("5", "$5$")])
    next(found)
    assert len(our_children("math_verify_direct")) == 1
    found.close()  # type: ignore[attr-defined]
    assert our_children("math_verify_direct") == []


@pytest.mark.slow
def test_its_own_timeout_is_told_from_wrong():
    answer = "$" + r"\frac{d}{dx}" * 40 + "x^{x^x}$"
    said = next(iter(check_directly([("5", answer)])))
    assert (said.status, said.rule) == ("timeout", "its own timeout")


def our_children(module: str) -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and any(module in arg for arg in child.cmdline())
    ]


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_processes_that_cannot_start_are_an_error(
    program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = write_pairs(tmp_path / "a.jsonl", [pair("5", "5", True)])
    monkeypatch.setattr(sys, "executable", program)
    for name in ("math-verify", "math-verify-direct"):
        with pytest.raises(ProgdataError, match=r"cannot start|its process failed"):
            bench_answers(file, [name])


# --- wrong input


GOOD = '{"gold": "5", "pred": "5", "equal": true}\n'

BAD_FILES = {
    "empty": ("", "bad.jsonl: no pairs in it; expected an object with gold, pred"),
    "blank": ("\n \n", "no pairs in it"),
    "not json": (f"{GOOD}\n{{'gold': 5}}\n", "bad.jsonl, line 3: not JSON (Expecting property"),
    "cut off": (GOOD + GOOD[:20], "line 2: not JSON"),
    "deep": ("[" * 100_000, "line 1: not JSON"),
    "not utf-8": (b'{"gold": "\xff"}', "line 1: not JSON ('utf-8' codec can't decode byte 0xff"),
    "a list": ("[1]", "line 1: a list; expected an object with gold, pred"),
    "no fields": ("{}", "line 1: the field 'gold' is missing, it has nothing; expected an object"),
    "no pred": (
        '{"gold": "5", "answer": "5"}',
        "the field 'pred' is missing, it has 'gold', 'answ",
    ),
    "no equal": ('{"gold": "5", "pred": "5"}', "the field 'equal' is missing"),
    "number": (
        GOOD + '{"gold": 5, "pred": "5", "equal": true}',
        "line 2: the field 'gold' is 5; exp",
    ),
    "null": ('{"gold": "5", "pred": null, "equal": true}', "'pred' is null; expected a string"),
    "text": (GOOD.replace("true", '"yes"'), "'equal' is \"yes\"; expected true or false"),
    "one": (GOOD.replace("true", "1"), "the field 'equal' is 1; expected true or false"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named_with_its_line_and_field(name: str, tmp_path: Path):
    content, message = BAD_FILES[name]
    file = tmp_path / "bad.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        bench_answers(file, ["strings"])
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(GOOD.encode())[:-12])
    (tmp_path / "plain.jsonl.gz").write_text(GOOD)
    expected = {
        "absent.jsonl": "No such file",
        ".": "directory",
        "cut.jsonl.gz": "gzip",
        "plain.jsonl.gz": "no gzip file",
        "a\0b.jsonl": "null byte",
    }
    for name, message in expected.items():
        with pytest.raises(UsageError, match=message) as caught:
            bench_answers(tmp_path / name, ["strings"])
        assert str(tmp_path) in str(caught.value)


def test_gzip_blank_lines_crlf_and_a_byte_order_mark_are_read(tmp_path: Path):
    text = "\ufeff" + GOOD.replace("\n", "\r\n") + "\n" + GOOD.rstrip()
    plain, packed = tmp_path / "a.jsonl", tmp_path / "a.jsonl.gz"
    plain.write_bytes(text.encode())
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_pairs(plain) == read_pairs(packed)
    assert [own.line for own in read_pairs(plain)] == [1, 3]


BAD_CHECKERS = {
    "math-verfy": "unknown checker 'math-verfy'; did you mean 'math-verify'?; expected",
    "": "unknown checker ''; expected math-verify, deepscaler, math-verify-direct, strings, or the",
    "json.loads": "unknown checker 'json.loads'; expected",
    "a b:c": "unknown checker 'a b:c'",
    "no_such_module:check": "cannot import no_such_module (ModuleNotFoundError: No module named",
    "broken:check": "cannot import broken (SyntaxError: ",
    "leaving:check": "cannot import leaving (SystemExit: 2); expected math-verify",
    "speaking:speek": "speek is not in it; did you mean 'speak'?; expected math-verify",
    "speaking:NUMBER": "NUMBER is not a function",
}


@pytest.mark.parametrize("spec", BAD_CHECKERS)
def test_a_wrong_checker_is_named(spec: str, module: Callable[[str, str], None]):
    module("speaking", f"NUMBER = 3\n{SPEAKER}")
    module("broken", "def check(:\n")
    module("leaving", "import sys; sys.exit(2)")
    with pytest.raises(UsageError) as caught:
        bench_answers(SHIPPED, ["strings", spec])
    assert BAD_CHECKERS[spec] in str(caught.value)


def test_a_budget_without_sense_is_refused():
    for options in ({"cpu_seconds": 0}, {"memory_mb": 0}, {"workers": 0}, {"workers": -1}):
        with pytest.raises(UsageError):
            bench_answers(SHIPPED, ["strings"], **options)
