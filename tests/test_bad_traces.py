"""What bad traces get: a reject with a reason; nothing is lost, and nothing is doubled."""

import json
from pathlib import Path

import pytest
from source_files import (
    GOOD,
    GOOD_PROBLEMS,
    build_file,
    build_sources,
    jsonl,
    plain,
    read_rejects,
    trace,
    write_source,
)
from tokenizers import Tokenizer, models, pre_tokenizers

from progdata.builders.errors import ProgdataError
from progdata.builders.markers import MarkerGrammar


class TestRows:
    @pytest.mark.parametrize("value", [None, "", " \n\t\u3000", [], [None], float("nan")])
    @pytest.mark.parametrize("field", ["problem", "completion"])
    def test_row_without_a_problem_or_completion_is_refused(
        self, tmp_path: Path, field: str, value: object
    ) -> None:
        bad = trace(8, **{field: value})
        missing = {name: own for name, own in trace(9).items() if name != field}
        outcome = build_file(tmp_path, [*GOOD, bad, missing])
        assert outcome.problems == GOOD_PROBLEMS
        if value == []:  # a list is no text, even an empty one
            assert outcome.reasons == [(4, f"{field}_not_text"), (5, f"empty_{field}")]
        else:
            assert outcome.reasons == [(4, f"empty_{field}"), (5, f"empty_{field}")]
        assert outcome.report["rejected"].keys() == {"read"}
        assert json.loads(outcome.rejects[1]["raw"]) == missing

    @pytest.mark.parametrize("answer", [None, "", "  \n", [], {}, [None], [""], float("nan")])
    def test_row_without_an_answer_is_kept_with_none(self, tmp_path: Path, answer: object) -> None:
        missing = {name: own for name, own in trace(9).items() if name != "answer"}
        outcome = build_file(tmp_path, [trace(1), trace(2, answer=answer), missing])
        assert [row["answer"] for row in outcome.rows] == ["1", None, None]

    @pytest.mark.parametrize("shard_bytes", [1, 8 << 20])
    def test_duplicate_is_refused_and_names_the_first(
        self, tmp_path: Path, shard_bytes: int
    ) -> None:
        first = write_source(tmp_path / "a.jsonl", [*GOOD, GOOD[1]])
        second = write_source(tmp_path / "b.parquet", [trace(4), GOOD[0]])
        outcome = build_sources(tmp_path / "out", [first, second], shard_bytes=shard_bytes)
        assert outcome.problems == [*GOOD_PROBLEMS, "Problem 4?"]
        assert [(own["file"], own["row"], own["detail"]) for own in outcome.rejects] == [
            (first, 4, f"the same trace as {first} row 2"),
            (second, 2, f"the same trace as {first} row 1"),
        ]
        assert outcome.report["rejected"] == {"duplicates": {"duplicate_trace": 2}}
        assert outcome.rejects[0]["trace_id"] == outcome.rows[1]["trace_id"]

    def test_source_that_is_named_twice_gives_duplicates(self, tmp_path: Path) -> None:
        spec = write_source(tmp_path / "a.jsonl", GOOD)
        outcome = build_sources(tmp_path / "out", [spec, spec])
        assert outcome.report["rows_in"] == 6 and outcome.problems == GOOD_PROBLEMS
        assert outcome.reasons == [(row, "duplicate_trace") for row in (1, 2, 3)]

    def test_same_text_of_another_model_is_no_duplicate(self, tmp_path: Path) -> None:
        outcome = build_file(tmp_path, [trace(1, model="a"), trace(1, model="b"), trace(1)])
        assert len(outcome.rows) == 3

    def test_limit_counts_rows_over_all_files(self, tmp_path: Path) -> None:
        specs = [
            write_source(tmp_path / "a.jsonl", b"\n\n" + jsonl(GOOD).replace(b"\n", b"\n\n\n")),
            write_source(tmp_path / "b.parquet", [trace(4), trace(5)]),
            write_source(tmp_path / "c.jsonl.gz", [trace(6), trace(7)]),
        ]
        for limit in (1, 3, 4, 6, 7):
            outcome = build_sources(tmp_path / f"out{limit}", specs, limit=limit)
            assert outcome.problems == [f"Problem {n}?" for n in range(1, limit + 1)]

    @pytest.mark.parametrize("shard_bytes", [1, 300, 8 << 20])
    def test_limit_counts_refused_rows_and_reads_no_further(
        self, tmp_path: Path, shard_bytes: int
    ) -> None:
        content = jsonl(GOOD[:1]) + b"\nbad\n" + jsonl(GOOD[1:]) + b"bad\n"
        outcome = build_file(tmp_path, content, limit=3, shard_bytes=shard_bytes)
        assert outcome.report["rows_in"] == 3
        assert outcome.problems == GOOD_PROBLEMS[:2]
        assert outcome.reasons == [(3, "invalid_json")]

    def test_limit_larger_than_the_data_reads_all(self, tmp_path: Path) -> None:
        assert build_file(tmp_path, GOOD, limit=10**12).problems == GOOD_PROBLEMS

    def test_build_without_a_row_left_fails_and_keeps_the_rejects(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        spec = write_source(tmp_path / "a.jsonl", [trace(1, problem=""), trace(2, completion="x")])
        with pytest.raises(ProgdataError) as caught:
            build_sources(out, [spec])
        assert caught.value.exit_code == 1
        assert "1 empty_problem" in str(caught.value) and "1 think_not_closed" in str(caught.value)
        assert [own["row"] for own in read_rejects(out)] == [1, 2]
        assert {path.name for path in out.iterdir()} == {".progdata", "rejects.parquet"}

    def test_folder_of_a_build_without_a_row_left_can_be_built_again(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        spec = write_source(tmp_path / "a.jsonl", [trace(1, problem="")])
        with pytest.raises(ProgdataError):
            build_sources(out, [spec])
        write_source(tmp_path / "a.jsonl", GOOD)
        outcome = build_sources(out, [spec])
        assert outcome.problems == GOOD_PROBLEMS and outcome.rejects == []


class TestThinking:
    @pytest.mark.parametrize(
        ("completion", "stage", "reason"),
        [
            ("<think>a<think>b</think>c", "think", "repeated_think"),
            ("<think>a<think>b</think>c</think>d", "think", "repeated_think"),
            ("<think>a</think>b<think>c</think>d", "think", "repeated_think"),
            ("<think>a</think>b</think>", "think", "repeated_think"),
            ("a</think>b</think>c", "think", "repeated_think"),
            ("a</think><think>b</think>c", "think", "repeated_think"),
            ("a</think>b<think>c", "think", "repeated_think"),
            ("Sure. <think>a</think>b", "think", "text_before_think"),
            ("<think>a", "think", "think_not_closed"),
            ("a and no tag", "think", "think_not_closed"),
            ("<think></think>b", "think", "empty_thinking"),
            ("<think> \n\u3000\u2028</think>b", "think", "empty_thinking"),
            ("</think>b", "think", "empty_thinking"),
            ("<think>\x01\x02</think>b", "progress", "no_thinking_tokens"),
        ],
    )
    def test_thinking_that_is_not_one_stretch_is_refused(
        self, tmp_path: Path, completion: str, stage: str, reason: str
    ) -> None:
        outcome = build_file(tmp_path, [*GOOD, trace(8, completion=completion)])
        assert outcome.problems == GOOD_PROBLEMS
        (reject,) = outcome.rejects
        assert (reject["stage"], reject["reason"], reject["row"]) == (stage, reason, 4)
        assert json.loads(reject["raw"])["completion"] == completion
        assert json.loads(reject["raw"])["problem"] == "Problem 8?"
        assert reject["trace_id"] and reject["problem_id"]

    @pytest.mark.parametrize(
        ("completion", "prefilled"),
        [
            ("<think>a</think>", False),
            ("\n <think>a</think>b", False),
            ("a</think>b", True),
            ("\n\na\n</think>\n\nb", True),
            ("<think>a </ think> <THINK> < think></think>b", False),
        ],
    )
    def test_thinking_is_kept_as_it_was_written(
        self, tmp_path: Path, completion: str, prefilled: bool
    ) -> None:
        outcome = build_file(tmp_path, [trace(1, completion=completion)])
        assert plain(outcome) == [completion]
        assert outcome.rows[0]["think_prefilled"] is prefilled and outcome.rows[0]["think_closed"]

    def test_thinking_of_which_the_tokenizer_knows_nothing_is_refused(self, tmp_path: Path) -> None:
        tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        rows = [trace(1, completion=f"<think>{think}</think>a") for think in ("ab", "xyz", "ya")]
        outcome = build_file(tmp_path, rows, tokenizer=str(tmp_path))
        assert [row["num_tokens"] for row in outcome.rows] == [2, 1]
        assert outcome.reasons == [(2, "no_thinking_tokens")]

    def test_cut_trace_is_kept_without_markers_where_the_policy_says_so(
        self, tmp_path: Path
    ) -> None:
        rows = [trace(1), trace(2, completion="<think>a\n\nb"), trace(3, completion="a\n\nb")]
        outcome = build_file(tmp_path, rows, policies={"cut_traces": "keep"})
        assert plain(outcome) == [row["completion"] for row in rows]
        assert [bool(row["labels"]) for row in outcome.rows] == [True, False, False]
        assert [row["think_closed"] for row in outcome.rows] == [True, False, False]


class TestMarkersInTraces:
    MARKED = (
        "<think>\na <progressbar>37%</progressbar>\n\nb</think>c",
        "<think>\na\n\nb</think>c <progressbar>37%</progressbar>",
        "<think>a <progressbar></think>b",
        "<think>a</think>b</progressbar>",
        "<think>a <progressbar>[50%]</progressbar></think>b",
        "<think>a <progressbar>never\n\nclosed</think>b",
    )

    @pytest.mark.parametrize("completion", MARKED)
    def test_trace_that_holds_marker_text_is_refused(self, tmp_path: Path, completion: str) -> None:
        outcome = build_file(tmp_path, [*GOOD, trace(8, completion=completion)])
        assert outcome.problems == GOOD_PROBLEMS
        assert outcome.reasons == [(4, "holds_markers")]
        assert outcome.rejects[0]["stage"] == "think"

    @pytest.mark.parametrize("segmenter", ["newline", "tokens:1"])
    def test_escaped_trace_is_restored_exactly(self, tmp_path: Path, segmenter: str) -> None:
        escaped = (
            "<think><\\progressbar>1%<\\/progressbar>\n\n<\\\\progressbar>\n\n<progressbar</think>b"
        )
        texts = [*self.MARKED, escaped, "<think><\n\n<<progressbar>></think><\\\\/progressbar>"]
        rows = [trace(1, completion=text, model=str(n)) for n, text in enumerate(texts)]
        outcome = build_file(
            tmp_path,
            rows,
            policies={"marked_traces": "escape"},
            segmenter=segmenter,
            variants=["clean", "noisy"],
        )
        assert plain(outcome, MarkerGrammar(escaped=True)) == texts
        for row in outcome.rows:
            assert row["completion"].count("<progressbar>") == len(row["labels"])

    def test_markers_of_another_tag_are_plain_text(self, tmp_path: Path) -> None:
        rows = [trace(1, completion=self.MARKED[0])]
        outcome = build_file(tmp_path, rows, markers={"tag": "p"})
        assert plain(outcome, MarkerGrammar("p")) == [self.MARKED[0]]

    @pytest.mark.parametrize("token", ["[50%]", "[0%]", "[100%]"])
    @pytest.mark.parametrize("variants", [["special"], ["clean", "masked-special"]])
    def test_text_of_a_special_token_is_refused_where_one_is_built(
        self, tmp_path: Path, token: str, variants: list[str]
    ) -> None:
        think = trace(8, completion=f"<think>a {token}</think>b")
        response = trace(9, completion=f"<think>a</think>b {token}")
        outcome = build_file(tmp_path, [*GOOD, think, response], variants=variants)
        assert outcome.problems == GOOD_PROBLEMS
        assert outcome.reasons == [(4, "holds_progress_token"), (5, "holds_progress_token")]

    def test_text_of_a_special_token_is_plain_text_elsewhere(self, tmp_path: Path) -> None:
        texts = ["<think>a [50%]</think>b", "<think>[101%] [5 %] [050%] [-1%]</think>[%]"]
        rows = [trace(1, completion=text) for text in texts]
        assert plain(build_file(tmp_path / "clean", rows, variants=["clean", "noisy"])) == texts
        special = build_file(tmp_path / "special", rows, variants=["special"])
        assert plain(special) == texts[1:]
