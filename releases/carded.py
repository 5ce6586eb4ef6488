"""`progdata card`: the card of a finished build, its plots, and its Croissant file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from progdata.builders.atomic import TEMPORARY, atomic_file, write_text
from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.schema import VARIANT
from progdata.builders.splits import SPLITS
from progdata.builders.table_names import DATA
from progdata.cards.card_facts import CARD_FACTS, CardFacts, facts_text, parse_facts
from progdata.cards.card_header import variant_features
from progdata.cards.card_plots import PLOTS, draw_plots
from progdata.cards.croissant import croissant_text
from progdata.cards.dataset_card import CardContent, dataset_card, missing_facts
from progdata.releases.card_rows import read_example, read_plot_tallies, read_sizes
from progdata.releases.lockfile import FileRecord, LockFile, ReleaseRecord, lock_text, read_lock
from progdata.releases.parts import describe
from progdata.releases.workspace import LOCK_FILE, REPORT, open_workspace

README = "README.md"
CROISSANT = "croissant.json"


def write_card(folder: Path, *, facts: CardFacts | None = None) -> dict[str, Any]:
    """Write the card into the finished build in `folder`, and record its files in the lock file.

    Its `folder`, its `files` (`name`, `bytes`), and the facts that are `missing`. Without `facts`
    those of an earlier card stay. The lock file is rewritten last, so that after a kill the same
    command mends the folder. Raises UsageError where `folder` holds no finished build or a release,
    ProgdataError where its data files are not those that it declares.
    """
    folder = Path(folder)
    lock = read_lock(folder)
    if lock.release is not None:
        raise UsageError(
            f"{folder}: it is release {lock.release.name} {lock.release.version}; "
            "card the build it came from"
        )
    _check_files(folder, lock)
    facts = _facts_of(folder, lock) if facts is None else facts
    try:
        made = _write(folder, lock, facts)
    except OSError as error:
        raise ProgdataError(
            f"{folder}: the card cannot be written: {error.strerror or error}; mend that and run "
            "the same command again"
        ) from error
    return {
        "folder": str(folder),
        "files": [{"name": name, "bytes": len(own)} for name, own in sorted(made.items())],
        "missing": missing_facts(lock.model_dump(), facts),
    }


def _write(folder: Path, lock: LockFile, facts: CardFacts) -> dict[str, bytes]:
    """Write the files of a card, and last the lock file that names them."""
    with open_workspace(folder):
        _drop_unfinished(folder)
        made = card_files(folder, lock, facts=facts)
        for name, content in made.items():
            with atomic_file(folder / name) as temporary:
                temporary.write_bytes(content)
        records = {name: FileRecord(**describe(folder / name)) for name in made}
        dropped = {*PLOTS, CARD_FACTS} & {*lock.files} - {*made}
        kept = {name: own for name, own in lock.files.items() if name not in dropped}
        carded = lock.model_copy(update={"files": kept | records})
        write_text(folder / LOCK_FILE, lock_text(carded))
        for name in dropped:
            (folder / name).unlink(missing_ok=True)
    return made


def card_files(
    folder: Path,
    lock: LockFile,
    *,
    facts: CardFacts | None = None,
    release: ReleaseRecord | None = None,
) -> dict[str, bytes]:
    """The files of a card by their names: README.md, croissant.json, the plots, and card.yaml where
    facts were given. Nothing is written.

    Without `facts` those in the build are used, if it has any. With `release` the card says how
    that is loaded. Plots that the lock file names are taken as they are: their rows are not read
    again.
    """
    folder = Path(folder)
    facts = _facts_of(folder, lock) if facts is None else facts
    report = _read_report(folder)
    plots = _plots_of(folder, lock) or draw_plots(report, read_plot_tallies(folder, lock))
    card = card_content(folder, lock, facts, release or lock.release, sorted(plots))
    made = {
        README: dataset_card(card).encode(),
        CROISSANT: croissant_text(card.lock, report, facts, VARIANT).encode(),
        **plots,
    }
    written = facts_text(facts)
    return made | {CARD_FACTS: written.encode()} if written else made


def card_content(
    folder: Path,
    lock: LockFile,
    facts: CardFacts,
    release: ReleaseRecord | None,
    plots: Sequence[str],
) -> CardContent:
    """All that the card of the build in `folder` is made from."""
    return CardContent(
        lock=_content(lock, release),
        report=_read_report(folder),
        facts=facts,
        example=read_example(folder, lock),
        features=variant_features(),
        sizes=read_sizes(folder, lock),
        plots=plots,
    )


def _drop_unfinished(folder: Path) -> None:
    """Remove what a killed writer of a card left half-written."""
    for place in (folder, *{(folder / name).parent for name in PLOTS}):
        for leftover in place.glob(f"{TEMPORARY}*"):
            leftover.unlink()


def _content(lock: LockFile, release: ReleaseRecord | None) -> dict[str, Any]:
    """The content of the lock file, with this release, its splits in their order."""
    content = lock.model_dump()
    content["release"] = release.model_dump() if release else None
    content["splits"] = {own: lock.splits[own] for own in SPLITS if own in lock.splits}
    return content


def _check_files(folder: Path, lock: LockFile) -> None:
    """Raise ProgdataError unless the data files and the report are those of the lock file; what a
    card writes may differ, as a kill leaves it so."""
    for name, record in lock.files.items():
        if name.startswith(DATA) or name == REPORT:
            path = folder / name
            found = describe(path) if path.is_file() else {}
            if found.get("sha256") != record.sha256:
                state = "differs from what the lock file declares" if found else "is not there"
                raise ProgdataError(f"{path}: {state}; build again, and card that")


def _facts_of(folder: Path, lock: LockFile) -> CardFacts:
    """The facts of an earlier card of this build."""
    if CARD_FACTS not in lock.files:
        return CardFacts()
    return parse_facts(_read(folder / CARD_FACTS), folder / CARD_FACTS)


def _plots_of(folder: Path, lock: LockFile) -> dict[str, bytes]:
    """The plots of an earlier card, if they are what the lock file declares."""
    found = {}
    for name in (own for own in PLOTS if own in lock.files):
        path = folder / name
        if not path.is_file() or describe(path)["sha256"] != lock.files[name].sha256:
            return {}
        found[name] = _read(path)
    return found


def _read_report(folder: Path) -> Mapping[str, Any]:
    path = folder / REPORT
    try:
        return json.loads(_read(path))
    except ValueError as error:
        raise ProgdataError(f"{path}: not the report of a build: {one_line(error)}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProgdataError(f"{path}: {error.strerror or error}; build again") from error
