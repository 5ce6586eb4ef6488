"""What keeps the package light and its floors apart."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("builders", "verifiers", "cards", "releases", "training_refs", "cli")
"""From the ground up; `training_refs` may use a build, and no build uses a trainer."""

HEAVY = ("torch", "transformers", "datasets", "sympy", "pyarrow", "numpy", "polars", "tokenizers")

PACKAGE_DATA = (
    "py.typed",
    "cards/card.md.jinja",
    "cards/dataset_card.md.jinja",
    "cards/features.yaml",
    "cards/licences.yaml",
    "builders/prompt_profiles.yaml",
    "verifiers/labelled_answers.jsonl",
)


@dataclass(frozen=True)
class Import:
    """One import of a project module by another."""

    importer: str
    imported: str
    level: int
    typing_only: bool
    line: int


def modules() -> dict[str, Path]:
    """Every module of the package, by its name."""
    paths = [*ROOT.glob("*.py"), *(p for floor in FLOORS for p in (ROOT / floor).rglob("*.py"))]
    return {
        ".".join(("progdata", *path.relative_to(ROOT).with_suffix("").parts))
        .removesuffix(".__init__"): path
        for path in paths
    }  # fmt: skip


def imports_of(name: str, path: Path) -> Iterator[Import]:
    """All imports of a module, those inside functions too."""
    tree = ast.parse(path.read_text("utf-8"))
    guarded = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in ast.walk(node)
    }
    known = modules()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            inner = [f"{base}.{alias.name}" for alias in node.names]
            found = [(own if own in known else base, node.level) for own in inner]
        else:
            continue
        for imported, level in found:
            yield Import(name, imported, level, id(node) in guarded, node.lineno)


def project_imports() -> list[Import]:
    return [
        own
        for name, path in modules().items()
        for own in imports_of(name, path)
        if own.imported == "progdata" or own.imported.startswith("progdata.") or own.level
    ]


def floor_of(module: str) -> str | None:
    """The floor of a module; None for the package itself, which holds the version."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def test_every_module_stands_on_a_floor():
    assert {floor_of(name) for name in modules()} == {None, *FLOORS}
    assert len(project_imports()) > 100


def test_imports_go_down_only():
    upwards = [
        own
        for own in project_imports()
        if (importer := floor_of(own.importer)) and (imported := floor_of(own.imported))
        and FLOORS.index(imported) > FLOORS.index(importer)
    ]  # fmt: skip
    assert upwards == []


def test_the_package_itself_imports_nothing_of_the_project():
    """`import progdata` is free of side effects; its public functions are imported when asked."""
    own = [own for own in imports_of("progdata", ROOT / "__init__.py") if not own.typing_only]
    assert [one for one in own if one.imported.startswith("progdata")] == []


def test_imports_of_the_project_are_absolute():
    assert [own for own in project_imports() if own.level] == []
    names = {name.split(".")[-1] for name in modules()} | set(FLOORS)
    bare = [
        own
        for name, path in modules().items()
        for own in imports_of(name, path)
        if own.imported.split(".")[0] in names - sys.stdlib_module_names - {"progdata"}
    ]
    assert bare == []


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for own in project_imports():
        if not own.typing_only and own.imported != "progdata":
            graph[own.importer].add(own.imported)
    while leaves := {name for name, wanted in graph.items() if not wanted}:
        graph = {name: wanted - leaves for name, wanted in graph.items() if name not in leaves}
    assert graph == {}


def test_the_floors_are_where_the_code_looks_for_them():
    """The checks above see what they should: a function-level and a typing-only import."""
    by_pair = {(own.importer, own.imported): own for own in project_imports()}
    assert ("progdata.cli", "progdata.releases.build") in by_pair
    assert by_pair["progdata", "progdata.releases.check"].typing_only
    assert ("progdata.releases.check", "progdata.verifiers.laws") in by_pair


