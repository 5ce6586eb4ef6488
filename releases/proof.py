"""What `push` remembers of a build whose every law held, so that a second push, or one that goes on
after it was cut off, does not read all rows again."""

import hashlib
import json
from pathlib import Path
from typing import Any

from progdata import __version__
from progdata.builders.atomic import write_text
from progdata.cards.card_facts import CARD_FACTS
from progdata.cards.card_plots import PLOTS
from progdata.releases.carded import CROISSANT, README
from progdata.releases.lockfile import LockFile, lock_text

_OF_THE_CARD = {README, CROISSANT, CARD_FACTS, *PLOTS}

PROOF = Path(".progdata", "checked.json")


def is_proven(folder: Path, lock: LockFile) -> bool:
    """Whether every law was found to hold for these tables, by this version of progdata.

    It says nothing of the files as they are now: that their bytes are still those of the lock file
    is for whoever reads them to see.
    """
    try:
        return json.loads((folder / PROOF).read_text("utf-8")) == _stamp(lock)
    except (OSError, ValueError):
        return False


def remember_proven(folder: Path, lock: LockFile) -> None:
    """Keep that every law holds; a folder that cannot be written is proved again next time."""
    try:
        write_text(folder / PROOF, json.dumps(_stamp(lock)) + "\n")
    except OSError:
        return


def _stamp(lock: LockFile) -> dict[str, Any]:
    """What the laws depend on: all that the lock file says, but for the card."""
    files = {name: own for name, own in lock.files.items() if name not in _OF_THE_CARD}
    text = lock_text(lock.model_copy(update={"files": files}))
    return {"progdata": __version__, "tables": hashlib.sha256(text.encode()).hexdigest()}
