"""`progdata lint`: golds that cannot be graded, and problems with more than one gold."""

import gzip
import json
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback_hub import LoopbackHub
from shared_data import SHARED, needs_shared_data
from source_files import jsonl, write_source

from progdata.builders.columns import PROBLEMS
from progdata.builders.errors import ProgdataError, UsageError
from progdata.builders.schema import problem_id
from progdata.builders.sources import find_source, read_shards
from progdata.cards.lint_tables import lint_summary
from progdata.releases.linted import lint_source
from progdata.verifiers.golds import MOST_COMPARED, Relation, classes_of
from progdata.verifiers.grading import shared_pool
from progdata.verifiers.lint import INFORMATION, KINDS, Place, SourceRow, lint
from progdata.verifiers.pool import GradingPool

BENCHMARKS = SHARED / "data" / "benchmarks"
PROBLEM_FILES = SHARED / "data" / "problems"

FORMATS = ("a.jsonl", "a.jsonl.gz", "a.parquet")
FIELDS = ["file", "row", "problem_id", "kind", "detail", "answer", "problem", "others"]

SLOW = "$" + " \\cup ".join(f"({n},{n + 1})" for n in range(1, 2000, 2)) + "$"
"""A gold that takes longer than half a second."""


UNEQUAL = r"3,-\frac{3}{2}+\frac{3i\sqrt{3}}{2},-\frac{3}{2}-\frac{3i\sqrt{3}}{2"
"""A gold of DeepScaleR's, cut off, which does not equal itself."""


def problem(number: int, answer: object = "5", **fields: Any) -> dict[str, Any]:
    return {"problem": f"Problem {number}?", "answer": answer} | fields


@dataclass(frozen=True)
class Linted:
    """A report, and the findings that were written."""

    report: dict[str, Any]
    findings: list[dict[str, Any]]
    text: bytes

    @property
    def kinds(self) -> list[tuple[int, str]]:
        return [(finding["row"], finding["kind"]) for finding in self.findings]

    @property
    def contradictions(self) -> dict[int, list[int]]:
        """For each contradictory row, the other rows."""
        return {
            finding["row"]: [other["row"] for other in finding["others"]]
            for finding in self.findings
            if finding["kind"] == "contradictory"
        }


def lint_spec(spec: str, folder: Path, **options: Any) -> Linted:
    """Lint a source; what every report and finding must hold is checked."""
    out = folder / "findings" / "found.jsonl"
    report = lint_source(spec, out=out, **{"workers": 2} | options)
    text = out.read_bytes()
    findings = [json.loads(line) for line in text.splitlines()]
    for finding in findings:
        assert list(finding) == FIELDS and finding["detail"], finding
        assert finding["kind"] in KINDS and len(finding["problem"] or "") <= 300
        assert (finding["problem_id"] is None) == (finding["kind"] == "unreadable")
    counted = {kind: sum(own["kind"] == kind for own in findings) for kind in KINDS}
    faults = [own for own in findings if own["kind"] not in INFORMATION]
    assert report["counts"] == counted
    assert report["faulty"] == len({(own["file"], own["row"]) for own in faults})
    assert {own["kind"] for own in report["examples"]} == {own["kind"] for own in faults}
    assert report["out"] == str(out)
    assert [path.name for path in out.parent.iterdir()] == [out.name], "a temporary file is left"
    return Linted(report, findings, text)


def lint_rows(
    folder: Path, rows: Sequence[Mapping[str, Any]], name: str = "a.jsonl", **options: Any
) -> Linted:
    return lint_spec(write_source(folder / name, rows), folder, **options)


