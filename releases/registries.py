"""Which registry a word or a path stands for, and the release that a version stands for."""

from pathlib import Path

from progdata.builders.errors import UsageError
from progdata.releases.registry import Registry, Release
from progdata.releases.versions import Version

HUB = "hub"


def find_registry(where: str) -> Registry:
    """The registry that `hub`, or the path of a folder, stands for."""
    if where == HUB:
        from progdata.releases.hub_registry import HubRegistry

        return HubRegistry()
    from progdata.releases.local_registry import LocalRegistry

    return LocalRegistry(Path(where))


def find_release(registry: Registry, name: str, version: Version | None) -> Release:
    """The release of a version, or the latest one. Raises UsageError where there is none."""
    if version is None:
        known = registry.versions(name, offline=True)
        if not known:
            raise UsageError(f"{name}: no release of that name in {registry.where}")
        version = known[-1]
    return registry.find(name, version)
