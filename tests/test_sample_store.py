"""The store of samples: kills, damaged files, full and read-only disks, two writers."""

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from progdata.builders.errors import ProgdataError
from progdata.builders.sample_store import STORE, SampleStore
from progdata.builders.sampling import Sample

any_text = st.text(st.characters(codec=None, categories=None) | st.sampled_from("\ud800\udfff\0"))
"""Lone surrogates and NUL as well."""


def sample(number: int, letters: int = 200) -> Sample:
    """A sample whose text cannot be made much shorter."""
    text = random.Random(number).randbytes(letters // 2).hex()
    return Sample(text, "stop", 3, letters, 0.25, "engine 1.0")


def key(number: int) -> str:
    return f"{number:032x}"


def fill(folder: Path, count: int, letters: int = 200) -> Path:
    """A store of that many samples; its file."""
    with SampleStore(folder) as store:
        store.add([(key(i), sample(i, letters)) for i in range(count)])
    return folder / STORE


def refusal(folder: Path) -> str:
    """The one line that refuses to open a store."""
    with pytest.raises(ProgdataError) as caught, SampleStore(folder):
        pass
    assert "\n" not in str(caught.value) and str(folder / STORE) in str(caught.value)
    return str(caught.value)


# --- round trip


@settings(max_examples=60)
@given(text=any_text, reason=any_text, counts=st.tuples(st.integers(0), st.integers(0)))
@example("\ud800", "\0", (0, 1 << 70))
@example("", "", (0, 0))
def test_a_sample_comes_back_as_it_was_given(tmp_path_factory, text, reason, counts):
    given_one = Sample(text, reason, *counts, seconds=0.1 + 0.2, engine_version=text)
    folder = tmp_path_factory.getbasetemp() / "round-trip"
    with SampleStore(folder) as store:
        store.add([("key", given_one)])
        assert store.get("key") == given_one
    with SampleStore(folder) as store:
        assert store.get("key") == given_one


def test_what_was_not_added_is_not_there(tmp_path):
    fill(tmp_path, 3)
    with SampleStore(tmp_path) as store:
        assert [store.get(key(i)) for i in range(4)] == [*map(sample, range(3)), None]
        assert store.get("") is None and store.get(key(0).upper() + " ") is None
        assert (len(store), store.damaged) == (3, set())


def test_a_key_has_one_sample_the_last(tmp_path):
    with SampleStore(tmp_path / "new" / "folder") as store:
        store.add([("a", sample(1)), ("a", sample(2))])
        store.add([("a", sample(3))])
        assert (len(store), store.get("a")) == (1, sample(3))


def test_a_call_keeps_all_of_its_samples_or_none(tmp_path):
    def breaks_off() -> Iterator[tuple[str, Sample]]:
        yield "a", sample(1)
        raise KeyboardInterrupt

    with SampleStore(tmp_path) as store:
        with pytest.raises(KeyboardInterrupt):
            store.add(breaks_off())
        with closing(sqlite3.connect(store.path)) as database:
            database.execute(
                "CREATE TRIGGER refuse BEFORE INSERT ON samples WHEN NEW.key = 'no' "
                "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
        with pytest.raises(ProgdataError, match="not this one"):
            store.add([("b", sample(1)), ("no", sample(2)), ("c", sample(3))])
        assert len(store) == 0
        store.add([("a", sample(3))])
        assert len(store) == 1


def test_a_run_that_fails_keeps_what_was_added(tmp_path):
    with pytest.raises(ZeroDivisionError), SampleStore(tmp_path) as store:
        store.add([("a", sample(1))])
        raise ZeroDivisionError
    with SampleStore(tmp_path) as store:
        assert store.get("a") == sample(1)


# --- kills and other processes

ADD = """
import sys
from pathlib import Path
from test_sample_store import key, sample
from progdata.builders.sample_store import SampleStore
with SampleStore(Path(sys.argv[1])) as store:
    for first in range(int(sys.argv[2]), int(sys.argv[3]), 3):
        store.add([(key(i), sample(i)) for i in range(first, first + 3)])
        print(first + 3, flush=True)
"""


def adding(folder: Path, first: int, last: int) -> subprocess.Popen[str]:
    """A process that adds samples, three in a call, and says how far it is after each call."""
    path = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {path!r})\n{ADD}"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(first), str(last)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_kill_loses_no_sample_that_was_committed_and_leaves_no_half_call(tmp_path):
    rng, there = random.Random(7), 0
    for _ in range(6):
        with adding(tmp_path, there, there + 100_000) as process:
            assert process.stdout is not None
            said = [process.stdout.readline()]
            time.sleep(rng.uniform(0, 0.15))
            process.kill()
            said += process.stdout.readlines()
        reported = int([line for line in said if line.endswith("\n")][-1])
        with SampleStore(tmp_path) as store:
            there = len(store)
            assert there in (reported, reported + 3)
            assert [store.get(key(i)) for i in range(there)] == [sample(i) for i in range(there)]
            assert store.damaged == set()


def test_two_writers_leave_one_sample_of_each_key(tmp_path):
    both = [adding(tmp_path, 0, 60), adding(tmp_path, 30, 90)]
    for process in both:
        with process:
            process.communicate()
        assert process.returncode == 0
    with SampleStore(tmp_path) as store:
        assert len(store) == 90
        assert [store.get(key(i)) for i in range(90)] == [sample(i) for i in range(90)]


# --- damage


def test_a_damaged_sample_counts_as_absent_and_can_be_asked_for_again(tmp_path):
    path = fill(tmp_path, 3)
    with closing(sqlite3.connect(path)) as database:
        packed = database.execute("SELECT sample FROM samples WHERE key = ?", (key(1),))
        flipped = bytearray(packed.fetchone()[0])
        flipped[20] ^= 4
        database.execute("UPDATE samples SET sample = ? WHERE key = ?", (bytes(flipped), key(1)))
        database.commit()
    with SampleStore(tmp_path) as store:
        assert [store.get(key(i)) for i in range(3)] == [sample(0), None, sample(2)]
        assert len(store.damaged) == 1
        store.add([(key(1), sample(1))])
        assert (store.get(key(1)), len(store)) == (sample(1), 3)


def test_a_sample_under_the_key_of_another_counts_as_absent(tmp_path):
    path = fill(tmp_path, 2)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE samples SET key = 'x' WHERE key = ?", (key(0),))
        database.commit()
    with SampleStore(tmp_path) as store:
        assert (store.get("x"), store.damaged) == (None, {"x"})


@pytest.mark.parametrize("value", ["'text'", "NULL", "3", "x''", "CAST(x'ff' AS TEXT)"])
def test_a_row_of_another_type_counts_as_absent_or_is_refused_in_one_line(tmp_path, value):
    path = fill(tmp_path, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '')")
        database.commit()
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"UPDATE samples SET sample = {value}")
        database.commit()
    with SampleStore(tmp_path) as store:
        try:
            assert store.get(key(0)) is None
        except ProgdataError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_flipped_bits_never_give_a_wrong_text(tmp_path):
    """Everywhere in the file, and in its header and schema in particular."""
    path = fill(tmp_path, 40)
    whole, rng, seen = path.read_bytes(), random.Random(0), set()
    for turn in range(120):
        data = bytearray(whole)
        place = rng.randrange(len(data) if turn % 3 else 200)
        data[place] ^= 1 << rng.randrange(8)
        folder = tmp_path / str(turn)  # SQLite keeps what it knows of a file by its inode
        folder.mkdir()
        (folder / STORE).write_bytes(data)
        try:
            with SampleStore(folder) as store:
                found = [store.get(key(i)) for i in range(40)]
                absent = [i for i in range(40) if found[i] is None]
                assert all(found[i] == sample(i) for i in range(40) if i not in absent)
                seen.add("absent" if absent else "whole")
                store.add([(key(i), sample(i)) for i in absent])
        except ProgdataError as error:
            assert str(folder / STORE) in str(error) and "\n" not in str(error)
            seen.add("refused")
    assert seen == {"absent", "whole", "refused"}