def read_problems(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def by_problem(rows: Iterable[Mapping[str, Any]]) -> list[list[tuple[int, Any]]]:
    """Row number and answer of the rows of each problem that stands in several."""
    found: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    for number, row in enumerate(rows, 1):
        if row["problem"]:
            found[problem_id(row["problem"])].append((number, row["answer"]))
    return [own for own in found.values() if len(own) > 1]


class TestGolds:
    @pytest.mark.parametrize(
        "gold",
        [
            "18", "-3", "1,000", "1/2", "0.5", "50\\%", "2\\pi", "\\frac{\\pi}{2}", "x^2+1",
            "(1,2)", "$x^2$", "x > 1", "A", "\\text{Tuesday}", "\\boxed{5}",
            "So it is $\\boxed{\\frac12}$.", "\\boxed{\\boxed{5}}", "\\boxed{} \\boxed{4}",
            18, 2.5, ["7"],
        ],
    )  # fmt: skip
    def test_gold_that_can_be_graded_is_no_finding(self, tmp_path: Path, gold: object) -> None:
        assert lint_rows(tmp_path, [problem(1, gold)]).findings == []

    @pytest.mark.parametrize(
        ("gold", "kind", "detail"),
        [
            (None, "empty_gold", "empty"),
            ("", "empty_gold", "empty"),
            (" \n\t", "empty_gold", "empty"),
            ("\u200b\u2060", "empty_gold", "empty"),
            ([], "empty_gold", "empty"),
            ("It holds since every even number has two odd parts", "prose_gold", "prose"),
            ("\\div", "ungradable_gold", "not mathematics; read as \\div"),
            ("\\frac{1}{", "ungradable_gold", "not mathematics; read as \\frac{1}{"),
            ("\\iff", "ungradable_gold", "not mathematics; read as \\iff"),
            (UNEQUAL, "ungradable_gold", "gold does not equal itself; read as 3,"),
            (SLOW, "slow_gold", "timeout: over its budget of 0.5 CPU seconds"),
            ("\\boxed{3}, and at last \\boxed{4}", "several_boxes", "2 boxes; read as 4"),
            ("\\boxed{3} and \\boxed{4}", "several_boxes", "2 boxes; read as 3,4"),
            ("\\fbox{1}, \\boxed{2}, \\boxed{3}", "several_boxes", "3 boxes; read as 1,2,3"),
        ],
    )
    def test_gold_with_a_fault_is_named_with_the_evidence(
        self, tmp_path: Path, gold: object, kind: str, detail: str
    ) -> None:
        rows = [problem(1), problem(2, gold), problem(3, "7")]
        linted = lint_rows(tmp_path, rows, cpu_seconds=0.5)
        assert linted.kinds == [(2, kind)]
        assert detail in linted.findings[0]["detail"]
        assert linted.findings[0]["problem"] == "Problem 2?"
        assert linted.findings[0]["problem_id"] == problem_id("Problem 2?")
        assert linted.report["faulty"] == 1 and linted.report["rows"] == 3

    def test_one_row_may_have_several_findings(self, tmp_path: Path) -> None:
        gold = "\\boxed{\\div} or, if that fails, rather \\boxed{\\iff}"
        linted = lint_rows(tmp_path, [problem(1, gold), problem(1, gold)])
        kinds = ["ungradable_gold", "several_boxes", "duplicate_problem"]
        assert linted.kinds == [(row, kind) for row in (1, 2) for kind in kinds]
        assert linted.report["faulty"] == 2

    def test_gold_over_its_memory_is_slow(self, tmp_path: Path) -> None:
        linted = lint_rows(tmp_path, [problem(1, SLOW)], memory_mb=1, cpu_seconds=60)
        assert linted.kinds == [(1, "slow_gold")]
        assert linted.findings[0]["detail"] == "error: over its memory of 1 MB"

    def test_equal_golds_are_graded_once(self, tmp_path: Path) -> None:
        class Counting(GradingPool):
            asked = 0

            def submit(self, request: dict[str, Any]) -> Any:
                self.asked += 1
                return super().submit(request)

        rows = [
            SourceRow(Place("f", n, "\\div" if n % 2 else "\\iff"), f"{n}") for n in range(5_000)
        ]
        pool = Counting(1)
        with pool:
            found = lint(rows, pool)
        assert pool.asked == 2
        assert found.counts["ungradable_gold"] == found.faulty == found.rows == 5_000
        assert found.golds == 2


class TestRepeatedProblems:
    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("5", "5"),
            ("0.5", "\\frac{1}{2}"),
            ("1/2", "$\\dfrac12$"),
            ("83", "83^\\circ"),
            ("97", "097"),
            ("x > 1", "(1, \\infty)"),
            ("101", "100 + 1 = 101"),  # verify says so one way alone
            ("2\\sqrt{2}", "\\sqrt{8}"),
            ("(x+1)^2", "x^2+2x+1"),
            ("\\boxed{7}", "7"),
            ("No real solution", "\\text{no real solution.}"),
        ],
    )
    def test_equal_golds_in_any_notation_are_information(
        self, tmp_path: Path, one: str, other: str, turned: bool
    ) -> None:
        golds = (other, one) if turned else (one, other)
        linted = lint_rows(tmp_path, [problem(1, gold) for gold in golds])
        assert linted.kinds == [(1, "duplicate_problem"), (2, "duplicate_problem")]
        assert linted.report["faulty"] == 0
        assert [finding["others"][0]["answer"] for finding in linted.findings] == [*golds[::-1]]

    @pytest.mark.parametrize(
        ("golds", "contradictions"),
        [
            (["5", "6"], {1: [2], 2: [1]}),
            (["300", "300", "301", "300.0"], {1: [3], 2: [3], 3: [1, 2, 4], 4: [3]}),
            (["1", "2", "3"], {1: [2, 3], 2: [1, 3], 3: [1, 2]}),
            (["1/2", "3", "0.5", "6/2"], {1: [2, 4], 2: [1, 3], 3: [2, 4], 4: [1, 3]}),
            (["x", "y", "\\text{Monday}"], {1: [2, 3], 2: [1, 3], 3: [1, 2]}),
            (["A", "B"], {1: [2], 2: [1]}),
            (["(1,2)", "(2,1)"], {1: [2], 2: [1]}),
        ],
    )
    def test_golds_that_differ_are_contradictory(
        self, tmp_path: Path, golds: list[str], contradictions: dict[int, list[int]]
    ) -> None:
        linted = lint_rows(tmp_path, [problem(1, gold) for gold in golds])
        assert linted.contradictions == contradictions
        assert linted.report["faulty"] == len(golds) == linted.report["counts"]["contradictory"]
        assert linted.report["counts"]["duplicate_problem"] == 0

    def test_contradiction_says_what_the_others_have(self, tmp_path: Path) -> None:
        golds = ["301", "300", "300", "7", "8", "9"]
        linted = lint_rows(tmp_path, [problem(1, gold) for gold in golds])
        expected = "elsewhere: 300 (2 rows), 7 (1 row), 8 (1 row) and 1 more"
        assert linted.findings[0]["detail"] == expected
        file = str(tmp_path / "a.jsonl")
        assert linted.findings[1]["others"][0] == {"file": file, "row": 1, "answer": "301"}

    @pytest.mark.parametrize("unknown", ["", "\\div", UNEQUAL, SLOW])
    def test_gold_that_cannot_be_graded_contradicts_nothing(
        self, tmp_path: Path, unknown: str
    ) -> None:
        """It has its own fault; and it does not hide what the others contradict."""
        rows = [problem(n, gold) for n in (1, 2) for gold in (unknown, "5")]
        linted = lint_rows(tmp_path, [*rows, problem(2, "6")], cpu_seconds=0.5)
        assert linted.contradictions == {4: [5], 5: [4]}
        repeated = [own for own in linted.findings if own["kind"] == "duplicate_problem"]
        assert [own["row"] for own in repeated] == [1, 2, 3]
        cannot = [own["row"] for own in repeated if "this one cannot be" in own["detail"]]
        assert cannot == [1, 3]

    def test_problems_are_the_same_by_their_id(self, tmp_path: Path) -> None:
        texts = ["Find  $x$.", " Find\n$x$.", "Find $X$.", "Caf\u00e9?", "Cafe\u0301?"]
        rows = [{"problem": text, "answer": str(n)} for n, text in enumerate(texts)]
        linted = lint_rows(tmp_path, rows)
        assert linted.contradictions == {1: [2], 2: [1], 4: [5], 5: [4]}
        assert {own["problem"] for own in linted.findings} == {"Find $x$.", "Caf\u00e9?"}
        assert linted.report["problems"] == 3 == len({problem_id(text) for text in texts})

    def test_files_are_compared_with_each_other(self, tmp_path: Path) -> None:
        for name, gold in zip(FORMATS, ("1", "2", "1.0"), strict=True):
            write_source(tmp_path / name, [problem(0, "9"), problem(1, gold)])
        linted = lint_spec(str(tmp_path / "a.*"), tmp_path)
        assert [
            (Path(own["file"]).name, [Path(other["file"]).name for other in own["others"]])
            for own in linted.findings
            if own["kind"] == "contradictory"
        ] == [
            ("a.jsonl", ["a.jsonl.gz"]),
            ("a.jsonl.gz", ["a.jsonl", "a.parquet"]),
            ("a.parquet", ["a.jsonl.gz"]),
        ]

    def test_many_rows_of_one_problem_stay_small(self, tmp_path: Path) -> None:
        """Each finding names ten others, and golds are not all compared with each other."""
        begun = time.monotonic()
        rows = [problem(1, str(n % 400)) for n in range(1_200)]
        linted = lint_rows(tmp_path, rows)
        assert linted.report["counts"]["contradictory"] == 1_200
        for finding in linted.findings:
            assert len(finding["others"]) == 10
            assert finding["answer"] not in {other["answer"] for other in finding["others"]}
        assert linted.report["golds"] == 400
        assert time.monotonic() - begun < 60


