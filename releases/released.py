"""`progdata releases`: what was published under a name, and what each release changed."""

from typing import Any

from progdata.builders.errors import ProgdataError, UsageError
from progdata.releases.registries import HUB, find_registry
from progdata.releases.registry import Registry, Release
from progdata.releases.verified_files import open_release
from progdata.releases.versions import check_repo_name


def list_releases(name: str, *, source: str = HUB) -> dict[str, Any]:
    """The releases of `name` (org/name), the latest first: version, date, commit, rows, changes.

    Raises UsageError where there is none.
    """
    registry = find_registry(source)
    versions = registry.versions(check_repo_name(name))
    if not versions:
        raise UsageError(f"{name}: no release of that name in {registry.where}")
    found = [registry.find(name, version) for version in reversed(versions)]
    return {
        "name": name,
        "registry": registry.where,
        "releases": [_described(registry, release) for release in found],
    }


def _described(registry: Registry, release: Release) -> dict[str, Any]:
    known = {
        "version": str(release.version),
        "commit": release.commit,
        "date": registry.date(release),
    }
    try:
        copy = open_release(registry, release)
    except ProgdataError as error:  # a tag of somebody else's
        return {**known, "unreadable": str(error)}
    lock = copy.lock
    return {
        **known,
        "lock_sha256": copy.lock_sha256,
        "rows": sum(lock.splits.values()),
        "splits": lock.splits,
        "variants": [own.name for own in lock.recipe.build_variants()],
        "bytes": sum(record.bytes for record in lock.files.values()),
        "previous": lock.release.previous if lock.release else None,
        "changes": lock.release.changes if lock.release else [],
    }