def test_the_count_of_a_damaged_store_is_refused_in_one_line(tmp_path):
    path = fill(tmp_path, 200)
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page] = 0xFF
    with SampleStore(tmp_path) as store:
        path.write_bytes(data)
        with pytest.raises(ProgdataError):
            len(store)


@pytest.mark.parametrize("size", [50, 100, 5_000, -4_096])
def test_a_file_that_was_cut_is_refused_in_one_line(tmp_path, size):
    path = fill(tmp_path, 200)
    path.write_bytes(path.read_bytes()[:size])
    refusal(tmp_path)


def test_an_empty_file_is_an_empty_store(tmp_path):
    (tmp_path / STORE).touch()
    fill(tmp_path, 1)
    with SampleStore(tmp_path) as store:
        assert len(store) == 1


# --- files and folders that are no store


def test_what_is_no_store_is_refused_in_one_line(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / STORE).write_text("key,sample\n" * 100)
    assert "not a database" in refusal(tmp_path / "text")
    (tmp_path / "folder" / STORE).mkdir(parents=True)
    assert "unable to open" in refusal(tmp_path / "folder")


@pytest.mark.parametrize("found", [0, 2])
def test_a_store_of_another_format_is_refused_and_stays_as_it_is(tmp_path, found):
    path = fill(tmp_path, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {found}")
    before = path.read_bytes()
    said = refusal(tmp_path)
    assert f"format {found}, expected 1" in said and "--out" in said
    assert path.read_bytes() == before


def test_a_store_that_cannot_be_opened_is_closed(tmp_path):
    """Else it stays locked for as long as somebody looks at the error."""
    path = fill(tmp_path, 1)
    data = bytearray(path.read_bytes())
    data[0] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ProgdataError), SampleStore(tmp_path):
        pass
    assert str(path) not in [file.path for file in psutil.Process().open_files()]


