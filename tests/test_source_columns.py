"""Which columns of a source are taken for a trace, in the forms that published data has."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from source_files import build_file, build_sources, file_failure, jsonl, plain, trace

from progdata.builders.errors import ProgdataError, UsageError

A, B, C = (f"<think>\n{name}\n</think>\n\n{name}" for name in "abc")
CUT = "<think>\nnot finished"
FORMATS = ("a.jsonl", "a.jsonl.gz", "a.parquet")


def openr1(generations: list[Any], **columns: object) -> dict[str, Any]:
    """A row with the columns of open-r1/OpenR1-Math-220k."""
    row = {"problem": "What is it?", "answer": "a", "source": "olympiads", "uuid": "1"}
    return row | {"generations": generations} | columns


class TestGenerations:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize(
        ("complete", "verified", "llama", "index"),
        [
            ([True, True, True], [True, True, True], None, 0),
            ([True, True, True], [False, True, True], None, 1),
            ([False, True, True], [True, False, True], None, 2),
            ([False, False, True], None, None, 2),
            (None, [False, True, False], None, 1),
            ([True, True, True], [False, False, False], [False, False, True], 2),
            ([True, True, True], None, [False, True, True], 1),
            (None, None, None, 0),
            ([True, True], [None, False, True], None, None),
            ([True, True, True], [False, False, False], None, None),
            ([False, False, False], [True, True, True], None, None),
            ([True, False, True], [False, True], [None, True, None], None),
        ],
    )
    def test_first_complete_and_verified_one_is_taken(
        self,
        tmp_path: Path,
        name: str,
        complete: list[bool] | None,
        verified: list[bool] | None,
        llama: list[bool] | None,
        index: int | None,
    ) -> None:
        row = openr1(
            [A, B, C],
            is_reasoning_complete=complete,
            correctness_math_verify=verified,
            correctness_llama=llama,
            finish_reasons=["stop", "length", "eos"],
        )
        outcome = build_file(tmp_path, [trace(1) | dict.fromkeys(row) | trace(1), row], name=name)
        if index is None:
            assert outcome.reasons == [(2, "no_usable_generation")]
            assert json.loads(outcome.rejects[0]["raw"])["generations"] == [A, B, C]
        else:
            taken = outcome.rows[1]
            assert plain(outcome)[1] == [A, B, C][index]
            assert taken["sampling"]["sample_index"] == index
            assert taken["finish_reason"] == ["stop", "length", "eos"][index]
            assert taken["source"] == "olympiads"

    @pytest.mark.parametrize(
        ("generations", "index"), [([CUT, B], 1), ([None, A], 1), ([CUT], None), ([], None)]
    )
    def test_closed_thinking_is_complete_where_no_column_says_so(
        self, tmp_path: Path, generations: list[Any], index: int | None
    ) -> None:
        outcome = build_file(tmp_path, [trace(1), openr1(generations)])
        if index is None:
            assert outcome.reasons == [(2, "no_usable_generation")]
        else:
            assert outcome.rows[1]["sampling"]["sample_index"] == index

    @pytest.mark.parametrize("generations", [None, "not a list"])
    def test_generations_that_are_no_list_are_refused(
        self, tmp_path: Path, generations: object
    ) -> None:
        row = openr1([A]) | {"generations": generations}
        assert build_file(tmp_path, [trace(1), row]).reasons == [(2, "empty_completion")]

    def test_finish_reasons_may_be_shorter(self, tmp_path: Path) -> None:
        outcome = build_file(tmp_path, [openr1([CUT, B], finish_reasons=["length"])])
        assert outcome.rows[0]["finish_reason"] is None


class TestChats:
    @pytest.mark.parametrize("name", FORMATS)
    def test_messages_give_problem_and_completion(self, tmp_path: Path, name: str) -> None:
        messages = [
            {"role": "system", "content": "Think."},
            {"role": "user", "content": "What is it?"},
            {"role": "assistant", "content": A},
        ]
        outcome = build_file(tmp_path, [{"messages": messages}], name=name)
        assert outcome.problems == ["What is it?"] and plain(outcome) == [A]

    @pytest.mark.parametrize(
        "turns",
        [
            [("human", "What?"), ("gpt", A)],
            [("user", "First?"), ("assistant", B), ("user", "What?"), ("assistant", A)],
            [("user", "What?"), ("assistant", A), ("user", "Thanks!")],
        ],
    )
    def test_last_answer_belongs_to_the_question_before_it(
        self, tmp_path: Path, turns: list[tuple[str, str]]
    ) -> None:
        chat = [{"from": role, "value": text} for role, text in turns]
        outcome = build_file(tmp_path, [{"conversations": chat}])
        assert outcome.problems == ["What?"] and plain(outcome) == [A]

    def test_content_in_parts_is_joined(self, tmp_path: Path) -> None:
        def turn(role: str, *texts: str) -> dict[str, Any]:
            return {"role": role, "content": [{"type": "text", "text": text} for text in texts]}

        chat = [turn("user", "What ", "is it?"), turn("assistant", A[:9], A[9:])]
        image = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}, chat[1]]
        outcome = build_file(tmp_path, [{"messages": chat}, {"messages": image}])
        assert outcome.problems == ["What is it?"] and plain(outcome) == [A]
        assert outcome.reasons == [(2, "content_not_text")]

    @pytest.mark.parametrize("name", FORMATS)
    def test_prompt_and_completion_may_be_chats(self, tmp_path: Path, name: str) -> None:
        row = {
            "prompt": [{"role": "user", "content": "What?"}],
            "completion": [{"role": "assistant", "content": A}],
        }
        outcome = build_file(tmp_path, [row], name=name)
        assert outcome.problems == ["What?"] and plain(outcome) == [A]

    @pytest.mark.parametrize(
        ("messages", "reason"),
        [
            ([], "empty_problem"),
            (None, "empty_problem"),
            ("a chat", "empty_problem"),
            ([None, 5], "empty_problem"),
            ([{"role": "assistant", "content": A}], "empty_problem"),
            ([{"role": "user", "content": "What?"}], "empty_completion"),
            ([{"role": "user", "content": "W?"}, {"role": "assistant"}], "empty_completion"),
            ([{"role": "assistant", "content": A}, {"role": "user"}], "empty_problem"),
        ],
    )
    def test_chat_without_a_question_or_answer_is_refused(
        self, tmp_path: Path, messages: object, reason: str
    ) -> None:
        good = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": A}]
        outcome = build_file(tmp_path, [{"messages": good}, {"messages": messages}])
        assert outcome.reasons == [(2, reason)]


class TestReasoning:
    @pytest.mark.parametrize("name", FORMATS)
    def test_reasoning_and_content_become_one_completion(self, tmp_path: Path, name: str) -> None:
        row = {"question": "What?", "reasoning_content": "a\n\nb", "content": "It is c."}
        outcome = build_file(tmp_path, [row], name=name)
        assert plain(outcome) == ["<think>\na\n\nb\n</think>\n\nIt is c."]

    @pytest.mark.parametrize("content", [None, "", "\n"])
    @pytest.mark.parametrize("chat", [False, True])
    def test_reasoning_without_content_was_cut_off(
        self, tmp_path: Path, content: str | None, chat: bool
    ) -> None:
        answer = {"reasoning_content": "a\n\nb", "content": content}
        row = {"messages": [{"role": "user", "content": "W?"}, {"role": "assistant"} | answer]}
        flat = {"problem": "What?"} | answer
        outcome = build_file(tmp_path, [trace(1), row if chat else flat])
        assert outcome.reasons == [(2, "think_not_closed")]

    def test_content_that_holds_the_thinking_stands_alone(self, tmp_path: Path) -> None:
        rows = [
            {"problem": "What?", "reasoning_content": "x", "content": "y"},
            {"problem": "What?", "reasoning_content": None, "content": A},
        ]
        assert plain(build_file(tmp_path, rows))[1] == A

    @pytest.mark.parametrize(
        ("reasoning", "content", "reason"),
        [
            ("", "It is c.", "empty_thinking"),
            ("a</think>b", "c", "repeated_think"),
            ("a", "<think>b</think>c", "repeated_think"),
            (["a", "b"], "c", "completion_not_text"),
            ("a", {"text": "c"}, "content_not_text"),
        ],
    )
    def test_odd_reasoning_is_refused(
        self, tmp_path: Path, reasoning: object, content: object, reason: str
    ) -> None:
        row = {"problem": "What?", "reasoning_content": reasoning, "content": content}
        assert build_file(tmp_path, [trace(1), row]).reasons == [(2, reason)]

    def test_other_column_called_reasoning_does_not_hide_the_messages(self, tmp_path: Path) -> None:
        chat = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": A}]
        row = {"messages": chat, "reasoning": "a note"}
        assert plain(build_file(tmp_path, [row])) == [A]


class TestValues:
    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (5, "5"), (0, "0"), (-0.5, "-0.5"), (5.0, "5.0"), (True, "True"), (["7"], "7"),
            ([7], "7"), ([["7"]], "7"), ([1, 2], "[1, 2]"), (["é", None], '["é", null]'),
            ({"value": 3}, '{"value": 3}'), (10**30, "1" + "0" * 30), (" 7 ", " 7 "),
        ],
    )  # fmt: skip
    def test_answer_is_kept_as_text(self, tmp_path: Path, answer: object, text: str) -> None:
        assert build_file(tmp_path, [trace(1, answer=answer)]).rows[0]["answer"] == text

    @pytest.mark.parametrize(
        ("column", "texts"),
        [
            (pa.array([5, None]), ["5", None]),
            (pa.array([0.5, float("nan")]), ["0.5", None]),
            (pa.array([["7"], []]), ["7", None]),
            (pa.array([[1, 2], None]), ["[1, 2]", None]),
            (pa.array([[Decimal("1.5")], [Decimal("1.5")] * 2]), ["1.5", '["1.5", "1.5"]']),
            (pa.array([b"7", b""]), ["7", None]),
            (pa.array(["x", "y"]).dictionary_encode(), ["x", "y"]),
            (pa.array(["x", None], pa.large_string()), ["x", None]),
            (pa.array([{"v": 1}, None]), ['{"v": 1}', None]),
        ],
    )
    def test_answer_column_of_any_type_is_read_from_parquet(
        self, tmp_path: Path, column: pa.Array, texts: list[str | None]
    ) -> None:
        table = pa.table({"problem": ["p", "q"], "completion": [A, B], "answer": column})
        outcome = build_file(tmp_path, table, name="a.parquet")
        assert [row["answer"] for row in outcome.rows] == texts

    @pytest.mark.parametrize("field", ["problem", "completion"])
    @pytest.mark.parametrize("value", [{"text": "a</think>b"}, ["a</think>b", "c"], [["a", "b"]]])
    def test_problem_or_completion_that_is_no_text_is_refused(
        self, tmp_path: Path, field: str, value: object
    ) -> None:
        outcome = build_file(tmp_path, [trace(1), trace(2, **{field: value})])
        assert outcome.reasons == [(2, f"{field}_not_text")]

    def test_invalid_utf8_in_parquet_is_refused_with_its_row(self, tmp_path: Path) -> None:
        data = [b"p", b"q\xff", b"r"]
        broken = pa.array(data, pa.binary()).view(pa.string())
        lists = pa.ListArray.from_arrays([0, 1, 2, 3], pa.array([b"1", b"2", b"\xc3"]).view("str"))
        table = pa.table({"problem": broken, "completion": [A, B, C], "answer": lists})
        outcome = build_file(tmp_path, table, name="a.parquet")
        assert outcome.problems == ["p"] and outcome.rows[0]["answer"] == "1"
        assert outcome.reasons == [(2, "invalid_utf8"), (3, "invalid_utf8")]
        assert [reject["raw"] for reject in outcome.rejects] == ["q\ufffd", "\ufffd"]

    def test_binary_completion_is_read_as_utf8(self, tmp_path: Path) -> None:
        column = pa.array([A.encode(), b"<think>\xff</think>"])
        table = pa.table({"problem": ["p", "q"], "completion": column})
        outcome = build_file(tmp_path, table, name="a.parquet")
        assert plain(outcome) == [A] and outcome.reasons == [(2, "invalid_utf8")]

    @pytest.mark.parametrize(
        ("sampling", "kept", "note"),
        [
            ({"temperature": 0.5, "max_tokens": 8, "seed": 1}, ("temperature", 0.5), None),
            ({"top_p": 1, "note": "x"}, ("top_p", 1.0), "x"),
            ("temperature 0.6", ("temperature", None), "temperature 0.6"),
            ({"temperature": "high"}, ("temperature", None), '{"temperature": "high"}'),
            ({"max_tokens": 10**12}, ("max_tokens", None), '{"max_tokens": 1000000000000}'),
            ({"max_tokens": 1.5}, ("max_tokens", None), '{"max_tokens": 1.5}'),
            ({"seed": 10**400}, ("seed", None), '{"seed": 1' + "0" * 400 + "}"),
            ({"seed": True}, ("seed", None), '{"seed": true}'),
            ({"top_p": 0.5, "top_k": 20}, ("top_p", 0.5), '{"top_p": 0.5, "top_k": 20}'),
            ([0.6, 0.95], ("temperature", None), "[0.6, 0.95]"),
        ],
    )
    def test_sampling_that_does_not_fit_its_columns_is_kept_as_a_note(
        self, tmp_path: Path, sampling: object, kept: tuple[str, object], note: str | None
    ) -> None:
        row = build_file(tmp_path, [trace(1, sampling=sampling)]).rows[0]
        assert (row["sampling"][kept[0]], row["sampling"]["note"]) == (kept[1], note)


class TestDetection:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("missing", ["problem", "completion"])
    def test_missing_column_names_the_columns_found(
        self, tmp_path: Path, name: str, missing: str
    ) -> None:
        row = {"id": 1, "zzz": 2} | {k: v for k, v in trace(1).items() if k != missing}
        message = file_failure(tmp_path, [row, row], name=name)
        assert f"no column holds {'the' if missing == 'problem' else 'a'} {missing}" in message
        found = message.rpartition("columns found: ")[2].split(", ")
        assert sorted(found) == sorted(row)

    @pytest.mark.parametrize("rows", [1, 150])
    def test_column_that_first_appears_further_down_is_read(
        self, tmp_path: Path, rows: int
    ) -> None:
        early = [{k: v for k, v in trace(n).items() if k != "answer"} for n in range(rows)]
        outcome = build_file(tmp_path, [*early, trace(200, model="m")], shard_bytes=1_000)
        assert (outcome.rows[-1]["answer"], outcome.rows[-1]["model"]) == ("200", "m")
        assert outcome.rows[0]["answer"] is None

    def test_best_name_that_is_not_null_is_taken(self, tmp_path: Path) -> None:
        row = {"question": "Q?", "prompt": "P?", "response": A, "output": B, "gold": "1"}
        outcome = build_file(tmp_path, [row | {"problem": None}, row | {"problem": "Best?"}])
        assert outcome.problems == ["Q?", "Best?"] and plain(outcome) == [A, A]
        assert outcome.rows[0]["answer"] == "1"

    @pytest.mark.parametrize("name", FORMATS)
    def test_columns_that_the_recipe_names_go_before_the_known_names(
        self, tmp_path: Path, name: str
    ) -> None:
        file_failure(tmp_path, [{"task": "T?", "text": A}], name=name)
        row = trace(1) | {"task": "T?", "text": A}
        spec = {"spec": str(tmp_path / name), "columns": {"problem": "task", "completion": "text"}}
        build_file(tmp_path / "write", [row], name=name)
        (tmp_path / name).write_bytes((tmp_path / "write" / name).read_bytes())
        outcome = build_sources(tmp_path / "named", [spec])
        assert outcome.problems == ["T?"] and plain(outcome) == [A]

    def test_named_column_that_is_missing_names_the_columns_found(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl([trace(1)]))
        source = {"spec": str(tmp_path / "a.jsonl"), "columns": {"problem": "task"}}
        with pytest.raises(ProgdataError, match="no column 'task' for problem; columns found: "):
            build_sources(tmp_path / "out", [source])

    def test_column_named_for_an_unknown_field_is_wrong_use(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl([trace(1)]))
        source = {"spec": str(tmp_path / "a.jsonl"), "columns": {"problme": "problem"}}
        with pytest.raises(UsageError, match="'problme'; did you mean 'problem'"):
            build_sources(tmp_path / "out", [source])

    def test_all_formats_give_the_same_rows(self, tmp_path: Path) -> None:
        rows = [trace(n, model=None if n % 2 else "m", source="s") for n in range(20)]
        outcomes = [build_file(tmp_path / name, rows, name=name) for name in FORMATS]
        assert outcomes[0].rows == outcomes[1].rows == outcomes[2].rows
