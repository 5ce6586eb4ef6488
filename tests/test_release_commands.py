"""card, push, pull, diff and releases as a user meets them: what they print, their exit codes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from build_folder import countdown

from progdata.releases.build import build

NAME = "org/count"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the builds `first` and `more` (one more variant), and their registry."""
    folder = tmp_path_factory.mktemp("commands")
    build(countdown(40, ["clean"]), folder / "first")
    build(countdown(40, ["clean", "noisy"]), folder / "more")
    (folder / "file").write_text("")
    for name, version in (("first", "1.0.0"), ("more", "1.1.0")):
        run(folder, "push", name, "--repo", NAME, "--version", version, "--to", "registry")
    return folder


def run(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """What a command prints; on standard error where it fails."""
    command = [sys.executable, "-m", "progdata.cli", *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def run_json(folder: Path, *arguments: str) -> dict[str, Any]:
    return json.loads(run(folder, *arguments, "--json"))


def test_push_tells_what_would_be_published(folder: Path) -> None:
    said = run(folder, "push", "more", "--repo", "org/new", "--to", "registry", "--dry-run")
    assert said.startswith("org/new@1.0.0 would be published: ")
    assert "first release: rows " in said
    assert not (folder / "registry" / "org" / "new").exists()


def test_push_again_says_that_it_is_there(folder: Path) -> None:
    own = ["push", "more", "--repo", NAME, "--version", "1.1.0", "--to", "registry"]
    assert "is published already, with the same bytes" in run(folder, *own)
    assert run_json(folder, *own)["status"] == "already there"


def test_push_without_a_version_proposes_one(folder: Path) -> None:
    said = run(folder, "push", "first", "--repo", NAME, "--to", "registry", code=2)
    assert said.splitlines()[-1] == (
        "progdata: org/count: the least version that fits is 2.0.0 (major: rows, ids, splits or "
        "columns of an existing variant changed): give --version 2.0.0"
    )


def test_push_tells_what_changed(folder: Path) -> None:
    own = ["push", "first", "--repo", NAME, "--version", "2.0.0", "--to", "registry", "--dry-run"]
    said = run(folder, *own)
    assert "after 1.1.0: major changes; the least version that fits is 2.0.0" in said
    assert "  variant `noisy` removed" in said
    assert "data/noisy/train-00000-of-00001.parquet left and is deleted" in said


def test_a_broken_law_exits_with_3(folder: Path) -> None:
    build(countdown(20, ["clean"]), folder / "broken")
    (folder / "broken" / "rejects.parquet").unlink()
    own = ["push", "broken", "--repo", NAME, "--version", "9.0.0", "--to", "registry"]
    said = run(folder, *own, code=3)
    assert "law 'declared' is broken: rejects.parquet" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["push", "first", "--repo", "noorg", "--version", "1.0.0"], "expected the name of a repo"),
        (["push", "first", "--repo", NAME, "--version", "one"], "expected three numbers"),
        (["push", "absent", "--repo", NAME, "--version", "1.0.0"], "expected the folder of a fin"),
        (["push", "first"], "Missing option"),
        (["pull", "org/count"], "expected org/name@1.2.0"),
        (["pull", "org/count@9.0.0", "--from", "registry"], "no version 9.0.0"),
        (["pull", "org/count@latest", "--from", "registry", "--variant", "cleen"], "'clean'"),
        (["diff", "first", "absent"], "expected the folder of a finished build"),
        (["releases", "org/none", "--from", "registry"], "no release of that name"),
        (["card", "absent"], "expected the folder of a finished build"),
        (["card", "first", "--facts", "absent.yaml"], "absent.yaml"),
        (
            ["pull", "org/count@latest", "--from", "registry", "--out", "file/out"],
            "file: is a file",
        ),
        (
            ["push", "first", "--repo", NAME, "--version", "9.0.0", "--to", "file/registry"],
            "file: is a file; expected `hub` or the folder of a registry",
        ),
        (
            [
                "push",
                "first",
                "--repo",
                NAME,
                "--version",
                "9.0.0",
                "--to",
                "registry",
                "--record",
                "registry",
            ],
            "registry: is a folder; name a file for the record",
        ),
        (
            [
                "push",
                "first",
                "--repo",
                NAME,
                "--version",
                "9.0.0",
                "--to",
                "registry",
                "--record",
                "absent/record.yaml",
            ],
            "is in no folder that is there; name a file",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_one_line_and_exits_with_2(
    folder: Path, arguments: list[str], said: str
) -> None:
    shown = run(folder, *arguments, code=2).strip().splitlines()
    assert said in shown[-1]
    assert not any("Traceback" in line for line in shown)


def test_pull_prints_the_version_and_how_to_load(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    said = run(folder, "pull", "org/count@latest", "--from", "registry", "--out", out)
    assert said.startswith("org/count@1.1.0 (commit ")
    assert said.splitlines()[-1] == f'{out}: load_dataset("{out}", "clean")'


def test_pull_of_a_part_in_json(folder: Path, tmp_path: Path) -> None:
    own = ["pull", "org/count@1.1.0", "--from", "registry", "--out", str(tmp_path / "out")]
    report = run_json(folder, *own, "--variant", "noisy", "--split", "train")
    assert (report["version"], report["variants"], report["splits"]) == (
        "1.1.0",
        ["noisy"],
        ["train"],
    )
    files = {path.name for path in (tmp_path / "out").rglob("[!.w]*") if path.is_file()}
    assert files == {"progdata.lock.json", "README.md", "train-00000-of-00001.parquet"}


def test_diff_of_releases_and_folders(folder: Path) -> None:
    said = run(folder, "diff", "org/count@1.0.0", "more", "--from", "registry")
    assert said.splitlines()[0] == "org/count@1.0.0 -> more: minor changes"
    assert "  variant `noisy` added" in said
    assert run(folder, "diff", "first", "first").strip() == "first and first hold the same"
    report = run_json(folder, "diff", "more", "org/count@1.0.0", "--from", "registry")
    assert (report["level"], report["variants_removed"]) == ("major", ["noisy"])


def test_diff_of_a_folder_whose_file_was_changed_names_it(folder: Path) -> None:
    build(countdown(20, ["clean"]), folder / "whole")
    shutil.copytree(folder / "whole", folder / "damaged")
    table = folder / "damaged" / "data" / "clean" / "train-00000-of-00001.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"x")
    said = run(folder, "diff", "whole", "damaged", code=1)
    assert "damaged/data/clean/train-00000-of-00001.parquet: its sha256 is" in said
    table.unlink()
    said = run(folder, "diff", "whole", "damaged", code=1)
    assert "progdata.lock.json names it; it is not there" in said


def test_an_address_that_is_no_url_is_told_at_once(folder: Path) -> None:
    said = run(folder, "releases", NAME, code=1, HF_ENDPOINT="not-a-url")
    assert said.strip().endswith("HF_ENDPOINT must be the URL of a hub")


def test_releases_are_listed(folder: Path) -> None:
    said = run(folder, "releases", NAME, "--from", "registry").splitlines()
    assert said[0].startswith("org/count@1.1.0  20")
    assert any(line.startswith("org/count@1.0.0  ") for line in said)
    report = run_json(folder, "releases", NAME, "--from", "registry")
    assert [own["version"] for own in report["releases"]] == ["1.1.0", "1.0.0"]


def test_a_card_is_written_and_the_build_still_checks(folder: Path) -> None:
    build(countdown(40, ["clean"]), folder / "carded")
    (folder / "card.yaml").write_text("license: apache-2.0\nlanguages: [en]\n")
    said = run(folder, "card", "carded", "--facts", "card.yaml")
    assert "carded: README.md, " in said and "carded: plots/trace_lengths.png, " in said
    assert "every law holds" in run(folder, "check", "carded")
    assert (folder / "carded" / "README.md").read_text().startswith("---\nlicense: apache-2.0\n")
    report = run_json(folder, "card", "carded")
    assert "license" not in report["missing"]


def test_a_card_changes_no_table_so_that_it_is_a_patch(folder: Path) -> None:
    build(countdown(40, ["clean", "noisy"]), folder / "more-carded")
    (folder / "facts.yaml").write_text("license: mit\n")
    run(folder, "card", "more-carded", "--facts", "facts.yaml")
    own = ["push", "more-carded", "--repo", NAME, "--to", "registry", "--dry-run"]
    report = run_json(folder, *own)
    assert (report["least_version"], report["level"]) == ("1.1.1", "patch")
