"""What changed between two builds: counts and levels, against plain dictionaries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from build_folder import countdown
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progdata.builders.errors import ProgdataError
from progdata.releases.build import build
from progdata.releases.changelog import changes_of
from progdata.releases.compared import Differences, compare
from progdata.releases.lockfile import FileRecord, LockFile, read_lock
from progdata.releases.parts import describe
from progdata.releases.verified_files import Copy, open_folder

ROWS = 60

Builder = Callable[..., Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """Builds 60 countdown rows; the same fields give the same folder."""
    known: dict[str, Path] = {}

    def make(variants: list[str] | None = None, **fields: Any) -> Path:
        key = repr((variants, sorted(fields.items())))
        if key not in known:
            known[key] = tmp_path_factory.mktemp("build") / "out"
            build(countdown(ROWS, variants or ["clean"], **fields), known[key])
        return known[key]

    return make


def compared(before: Path, after: Path) -> Differences:
    return compare(open_folder(before), open_folder(after))


def test_the_same_build_has_no_differences(built: Builder) -> None:
    found = compared(built(), built())
    assert found.level == "none"
    assert changes_of(found) == ["nothing but the version"]


def test_an_added_variant_is_a_minor_change(built: Builder) -> None:
    found = compared(built(), built(["clean", "noisy"]))
    assert (found.level, found.variants_added, found.variants) == ("minor", ("noisy",), {})
    assert changes_of(found) == ["variant `noisy` added", "other bytes in: `reports/build.json`"]


def test_a_removed_variant_is_a_major_change(built: Builder) -> None:
    found = compared(built(["clean", "noisy"]), built())
    assert (found.level, found.variants_removed) == ("major", ("noisy",))


def test_another_recipe_with_the_same_rows_is_a_patch(built: Builder) -> None:
    found = compared(built(), built(verify={"memory_mb": 600}))
    assert (found.level, found.variants) == ("patch", {})
    assert found.recipe["verify.memory_mb"] == (512, 600)


def test_other_labels_are_a_major_change_and_are_counted(built: Builder) -> None:
    first, second = (built([{"name": "own", "sigma": sigma}]) for sigma in (0.01, 0.1))  # type: ignore[list-item]
    found = compared(first, second)
    own = found.variants["own"]
    tables = [
        {row["trace_id"]: row["labels"] for row in read_rows(folder, "own")}
        for folder in (first, second)
    ]
    pairs = [
        (a, b)
        for trace in tables[0]
        for a, b in zip(tables[0][trace], tables[1][trace], strict=True)
    ]
    other = [abs(a - b) for a, b in pairs if a != b]
    assert found.level == "major"
    assert own.labels.labels == len(other) > 0
    assert own.labels.mean_points == round(sum(other) / len(other), 2)
    assert own.labels.rows == own.changed_columns["labels"]
    assert (own.added.count, own.removed.count, own.labels.rows_of_other_length) == (0, 0, 0)


def test_rows_that_move_to_another_split_are_a_major_change(built: Builder) -> None:
    found = compared(built(), built(splits={"validation": 0.5}))
    own = found.variants["clean"]
    assert found.level == "major"
    assert own.moved.count == own.changed_columns["split"] > 0
    assert len(own.moved.examples) == min(5, own.moved.count)


def test_another_seed_adds_and_removes_rows(built: Builder) -> None:
    first, second = built(), built(seed=1)
    own = compared(first, second).variants["clean"]
    ids = [{row["trace_id"] for row in read_rows(folder, "clean")} for folder in (first, second)]
    assert (own.added.count, own.removed.count) == (len(ids[1] - ids[0]), len(ids[0] - ids[1]))
    assert set(own.added.examples) <= ids[1] - ids[0]


def read_rows(folder: Path, variant: str) -> list[dict[str, Any]]:
    paths = sorted((folder / "data" / variant).glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


class Tables:
    """Copies of a build whose one variant holds given rows, in tables of any columns."""

    def __init__(self, folder: Path, lock: LockFile) -> None:
        self.folder = folder
        self.lock = lock
        self.made = 0

    def copy(self, *tables: pa.Table) -> Copy:
        files: dict[str, FileRecord] = {}
        paths: dict[str, Path] = {}
        for number, table in enumerate(tables):
            self.made += 1
            name = f"data/clean/train-{number:05}-of-{len(tables):05}.parquet"
            paths[name] = self.folder / f"{self.made}.parquet"
            pq.write_table(table, paths[name], row_group_size=3)
            files[name] = FileRecord(**describe(paths[name]))
        own = self.lock.model_copy(update={"files": files})
        return Copy(f"copy {self.made}", own, "", paths.__getitem__)


@pytest.fixture
def tables(tmp_path: Path, built: Builder) -> Tables:
    return Tables(tmp_path, read_lock(built()))


def rows(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def test_an_added_column_is_a_minor_change(tables: Tables) -> None:
    found = compare(
        tables.copy(rows(trace_id=["a", "b"], text=["x", "y"])),
        tables.copy(rows(trace_id=["a", "b"], text=["x", "y"], more=[1, 2])),
    )
    assert found.level == "minor"
    assert changes_of(found) == ["variant `clean`: columns added: `more`"]


@pytest.mark.parametrize(
    ("after", "line"),
    [
        (rows(trace_id=["a", "b"]), "columns removed: `text`"),
        (rows(trace_id=["a", "b"], text=[1, 2]), "columns of another type: `text`"),
        (rows(trace_id=["b", "a"], text=["y", "x"]), "the rows stand in another order"),
        (rows(trace_id=["a"], text=["x"]), "2 rows became 1: 0 added, 1 removed"),
        (rows(trace_id=["a", "b"], text=["x", "z"]), "1 row changed (`text` in 1)"),
        (rows(trace_id=["a", "b"], text=["x", None]), "1 row changed (`text` in 1)"),
    ],
    ids=["removed column", "retyped column", "order", "removed row", "changed row", "null"],
)
def test_changes_of_what_there_was_are_major(tables: Tables, after: pa.Table, line: str) -> None:
    before = tables.copy(rows(trace_id=["a", "b"], text=["x", "y"]))
    found = compare(before, tables.copy(after))
    assert found.level == "major"
    assert changes_of(found) == [f"variant `clean`: {line}"]


def test_the_same_rows_in_other_bytes_are_a_patch(tables: Tables) -> None:
    first, second = rows(trace_id=["a"], text=["x"]), rows(trace_id=["b"], text=["y"])
    found = compare(tables.copy(pa.concat_tables([first, second])), tables.copy(first, second))
    assert found.level == "patch"
    assert changes_of(found) == ["variant `clean`: the same rows in other bytes"]


def test_a_trace_that_stands_there_twice_is_an_error(tables: Tables) -> None:
    twice = tables.copy(rows(trace_id=["a", "a"], text=["x", "y"]))
    with pytest.raises(ProgdataError, match="holds a trace_id twice"):
        compare(twice, tables.copy(rows(trace_id=["a"], text=["x"])))


def test_a_table_without_rows_can_be_compared(tables: Tables) -> None:
    one = rows(trace_id=["a"], labels=[[1]])
    found = compare(tables.copy(one), tables.copy(one.slice(0, 0)))
    assert found.variants["clean"].removed.count == 1


VALUES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.tuples(
        st.sampled_from(["x", "y", None]),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from([[], [{"start": 0, "end": 1}], [{"start": 0, "end": 2}]]),
    ),
)


def table_of(values: dict[str, tuple[Any, ...]]) -> pa.Table:
    schema = pa.schema(
        [
            ("trace_id", pa.string()),
            ("text", pa.string()),
            ("labels", pa.list_(pa.int32())),
            ("spans", pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))),
        ]
    )
    records = [dict(zip(schema.names, (key, *own), strict=True)) for key, own in values.items()]
    return pa.Table.from_pylist(records, schema=schema)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=VALUES, after=VALUES)
def test_counts_are_those_of_plain_dictionaries(
    tables: Tables, before: dict[str, tuple[Any, ...]], after: dict[str, tuple[Any, ...]]
) -> None:
    found = compare(tables.copy(table_of(before)), tables.copy(table_of(after)))
    both = [key for key in before if key in after]
    changed = [key for key in both if before[key] != after[key]]
    other = [
        abs(a - b)
        for key in both
        if len(before[key][1]) == len(after[key][1])
        for a, b in zip(before[key][1], after[key][1], strict=True)
        if a != b
    ]
    own = found.variants.get("clean")
    if own is None:  # the same bytes
        assert list(before.items()) == list(after.items())
        return
    assert own.added.count == len(after.keys() - before.keys())
    assert own.removed.count == len(before.keys() - after.keys())
    assert own.changed.count == len(changed)
    assert own.labels.labels == len(other)
    assert own.reordered == (both != [key for key in after if key in before])
    columns = {"text": 0, "labels": 1, "spans": 2}
    expected = {n: sum(before[k][i] != after[k][i] for k in both) for n, i in columns.items()}
    assert own.changed_columns == {name: count for name, count in expected.items() if count}
