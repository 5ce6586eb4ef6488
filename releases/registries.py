"""Which registry a word or a path stands for."""

from pathlib import Path

from progdata.builders.errors import UsageError
from progdata.builders.nearest import did_you_mean
from progdata.releases.registry import Registry

HUB = "hub"


def find_registry(where: str) -> Registry:
    """The registry that `hub`, or the path of a folder, stands for."""
    if where == HUB:
        from progdata.releases.hub_registry import HubRegistry

        return HubRegistry()
    if not Path(where).exists() and (meant := did_you_mean(where, [HUB])):
        raise UsageError(f"{where}: no folder of that name{meant}")
    from progdata.releases.local_registry import LocalRegistry

    return LocalRegistry(Path(where))
