"""What bad input gets: a clear error in one line, or a reject with a reason; nothing is lost."""

import gzip
import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import (
    GOOD,
    GOOD_PROBLEMS,
    Outcome,
    build_file,
    build_sources,
    failure,
    file_failure,
    jsonl,
    plain,
    trace,
    write_source,
)

from progdata.builders import shard_rows, sources
from progdata.builders.errors import UsageError


class TestFiles:
    def test_missing_file_is_named(self, tmp_path: Path) -> None:
        spec = str(tmp_path / "absent.jsonl")
        message = failure(tmp_path / "out", [spec])
        assert message.startswith(f"source {spec!r}: no such file") and "countdown:N" in message

    def test_glob_that_matches_nothing_is_named(self, tmp_path: Path) -> None:
        write_source(tmp_path / "a.parquet", GOOD)
        assert "no file matches" in failure(tmp_path / "out", [str(tmp_path / "*.jsonl")])

    @pytest.mark.parametrize("spec", ["folder", "fold*"])
    def test_folder_is_no_source(self, tmp_path: Path, spec: str) -> None:
        write_source(tmp_path / "folder" / "a.jsonl", GOOD)
        what = "is a folder" if spec == "folder" else "no file matches"
        assert what in failure(tmp_path / "out", [str(tmp_path / spec)])

    @pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl.zst", "README.md"])
    def test_other_format_is_wrong_use(self, tmp_path: Path, name: str) -> None:
        message = file_failure(tmp_path, b"a,b\n", name=name, error=UsageError)
        assert message == "not a .jsonl, .jsonl.gz or .parquet file"

    def test_file_whose_name_is_not_utf8_is_wrong_use(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"\xff.jsonl")).write_bytes(jsonl(GOOD))
        message = failure(tmp_path / "out", [str(tmp_path / "*.jsonl")], error=UsageError)
        assert "\\udcff.jsonl': the name of the file is not UTF-8" in message

    @pytest.mark.parametrize("spec", ["countdown", "countdown:0", "countdown:-1", "countdown:ten"])
    def test_countdown_without_a_size_is_wrong_use(self, tmp_path: Path, spec: str) -> None:
        assert "countdown:N" in failure(tmp_path / "out", [spec], error=UsageError)

    def test_file_whose_name_begins_with_countdown_is_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_source(tmp_path / "countdown-runs.jsonl", GOOD)
        monkeypatch.chdir(tmp_path)
        assert build_sources(Path("out"), ["countdown-runs.jsonl"]).problems == GOOD_PROBLEMS

    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
    def test_empty_file_is_named(self, tmp_path: Path, name: str) -> None:
        assert file_failure(tmp_path, b"", name=name).startswith("the file is empty")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("blank.jsonl", b"\n \n\t\r\n\n"),
            ("nothing.jsonl.gz", gzip.compress(b"", mtime=0)),
            ("rowless.parquet", pa.table({"problem": pa.array([], "str"), "completion": []})),
        ],
    )
    def test_file_without_a_row_is_named(self, tmp_path: Path, name: str, content: Any) -> None:
        assert file_failure(tmp_path, content, name=name).startswith("the file holds no row")

    @pytest.mark.parametrize("kept", [0.02, 0.5, 0.95, 0.9999])
    @pytest.mark.parametrize("shard_bytes", [1_000, 8 << 20])
    def test_truncated_gzip_is_an_error(
        self, tmp_path: Path, kept: float, shard_bytes: int
    ) -> None:
        whole = gzip.compress(jsonl([trace(number) for number in range(2_000)]))
        part = whole[: int(len(whole) * kept)]
        message = file_failure(tmp_path, part, name="a.jsonl.gz", shard_bytes=shard_bytes)
        found = re.match(r"the gzip stream is damaged or cut off after line (\d+) ", message)
        decoder = zlib.decompressobj(wbits=31)
        assert found and int(found[1]) <= decoder.decompress(part).count(b"\n")

    @pytest.mark.parametrize("damage", ["not gzip", "checksum", "rubbish at the end"])
    def test_damaged_gzip_is_an_error(self, tmp_path: Path, damage: str) -> None:
        whole = gzip.compress(jsonl(GOOD))
        content = {
            "not gzip": jsonl(GOOD),
            "checksum": whole[:-8] + bytes(byte ^ 1 for byte in whole[-8:-4]) + whole[-4:],
            "rubbish at the end": whole + b"rubbish",
        }[damage]
        assert "gzip" in file_failure(tmp_path, content, name="a.jsonl.gz")

    @pytest.mark.parametrize("kept", [0.001, 0.5, 0.9999])
    def test_truncated_parquet_is_an_error(self, tmp_path: Path, kept: float) -> None:
        path = tmp_path / "whole.parquet"
        write_source(path, [trace(number) for number in range(500)])
        part = path.read_bytes()[: int(path.stat().st_size * kept)]
        assert "not a whole Parquet file" in file_failure(tmp_path, part, name="a.parquet")

    def test_damaged_parquet_page_is_an_error_after_the_rows_before_it(
        self, tmp_path: Path
    ) -> None:
        rows = pa.Table.from_pylist([trace(number) for number in range(400)])
        pq.write_table(rows, tmp_path / "whole.parquet", row_group_size=100, use_dictionary=False)
        column = pq.read_metadata(tmp_path / "whole.parquet").row_group(2).column(2)
        data = bytearray((tmp_path / "whole.parquet").read_bytes())
        middle = column.data_page_offset + column.total_compressed_size // 2
        data[middle : middle + 8] = bytes(byte ^ 0xFF for byte in data[middle : middle + 8])
        message = file_failure(tmp_path, bytes(data), name="a.parquet", shard_bytes=1_000)
        found = re.match(r"not a whole Parquet file \(after row (\d+)\)", message)
        assert found and int(found[1]) <= 200

    def test_files_of_all_formats_are_read_in_order(self, tmp_path: Path) -> None:
        names = ["3.jsonl", "1.jsonl.gz", "2.parquet"]
        specs = [write_source(tmp_path / n, [trace(int(n[0]) * 10)]) for n in names]
        outcome = build_sources(tmp_path / "out", specs)
        assert outcome.problems == ["Problem 30?", "Problem 10?", "Problem 20?"]
        assert [row["source"] for row in outcome.rows] == ["3", "1", "2"]

    def test_glob_reads_files_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for number in (2, 1, 3):
            write_source(tmp_path / "deep" / f"{number}.jsonl", [GOOD[number - 1]])
        outcome = build_sources(tmp_path / "out", [str(tmp_path / "**" / "*.jsonl")])
        assert outcome.problems == GOOD_PROBLEMS

    def test_one_bad_file_among_good_ones_publishes_nothing(self, tmp_path: Path) -> None:
        good = write_source(tmp_path / "good.jsonl", GOOD)
        bad = write_source(tmp_path / "bad.parquet", b"PAR1")
        assert failure(tmp_path / "out", [good, bad], shard_bytes=1).startswith(f"{bad}: ")

    def test_build_goes_on_after_the_bad_file_was_replaced(self, tmp_path: Path) -> None:
        good = write_source(tmp_path / "good.jsonl", GOOD)
        bad = write_source(tmp_path / "bad.jsonl.gz", gzip.compress(jsonl(GOOD))[:-9])
        failure(tmp_path / "out", [good, bad])
        write_source(tmp_path / "bad.jsonl.gz", [trace(9)])
        outcome = build_sources(tmp_path / "out", [good, bad])
        assert outcome.problems == [*GOOD_PROBLEMS, "Problem 9?"]