@given(
    golds=st.lists(st.lists(st.integers(0, 99), unique=True, max_size=60), max_size=4),
    classes=st.integers(1, 40),
    unknown=st.sets(st.integers(0, 99)),
)
def test_classes_are_those_of_the_relation(
    golds: list[list[int]], classes: int, unknown: set[int]
) -> None:
    """Equal golds share a class and different ones do not, up to the last class."""

    def relation(one: int, other: int) -> Relation:
        if {one, other} & unknown:
            return "unknown"
        return "equal" if one % classes == other % classes else "different"

    def relate(pairs: Iterable[tuple[str, str]]) -> Iterator[Relation]:
        for one, other in pairs:
            yield relation(int(one), int(other))

    first = [sorted(own, key=lambda gold: gold in unknown) for own in golds]
    found = classes_of([[str(gold) for gold in own] for own in first], relate)
    assert len(found) == len(golds)
    for own, result in zip(first, found, strict=True):
        known = [gold for gold in own if gold not in unknown]
        assert [gold for gold in own if str(gold) in result] == (known or own[:1])
        for one in known:
            for other in known:
                numbers = result[str(one)], result[str(other)]
                if min(numbers) < MOST_COMPARED:
                    assert (numbers[0] == numbers[1]) == (relation(one, other) == "equal")


