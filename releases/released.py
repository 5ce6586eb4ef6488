"""`progdata releases`: what was published under a name, and what each release changed."""

from typing import Any

from progdata.builders.errors import UsageError
from progdata.releases.lockfile import BadLockError
from progdata.releases.registries import HUB, find_registry
from progdata.releases.registry import NotAReleaseError, Registry
from progdata.releases.verified_files import open_release
from progdata.releases.versions import Version, check_repo_name


def list_releases(name: str, *, source: str = HUB) -> dict[str, Any]:
    """The releases of `name` (org/name), the latest first: version, date, commit, rows, changes.

    Raises UsageError where there is none.
    """
    registry = find_registry(source)
    versions = registry.versions(check_repo_name(name))
    if not versions:
        raise UsageError(f"{name}: there is {registry.nothing} in {registry.where}")
    return {
        "name": name,
        "registry": registry.where,
        "releases": [_described(registry, name, version) for version in reversed(versions)],
    }


def _described(registry: Registry, name: str, version: Version) -> dict[str, Any]:
    try:
        release = registry.find(name, version)
        copy = open_release(registry, release)
    except (NotAReleaseError, BadLockError) as error:
        return {"version": str(version), "unreadable": str(error)}
    lock = copy.lock
    return {
        "version": str(version),
        "commit": release.commit,
        "date": registry.date(release),
        "lock_sha256": copy.lock_sha256,
        "rows": sum(lock.splits.values()),
        "splits": lock.splits,
        "variants": [own.name for own in lock.recipe.build_variants()],
        "bytes": sum(record.bytes for record in lock.files.values()),
        "previous": lock.release.previous if lock.release else None,
        "changes": lock.release.changes if lock.release else [],
    }
