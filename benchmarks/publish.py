"""Push and pull of a build of 1 GB beside the client's own `upload_folder` and `snapshot_download`.

    python benchmarks/publish.py [--gb 1.0] [--rounds 3] [--folder DIR]

Both move the same files to and from the loopback hub of the tests, a process of its own with an
empty store for each upload, in turns. A push is preceded by the check of every law, which is timed
alone: it reads every row, is done once for a build, and has no counterpart in the client. Times are
of whole processes, as a user waits for them; memory is the most that a process had.
"""

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGDATA = [sys.executable, "-m", "progdata.cli"]
ROW_BYTES = 64_000

UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/plain", repo_type="dataset", exist_ok=True)
api.upload_folder(folder_path=sys.argv[1], repo_id="org/plain", repo_type="dataset")
"""

DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("org/big", repo_type="dataset", revision="v1.0.0")
"""

DOWNLOAD_TO = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("org/big", repo_type="dataset", revision="v1.0.0", local_dir=sys.argv[1])
"""


Environment = Callable[[Path], dict[str, str]]
"""The environment of a client of a hub, by the folder of its caches."""


@dataclass(frozen=True)
class Run:
    """A process that ended well: its wall time (seconds) and its peak memory (MB)."""

    seconds: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keeps the build, to use it again")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        out = make_build(folder, given.gb)
        size = sum(path.stat().st_size for path in (out / "data").rglob("*.parquet")) / 1e9
        print(f"a build of {size:.2f} GB in {len(list(out.rglob('*.parquet')))} Parquet files")
        proof = out / ".progdata" / "checked.json"
        proof.unlink(missing_ok=True)
        planned = [*PROGDATA, "push", str(out), "--repo", "org/big", "--version", "1.0.0"]
        registry = str(Path(scratch) / "none")
        checked = timed([*planned, "--dry-run", "--to", registry], dict(os.environ))
        print(f"check of every law, once a build: {checked.seconds:.1f} s, {checked.memory:.0f} MB")
        measure(out, planned, Path(scratch), given.rounds)


def make_build(folder: Path, gb: float) -> Path:
    """A build of about so many GB of Parquet, of text that does not compress; made once."""
    out = folder / "build"
    if (out / "progdata.lock.json").exists():
        return out
    source = folder / "traces.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows = int(gb * 1.33e9 / ROW_BYTES)
    draw = random.Random(0)
    with source.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(random_row(number, draw)) + "\n")
    command = [*PROGDATA, "build", "--source", str(source), "--no-verify", "--out", str(out)]
    subprocess.run([*command, "--workers", "2"], check=True, stdout=subprocess.DEVNULL)
    source.unlink()
    return out


def random_row(number: int, draw: random.Random) -> dict[str, str]:
    text = draw.randbytes(ROW_BYTES // 2).hex()
    words = [text[at : at + 9] for at in range(0, len(text), 9)]
    paragraphs = [" ".join(words[at : at + 80]) for at in range(0, len(words), 80)]
    think = "\n\n".join(paragraphs)
    return {"problem": f"What is {number}?", "completion": f"<think>\n{think}\n</think>\n{number}"}


def measure(out: Path, push: list[str], scratch: Path, rounds: int) -> None:
    """Both ways, in turns; the ratios of each turn, and the medians."""
    times: dict[str, list[Run]] = {}
    for number in range(rounds):
        own = scratch / str(number)
        with hub(own / "hub") as environment:
            times.setdefault("push", []).append(timed(push, environment(own / "home-0")))
            pulls(times, environment, own)
        release = own / "release"  # what was pulled: the very files that were pushed
        with hub(own / "hub-2") as environment:
            command = [sys.executable, "-c", UPLOAD, str(release)]
            times.setdefault("upload_folder", []).append(timed(command, environment(own / "home")))
        shutil.rmtree(own)
        report_turn(times)
    for ours, theirs in PAIRS:
        ratios = [a.seconds / b.seconds for a, b in zip(times[ours], times[theirs], strict=True)]
        print(
            f"{ours}: {statistics.median(ratios):.2f}x of {theirs} "
            f"({min(ratios):.2f} to {max(ratios):.2f}); at most "
            f"{max(run.memory for run in times[ours]):.0f} MB, "
            f"{max(run.memory for run in times[theirs]):.0f} MB"
        )


PAIRS = (
    ("push", "upload_folder"),
    ("pull", "snapshot_download"),
    ("pull --out", "snapshot_download local_dir"),
)


def pulls(times, environment, own: Path) -> None:
    """Pull the release that was pushed, and download it with the client, each into a new cache."""
    pull = [*PROGDATA, "pull", "org/big@1.0.0"]
    python = [sys.executable, "-c"]
    for name, command in (
        ("pull", pull),
        ("snapshot_download", [*python, DOWNLOAD]),
        ("pull --out", [*pull, "--out", str(own / "release")]),
        ("snapshot_download local_dir", [*python, DOWNLOAD_TO, str(own / "copy")]),
    ):
        home = own / "pulled"
        times.setdefault(name, []).append(timed(command, environment(home)))
        shutil.rmtree(home)


def report_turn(times: dict[str, list[Run]]) -> None:
    print(", ".join(f"{name} {runs[-1].seconds:.1f} s" for name, runs in times.items()), flush=True)


def timed(command: list[str], environment: dict[str, str]) -> Run:
    """Run a command to its end; its own time and memory."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        if status != 0:
            output.seek(0)
            sys.exit(f"{command}: {output.read().decode()[-2_000:]}")
    return Run(seconds, usage.ru_maxrss / 1e3)


@contextmanager
def hub(folder: Path) -> Iterator[Environment]:
    """A hub with an empty store; the environment of its clients, by their home."""
    folder.mkdir(parents=True)
    server = [sys.executable, str(ROOT / "tests" / "loopback_hub.py"), "--folder", str(folder)]
    process = subprocess.Popen(server, stdout=subprocess.PIPE)
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())

    def environment(home: Path) -> dict[str, str]:
        return os.environ | {
            "HF_ENDPOINT": said["endpoint"],
            "HF_TOKEN": said["token"],
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    try:
        yield environment
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main()