class TestSources:
    @pytest.mark.parametrize("completion", [{}, {"completion": "<think>a</think>b"}])
    def test_all_formats_give_the_same_findings(
        self, tmp_path: Path, completion: dict[str, str]
    ) -> None:
        rows = [problem(n % 7, answer, **completion) for n, answer in enumerate(["5", "", "6"] * 5)]
        linted = [lint_rows(tmp_path, rows, name) for name in FORMATS]
        found = [
            [own | {"file": None, "others": len(own["others"])} for own in one.findings]
            for one in linted
        ]
        assert found[0] == found[1] == found[2] != []

    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("completion", [None, "", {"text": "a"}, ["a", "b"]])
    def test_completions_are_not_read(self, tmp_path: Path, name: str, completion: object) -> None:
        rows = [problem(1, completion=completion), problem(2, completion=completion)]
        assert lint_rows(tmp_path, rows, name).findings == []

    def test_completions_are_not_even_loaded(self, tmp_path: Path) -> None:
        row = problem(1, completion="c", reasoning="r", content="c", generations=["g"], zzz=1)
        spec = write_source(tmp_path / "a.parquet", [row])
        (shard,) = read_shards([find_source(spec, needs=PROBLEMS)])
        assert sorted(getattr(shard.data, "column_names", ())) == ["answer", "problem"]

    def test_other_names_of_columns_and_chats_are_read(self, tmp_path: Path) -> None:
        rows = [
            {"question": "Q?", "gold": "\\div"},
            {"messages": [{"role": "user", "content": "Q?"}], "final_answer": "5"},
        ]
        linted = lint_rows(tmp_path, rows)
        kinds = [(1, "ungradable_gold"), (1, "duplicate_problem"), (2, "duplicate_problem")]
        assert linted.kinds == kinds

    def test_unreadable_rows_are_findings_in_their_place(self, tmp_path: Path) -> None:
        lines = [
            json.dumps(problem(1)).encode(),
            b'{"problem": ',
            b"[1]",
            b"",
            json.dumps({"problem": "  ", "answer": "1"}).encode(),
            json.dumps({"problem": ["a", "b"], "answer": "1"}).encode(),
            b'{"problem": "\\ud800", "answer": "1"}',
            b'{"problem": "p", "answer": "\\udfff"}',
            b'{"problem": "\xff", "answer": "1"}',
            json.dumps(problem(2, "")).encode(),
        ]
        spec = write_source(tmp_path / "a.jsonl", b"\n".join(lines))
        linted = lint_spec(spec, tmp_path)
        assert [(own["row"], own["detail"].partition(":")[0]) for own in linted.findings] == [
            (2, "invalid_json"),
            (3, "not_an_object"),
            (5, "empty_problem"),
            (6, "problem_not_text"),
            (7, "invalid_unicode"),
            (8, "invalid_unicode"),
            (9, "invalid_utf8"),
            (10, "empty gold"),
        ]
        assert linted.report["counts"]["unreadable"] == 7
        assert linted.report["rows"] == 9 and linted.report["problems"] == 2

    def test_limit_cuts_the_rows(self, tmp_path: Path) -> None:
        linted = lint_rows(tmp_path, [problem(n, "") for n in range(9)], limit=4)
        assert linted.kinds == [(row, "empty_gold") for row in range(1, 5)]
        assert linted.report["rows"] == 4

    def test_countdown_has_no_fault(self, tmp_path: Path) -> None:
        linted = lint_spec("countdown:200", tmp_path)
        assert linted.report["rows"] == 200 and linted.report["faulty"] == 0

    def test_hub_dataset_without_completions_is_read(self, tmp_path: Path) -> None:
        rows = jsonl([problem(1, "5"), problem(1, "6"), problem(2, "")])
        client = (
            "import json; from progdata.releases.linted import lint_source\n"
            "print(json.dumps(lint_source('hf:org/golds', workers=1)))"
        )
        with LoopbackHub() as hub:
            hub.add_dataset("org/golds", {"data.jsonl": rows})
            done = subprocess.run(
                [sys.executable, "-c", client],
                env=hub.client_env(tmp_path / "hf"),
                capture_output=True,
                text=True,
                timeout=120,
            )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert (report["rows"], report["faulty"]) == (3, 3)
        assert [(own["file"], own["row"], own["kind"]) for own in report["examples"]] == [
            ("hf:org/golds", 1, "contradictory"),
            ("hf:org/golds", 2, "contradictory"),
            ("hf:org/golds", 3, "empty_gold"),
        ]