class TestLines:
    BAD_LINES = (
        (b"\xff\xfe{}", "invalid_utf8"),
        (jsonl([trace(8)])[:-2].replace(b"Step", b"St\xe9p"), "invalid_utf8"),
        (b"{'problem': 1}", "invalid_json"),
        (jsonl([trace(8)])[:-3], "invalid_json"),
        (b'{"problem": "a"} {"problem": "b"}', "invalid_json"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"problem": ' + b"9" * 5_000 + b"}", "invalid_json"),
        (b'["problem", "completion"]', "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"{}", "empty_problem"),
    )

    @pytest.mark.parametrize(("line", "reason"), BAD_LINES)
    def test_bad_line_is_refused_with_its_number(
        self, tmp_path: Path, line: bytes, reason: str
    ) -> None:
        outcome = build_file(tmp_path, jsonl(GOOD[:2]) + line + b"\n" + jsonl(GOOD[2:]))
        assert outcome.problems == GOOD_PROBLEMS and outcome.report["rows_in"] == 4
        (reject,) = outcome.rejects
        assert (reject["stage"], reject["row"], reject["reason"]) == ("read", 3, reason)
        assert reject["file"] == str(tmp_path / "traces.jsonl")
        assert reject["raw"] == line.decode("utf-8", "replace")

    @pytest.mark.parametrize("first", [0, 1, 30])
    @pytest.mark.parametrize("shard_bytes", [1, 50, 1_000])
    def test_row_numbers_and_rows_are_the_same_in_shards_of_any_size(
        self, tmp_path: Path, shard_bytes: int, first: int
    ) -> None:
        bad = [line for line, _ in self.BAD_LINES if len(line) < 10_000]
        lines = [*bad[:first], *jsonl(GOOD).splitlines(), b"", *bad, b"\t", *bad]
        spec = write_source(tmp_path / "a.jsonl", b"\n".join(lines))
        small = build_sources(tmp_path / "small", [spec], shard_bytes=shard_bytes)
        whole = build_sources(tmp_path / "whole", [spec])
        assert small == Outcome(whole.report, whole.rows, whole.rejects, small.out)
        assert [row for row, _ in small.reasons] == [
            number for number, line in enumerate(lines, 1) if line in bad
        ]

    def test_report_is_the_same_in_shards_of_any_size(self, tmp_path: Path) -> None:
        lines = jsonl([trace(number) for number in range(60)]).replace(b"\n", b"\n\n\n")
        spec = write_source(tmp_path / "a.jsonl", lines)
        small = build_sources(tmp_path / "small", [spec], shard_bytes=700)
        whole = build_sources(tmp_path / "whole", [spec])
        assert 0 < whole.report["progress"]["sample"]["traces"] < 60
        assert small.report == whole.report

    def test_file_whose_first_rows_are_no_objects_is_refused_as_a_whole(
        self, tmp_path: Path
    ) -> None:
        message = file_failure(tmp_path, b"\n" + b"nothing\n" * 100 + jsonl(GOOD))
        assert message.startswith("none of the first 100 rows is a JSON object (line 2: Expecting")

    def test_utf_16_file_is_refused_as_a_whole(self, tmp_path: Path) -> None:
        content = jsonl(GOOD).decode().encode("utf-16")
        assert "line 1: byte 0 of the line" in file_failure(tmp_path, content)

    def test_windows_lines_byte_order_mark_and_blank_lines_are_read(self, tmp_path: Path) -> None:
        lines = jsonl(GOOD).splitlines()
        content = b"\xef\xbb\xbf" + b"\r\n\r\n  \r\n".join(lines) + b"\r\nnot JSON"
        outcome = build_file(tmp_path, content)
        assert outcome.problems == GOOD_PROBLEMS and outcome.report["rows_in"] == 4
        assert outcome.reasons == [(8, "invalid_json")]

    def test_crlf_nul_and_unicode_line_ends_inside_a_trace_are_kept(self, tmp_path: Path) -> None:
        completion = "<think>\r\na\0b\r\n\r\n\u2028\x85\x0b\0\r\rc\r\n</think>\0d"
        row = trace(1, problem="a\0\r\nb", completion=completion, answer="\0")
        data = json.dumps(row, ensure_ascii=False).replace("\\u2028", "\u2028").encode()
        outcome = build_file(tmp_path, data)
        assert plain(outcome) == [completion] and outcome.problems == ["a\0\r\nb"]
        assert outcome.rows[0]["answer"] == "\0"

    @pytest.mark.parametrize("field", ["problem", "completion", "answer", "model", "source"])
    @pytest.mark.parametrize("text", ["\ud800", "</think>x\udc00y"])
    def test_lone_surrogate_is_refused_wherever_it_stands(
        self, tmp_path: Path, field: str, text: str
    ) -> None:
        bad = trace(8, **{field: trace(8).get(field, "") + text})
        outcome = build_file(tmp_path, [*GOOD, bad])
        assert outcome.problems == GOOD_PROBLEMS
        assert outcome.reasons == [(4, "invalid_unicode")]
        assert field in outcome.rejects[0]["detail"]
        assert json.loads(outcome.rejects[0]["raw"]) == bad

    def test_surrogate_pair_is_one_character(self, tmp_path: Path) -> None:
        line = jsonl([trace(1, problem="😀")])
        assert b"\\ud83d\\ude00" in line
        assert build_file(tmp_path, line).problems == ["😀"]


class TestLargeRows:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
    @pytest.mark.parametrize("place", [0, 1, 3])
    def test_row_over_the_limit_is_refused_and_the_others_stay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: int
    ) -> None:
        monkeypatch.setattr(shard_rows, "MAX_ROW_BYTES", 3_000)
        rows = [*GOOD[:place], trace(8, answer="é" * 1_600), *GOOD[place:]]
        spec = write_source(tmp_path / name, rows)
        outcomes = [
            build_sources(tmp_path / str(size), [spec], shard_bytes=size)
            for size in (100, 3_100, 8 << 20)
        ]
        for outcome in outcomes:
            assert outcome.problems == GOOD_PROBLEMS and outcome.report["rows_in"] == 4
            assert outcome.reasons == [(place + 1, "row_too_large")]
            assert outcome.rejects[0]["raw"].startswith('{"')
            assert len(outcome.rejects[0]["raw"]) <= 1024

    def test_row_of_the_largest_size_is_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [trace(1), trace(2, note="x" * 400)]
        limit = len(jsonl(rows[1:])) - 1
        for size, expected in ((limit, 2), (limit - 1, 1)):
            monkeypatch.setattr(shard_rows, "MAX_ROW_BYTES", size)
            outcome = build_file(tmp_path / str(size), rows)
            assert len(outcome.rows) == expected

    def test_row_over_the_limit_is_never_held_as_a_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_rows, "MAX_ROW_BYTES", 2_000)
        lines = jsonl([*GOOD, trace(8, answer="x" * 100_000), trace(9)])
        spec = write_source(tmp_path / "a.jsonl", lines)
        shards = list(sources.read_shards([sources.find_source(spec)], shard_bytes=500))
        assert max(len(shard.data) for shard in shards if isinstance(shard.data, bytes)) < 3_000
        assert sum(shard.rows for shard in shards) == 5

    def test_short_row_with_many_others_is_not_too_large_in_parquet(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shard_rows, "MAX_ROW_BYTES", 500)
        rows = [trace(number) for number in range(100)]
        assert len(build_file(tmp_path, rows, name="a.parquet").rows) == 100

    @pytest.mark.slow
    def test_real_row_of_70_mb_is_refused(self, tmp_path: Path) -> None:
        huge = jsonl([trace(8, completion=f"<think>{'word ' * (14 << 20)}</think>")])
        assert len(huge) > 70_000_000
        outcome = build_file(tmp_path, jsonl(GOOD[:1]) + huge + jsonl(GOOD[1:]))
        assert outcome.problems == GOOD_PROBLEMS
        assert outcome.reasons == [(2, "row_too_large")]
