"""Folders that commands refuse to write into, before any work is done."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from progdata.builders.errors import UsageError
from progdata.releases.curated import curate_source
from progdata.releases.decontaminated import decontaminate_source
from progdata.releases.deduplicated import dedup_source
from progdata.releases.verified import verify_source

ROW = {"problem": "Which?", "answer": "5", "completion": "<think>so</think>\\boxed{5}"}

COMMANDS: dict[str, Callable[[str, Path], dict[str, Any]]] = {
    "curate": lambda source, out: curate_source(source, out=out, workers=1),
    "decontaminate": lambda source, out: decontaminate_source(source, [source], out=out),
    "dedup": lambda source, out: dedup_source(source, out=out),
    "verify": lambda source, out: verify_source(source, out=out, workers=1),
}

TABLES = {"curate": "curated", "dedup": "kept", "verify": "verified"}


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n", "utf-8")
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_is_no_folder_to_write_into(command, source, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="file: is a file; name a folder with --out"):
        COMMANDS[command](source, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", TABLES)
def test_a_table_is_not_replaced_by_what_is_made_of_it(command, source, tmp_path):
    COMMANDS[command](source, tmp_path / "out")
    table = tmp_path / "out" / f"{TABLES[command]}.parquet"
    before = table.read_bytes()
    with pytest.raises(UsageError, match="would replace its own source; choose another --out"):
        COMMANDS[command](str(table), tmp_path / "out")
    assert table.read_bytes() == before


def test_a_source_that_cannot_be_copied_is_named_before_benchmarks_are_read(tmp_path):
    with pytest.raises(UsageError, match="only files can be copied"):
        decontaminate_source("countdown:20", ["none.jsonl"], action="remove", out=tmp_path / "out")