class TestFindingsFile:
    ROWS = tuple(
        problem(n % 400, ["5", "", "\\div", "6", str(n), "\\frac{n}{2}"][n % 6])
        for n in range(3_000)
    )

    def test_findings_stand_in_input_order(self, tmp_path: Path) -> None:
        linted = lint_rows(tmp_path, self.ROWS)
        order = [(row, KINDS.index(kind)) for row, kind in linted.kinds]  # type: ignore[arg-type]
        assert order == sorted(order) and len(set(order)) == len(order) > 3_000

    def test_bytes_do_not_depend_on_the_number_of_workers(self, tmp_path: Path) -> None:
        texts = [lint_rows(tmp_path, self.ROWS, workers=workers).text for workers in (1, 2)]
        assert texts[0] == texts[1]

    def test_source_without_findings_gives_an_empty_file(self, tmp_path: Path) -> None:
        linted = lint_rows(tmp_path, [problem(1)])
        assert linted.text == b"" and linted.report["faulty"] == 0

    def test_failed_run_leaves_what_was_there(self, tmp_path: Path) -> None:
        """And it does not go on to grade what it asked for: minutes of work, here."""
        whole = gzip.compress(jsonl([problem(n, f"{SLOW} + {n}") for n in range(700)]))
        path = tmp_path / "cut.jsonl.gz"
        path.write_bytes(whole[:-100])
        out = tmp_path / "out" / "found.jsonl"
        write_source(out, b"what was there\n")
        begun = time.monotonic()
        with pytest.raises(ProgdataError, match="the gzip stream is damaged or cut off"):
            lint_source(str(path), out=out, workers=1, cpu_seconds=0.5)
        assert out.read_bytes() == b"what was there\n"
        assert [path.name for path in out.parent.iterdir()] == [out.name]
        assert lint_rows(tmp_path, [problem(1)], workers=1).findings == []
        assert time.monotonic() - begun < 30

    def test_file_that_cannot_be_written_whole_leaves_what_was_there(self, tmp_path: Path) -> None:
        spec = write_source(tmp_path / "a.jsonl", self.ROWS)
        out = tmp_path / "out" / "found.jsonl"
        write_source(out, b"what was there\n")
        client = (
            "import resource, sys; from pathlib import Path\n"
            "from progdata.releases.linted import lint_source\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "lint_source(sys.argv[1], out=Path(sys.argv[2]), workers=1)"
        )
        done = subprocess.run(
            [sys.executable, "-c", client, spec, str(out)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1 and "OSError: [Errno 27] File too large" in done.stderr
        assert out.read_bytes() == b"what was there\n"
        assert [path.name for path in out.parent.iterdir()] == [out.name]


class TestWrongUse:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"limit": 0}, "limit 0: give a number of at least 1"),
            ({"workers": 0}, "workers 0: give a number of at least 1"),
            ({"cpu_seconds": 0}, "more than 0 CPU seconds"),
            ({"cpu_seconds": float("nan")}, "more than 0 CPU seconds"),
            ({"memory_mb": 0}, "and 1 MB"),
            ({"out": "found.parquet"}, "name a .jsonl file"),
            ({"out": "folder.jsonl"}, "name a .jsonl file"),
            ({"out": "a.jsonl"}, "the findings would replace their source"),
        ],
    )
    def test_option_that_makes_no_sense(
        self, tmp_path: Path, options: dict[str, Any], message: str
    ) -> None:
        content = jsonl([problem(1)])
        spec = write_source(tmp_path / "a.jsonl", content)
        (tmp_path / "folder.jsonl").mkdir()
        if "out" in options:
            options = {"out": tmp_path / options["out"]}
        with pytest.raises(UsageError, match=message):
            lint_source(spec, **options)
        assert (tmp_path / "a.jsonl").read_bytes() == content

    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("missing", ["problem", "answer"])
    def test_missing_column_names_the_columns_found(
        self, tmp_path: Path, name: str, missing: str
    ) -> None:
        row = problem(1, completion="c", zzz=1)
        del row[missing]
        spec = write_source(tmp_path / name, [row])
        with pytest.raises(ProgdataError) as caught:
            lint_source(spec, out=tmp_path / "found.jsonl")
        assert f"{spec}: no column holds the {missing} (looked for {missing}, " in str(caught.value)
        found = str(caught.value).rpartition("columns found: ")[2].split(", ")
        assert sorted(found) == sorted(row)
        assert not (tmp_path / "found.jsonl").exists()

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.jsonl", b"", "expected rows with a problem and an answer"),
            ("a.jsonl", b"\n\n", "expected one object with a problem and an answer a line"),
            ("a.jsonl", b"x\n", "expected one object with a problem and an answer a line"),
            ("a.csv", b"problem,answer\n", "not a .jsonl, .jsonl.gz or .parquet file"),
            ("a.parquet", b"PAR1", "not a whole Parquet file"),
        ],
    )
    def test_file_that_holds_no_problems(
        self, tmp_path: Path, name: str, content: bytes, message: str
    ) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ProgdataError, match=message):
            lint_source(str(tmp_path / name))

    def test_source_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ProgdataError, match="no such file"):
            lint_source(str(tmp_path / "a.jsonl"))


