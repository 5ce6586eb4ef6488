"""progdata: construct, prove and publish progress-prediction datasets for reasoning models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from progdata.builders.markers import StreamParser, find_markers, strip
    from progdata.releases.build import build
    from progdata.releases.check import check
    from progdata.releases.diffed import diff
    from progdata.releases.loaded import load
    from progdata.releases.pulled import pull
    from progdata.releases.pushed import push

__version__ = "0.1.0"

__all__ = [
    "StreamParser",
    "__version__",
    "build",
    "check",
    "diff",
    "find_markers",
    "load",
    "pull",
    "push",
    "strip",
]

_PUBLIC = {
    "StreamParser": "progdata.builders.markers",
    "build": "progdata.releases.build",
    "check": "progdata.releases.check",
    "diff": "progdata.releases.diffed",
    "find_markers": "progdata.builders.markers",
    "load": "progdata.releases.loaded",
    "pull": "progdata.releases.pulled",
    "push": "progdata.releases.pushed",
    "strip": "progdata.builders.markers",
}


def __getattr__(name: str) -> Any:
    """Import a public function on first use, so that `import progdata` loads nothing else."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'progdata' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
