"""`progdata diff`: two builds or releases, opened and compared."""

from pathlib import Path
from typing import Any

from progdata.releases.changelog import changes_of
from progdata.releases.compared import compare
from progdata.releases.pulled import find_copy
from progdata.releases.registries import HUB
from progdata.releases.verified_files import Copy, open_folder


def diff(before: str, after: str, *, source: str = HUB) -> dict[str, Any]:
    """What changed from one build or release to another; each a folder, or org/name@1.2.0.

    Releases are looked up in `source`: "hub", or the folder of a local registry; of them only the
    files that differ are fetched. Raises UsageError where there is no such folder or release,
    ProgdataError where a file of a folder is not the one that its lock file declares.
    """
    found = compare(_open(before, source), _open(after, source))
    return {**found.as_json(), "changes": changes_of(found)}


def _open(spec: str, source: str) -> Copy:
    folder = Path(spec)
    if folder.is_dir() or "@" not in spec:
        copy = open_folder(folder)
        for name in copy.lock.files:
            copy.path(name)  # equal lock files say nothing of a file that was changed since
        return copy
    return find_copy(spec, source)[2]