def test_memory_does_not_grow_with_the_length_of_problems() -> None:
    """40 MB of problems, of which all but a window are let go."""
    rows = (
        SourceRow(Place("f", n, str(n % 10)), f"{n % 6_000} " + "word " * 1_000)
        for n in range(8_000)
    )
    tracemalloc.start()
    try:
        found = lint(rows, shared_pool(1))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (found.rows, found.problems, found.golds) == (8_000, 6_000, 10)
    assert found.counts["duplicate_problem"] == 4_000
    assert peak < 16 << 20


class TestSummary:
    def test_summary_names_faults_and_where_they_are(self, tmp_path: Path) -> None:
        rows = [problem(n, gold) for n, gold in enumerate(["5", "\\div", "", "\\iff\n\\div"])]
        linted = lint_rows(tmp_path, [*rows, problem(0, "6"), problem(9), problem(9)])
        summary = lint_summary(linted.report)
        assert "7 rows, 5 problems, 4 golds; 5 rows with a fault" in summary
        lines = [line.split() for line in summary.splitlines()]
        assert ["ungradable_gold", "2"] in lines and ["contradictory", "2"] in lines
        assert "a.jsonl:2" in summary and "\\div: gold is not mathematics" in summary
        assert "2 rows share a problem with others" in summary
        assert linted.report["out"] in summary
        assert "slow_gold" not in summary

    def test_summary_of_a_source_without_faults_is_short(self, tmp_path: Path) -> None:
        spec = write_source(tmp_path / "a.jsonl", [problem(1)])
        summary = lint_summary(lint_source(spec))
        assert len(summary.splitlines()) == 1 and "0 rows with a fault" in summary