def test_no_root_module_is_named_like_one_of_the_standard_library():
    names = {path.stem for path in ROOT.glob("*.py")} | set(FLOORS)
    assert names & (sys.stdlib_module_names - {"__init__"}) == set()


def test_tests_are_no_package():
    assert not (ROOT / "tests" / "__init__.py").exists()


# --- the command line


def test_importing_the_command_line_loads_nothing_heavy():
    code = f"import sys, progdata.cli; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def progdata(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "progdata.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"COLUMNS": "100"},
    )


def test_help_answers_in_under_half_a_second():
    seconds = [1.0]
    for _ in range(8):  # other tests run beside this one
        if min(seconds) < 0.5:
            break
        begun = time.perf_counter()
        done = progdata("--help")
        seconds.append(time.perf_counter() - begun)
        assert (done.returncode, done.stderr) == (0, "")
        assert "build" in done.stdout
    assert min(seconds) < 0.5


def commands() -> list[str]:
    """Every command, with the commands of a group behind its name."""
    code = (
        "import json; from typer.main import get_command; from progdata.cli import app\n"
        "def names(group, prefix):\n"
        "    for name, own in group.commands.items():\n"
        "        inner = getattr(own, 'commands', None)\n"
        "        if inner: yield from names(own, prefix + [name])\n"
        "        else: yield prefix + [name]\n"
        "print(json.dumps([' '.join(own) for own in names(get_command(app), [])]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_help_of_every_command_has_an_example_of_it():
    found = commands()
    assert {"build", "check", "segment", "stats"} <= set(found)
    for command in found:
        done = progdata(*command.split(), "--help")
        assert done.returncode == 0
        assert f"progdata {command} " in done.stdout.partition("Example")[2], command


# --- what is shipped


def configuration() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]


def test_every_folder_of_code_is_a_listed_package():
    listed = configuration()
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for floor in FLOORS
        for path in (ROOT / floor).rglob("*.py")
    }
    assert set(listed["packages"]) == {"progdata", *(f"progdata.{f}" for f in folders)}
    assert listed["package-dir"] == {"progdata": "."} | {f"progdata.{f}": f for f in folders}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)


def shipped_recipes() -> set[str]:
    """The recipes of builds and of trainers; those of the experiment are of the repository."""
    folders = ROOT / "recipes", ROOT / "recipes" / "train"
    return {
        path.relative_to(ROOT).as_posix() for folder in folders for path in folder.glob("*.yaml")
    }


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> tuple[set[str], set[str]]:
    """The names in the wheel and in the sdist, built from a copy of what git would ship."""
    tree = tmp_path_factory.mktemp("tree") / "with-a-hyphen"
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{ROOT} is not a git checkout")
    for name in filter(None, done.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    out = tree.parent / "dist"
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        source = {name.partition("/")[2] for name in archive.getnames()}
    return set(zipfile.ZipFile(wheel).namelist()), source


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_all_package_data(shipped):
    wheel, _ = shipped
    modules_there = {f"progdata/{path.relative_to(ROOT).as_posix()}" for path in modules().values()}
    assert modules_there <= wheel
    recipes = shipped_recipes()
    assert {"recipes/paper.yaml", "recipes/train/sft.yaml"} <= recipes
    assert {f"progdata/{name}" for name in {*PACKAGE_DATA, *recipes}} <= wheel
    strange = {name for name in wheel if name.startswith(("tests", "progdata/tests"))}
    assert strange == set()


@pytest.mark.slow
def test_the_sdist_holds_what_the_wheel_and_the_tests_need(shipped):
    _, source = shipped
    wanted = {path.relative_to(ROOT).as_posix() for path in modules().values()}
    wanted |= {f"tests/{path.name}" for path in (ROOT / "tests").glob("*.py")}
    wanted |= {*PACKAGE_DATA, "pyproject.toml", "README.md", "LICENSE"}
    assert wanted - source == set()
    assert shipped_recipes() <= source