# --- disks


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A small tmpfs; skips where mounting is not permitted."""
    folder.mkdir()
    try:
        made = _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if made.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True)


def test_a_full_disk_is_one_clear_error_and_nothing_is_lost(tmp_path):
    with mounted(tmp_path / "disk", "128k") as disk:
        folder, added, failed = disk / "out", 0, 0
        while added < 60:
            try:
                with SampleStore(folder) as store:
                    assert len(store) == added
                    while added < 60:
                        store.add([(key(added), sample(added, 6_000))])
                        added += 1
            except ProgdataError as error:
                assert str(folder / STORE) in str(error) and "full" in str(error)
                failed += 1
                assert (
                    _mount("-o", f"remount,size={128 * (failed + 1)}k", str(disk)).returncode == 0
                )
        assert failed > 1
        assert _mount("-o", "remount,size=8m", str(disk)).returncode == 0
        with SampleStore(folder) as store:
            assert [store.get(key(i)) for i in range(60)] == [sample(i, 6_000) for i in range(60)]


def test_a_disk_that_is_full_while_a_store_is_open_keeps_what_is_there(tmp_path):
    with mounted(tmp_path / "disk", "96k") as disk, SampleStore(disk) as store:
        store.add([(key(0), sample(0))])
        for _ in range(3):
            with pytest.raises(ProgdataError):
                store.add([(key(1), sample(1, 400_000))])
            assert (store.get(key(0)), store.get(key(1))) == (sample(0), None)
        store.add([(key(1), sample(1))])
        assert store.get(key(1)) == sample(1)


def test_a_read_only_disk_is_one_clear_error(tmp_path):
    with mounted(tmp_path / "disk", "1m") as disk:
        fill(disk, 1)
        assert _mount("-o", "remount,ro", str(disk)).returncode == 0
        assert "unable to open database file" in refusal(disk)