@needs_shared_data
class TestRealData:
    def test_benchmarks_have_a_few_ungradable_golds_and_no_other_fault(
        self, tmp_path: Path
    ) -> None:
        linted = lint_spec(str(BENCHMARKS / "*.jsonl.gz"), tmp_path)
        rows = chain.from_iterable(map(read_problems, sorted(BENCHMARKS.glob("*.jsonl.gz"))))
        repeated = sum(map(len, by_problem(rows)))
        assert linted.report["rows"] == 2_949
        counts = {kind: rows for kind, rows in linted.report["counts"].items() if rows}
        assert 1 <= counts.pop("ungradable_gold") <= 10
        assert counts == {"duplicate_problem": repeated}
        faulty = {(Path(own["file"]).name, own["answer"]) for own in linted.findings}
        assert ("olympiadbench.jsonl.gz", "$t(0,4]$") in faulty

    def test_deepscaler_part_is_linted_in_under_a_minute(self, tmp_path: Path) -> None:
        path = PROBLEM_FILES / "deepscaler_train_part.jsonl.gz"
        linted = lint_spec(str(path), tmp_path)
        rows = list(read_problems(path))
        counts = linted.report["counts"]
        assert linted.report["rows"] == 8_449 == len(rows)
        assert linted.report["golds"] == len({row["answer"] for row in rows if row["answer"]})
        assert counts["empty_gold"] == sum(not row["answer"] for row in rows) == 2
        assert counts["duplicate_problem"] == sum(map(len, by_problem(rows))) == 578
        assert counts["ungradable_gold"] <= 7
        assert linted.report["faulty"] == counts["empty_gold"] + counts["ungradable_gold"]
        assert linted.report["seconds"] < 60

    def test_contradictions_of_deepscaler_are_found(self, tmp_path: Path) -> None:
        """Where all golds of a problem are integers, they contradict if they are not one number."""
        path = PROBLEM_FILES / "deepscaler_train.jsonl.gz"
        rows = list(read_problems(path))
        kept = sorted(number for own in by_problem(rows) for number, _ in own)
        linted = lint_rows(tmp_path, [rows[number - 1] for number in kept])
        contradictory = linted.contradictions.keys()
        integers = 0
        for own in by_problem(rows[number - 1] for number in kept):
            if all(answer.removeprefix("-").isdecimal() for _, answer in own):
                differ = len({int(answer) for _, answer in own}) > 1
                assert {number in contradictory for number, _ in own} == {differ}
                integers += differ
        assert integers > 40
        assert linted.report["counts"]["contradictory"] > 200

    def test_parquet_of_real_problems_gives_the_same(self, tmp_path: Path) -> None:
        path = PROBLEM_FILES / "math_perturb.jsonl.gz"
        table = pa.Table.from_pylist(list(read_problems(path)))
        pq.write_table(table, tmp_path / "a.parquet")
        reports = [
            lint_spec(spec, tmp_path).report for spec in (str(path), f"{tmp_path}/a.parquet")
        ]
        keys = ("rows", "problems", "golds", "faulty", "counts")
        assert [reports[0][key] for key in keys] == [reports[1][key] for key in keys]
