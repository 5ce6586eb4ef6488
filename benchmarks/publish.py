"""Push and pull of a build of 1 GB beside the client's own `upload_folder` and `snapshot_download`.

    python benchmarks/publish.py [--gb 1.0] [--rounds 3] [--folder DIR]

Both move the same files to and from the loopback hub of the tests, a process of its own with an
empty store for each upload, in turns, each in a process of its own. The first time is that of the
call, with its library imported; the second that of the whole process. Memory is the most that the
process had. A push is preceded by the check of every law, which is timed alone: it reads every
row, is done once for a build, and has no counterpart in the client. The build has its card.
"""

import argparse
import json
import os
import random
import shutil
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

TIMED = """
import sys, time
{imports}
begun = time.monotonic()
{call}
print(time.monotonic() - begun)
"""

PUSH = TIMED.format(
    imports="import huggingface_hub.hf_api\nfrom progdata.releases.pushed import push",
    call="push(sys.argv[1], 'org/big', '1.0.0')",
)
UPLOAD = TIMED.format(
    imports="from huggingface_hub import HfApi",
    call="""
api = HfApi()
api.create_repo("org/plain", repo_type="dataset", exist_ok=True)
api.upload_folder(folder_path=sys.argv[1], repo_id="org/plain", repo_type="dataset")
""",
)
PULL = TIMED.format(
    imports="import huggingface_hub.hf_api\nfrom progdata.releases.pulled import pull",
    call="pull('org/big@1.0.0', out=sys.argv[1] or None)",
)
DOWNLOAD = TIMED.format(
    imports="from huggingface_hub import snapshot_download",
    call="""
snapshot_download(
    "org/big", repo_type="dataset", revision="v1.0.0", local_dir=sys.argv[1] or None
)
""",
)


Environment = Callable[[Path], dict[str, str]]
"""The environment of a client of a hub, by the folder of its caches."""


@dataclass(frozen=True)
class Run:
    """A process that ended well: seconds of its call, of all of it, and its peak memory (MB)."""

    seconds: float
    whole: float
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
        (out / ".progdata" / "checked.json").unlink(missing_ok=True)
        plan = ["push", str(out), "--repo", "org/big", "--to", str(Path(scratch) / "none")]
        checked = timed([*PROGDATA, *plan, "--dry-run"], dict(os.environ))
        print(f"check of every law, once a build: {checked.whole:.1f} s, {checked.memory:.0f} MB")
        measure(out, Path(scratch), given.rounds)


def make_build(folder: Path, gb: float) -> Path:
    """A build of about so many GB of Parquet, of text that does not compress; made once."""
    out = folder / "build"
    if (out / "progdata.lock.json").exists():
        return out
    source = folder / "traces.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    rows = int(gb * 1.63e9 / ROW_BYTES)
    draw = random.Random(0)
    with source.open("w", encoding="utf-8") as file:
        for number in range(rows):
            file.write(json.dumps(random_row(number, draw)) + "\n")
    command = [*PROGDATA, "build", "--source", str(source), "--no-verify", "--out", str(out)]
    subprocess.run([*command, "--workers", "2"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*PROGDATA, "card", str(out)], check=True, stdout=subprocess.DEVNULL)
    source.unlink()
    return out


def random_row(number: int, draw: random.Random) -> dict[str, str]:
    text = draw.randbytes(ROW_BYTES // 2).hex()
    words = [text[at : at + 9] for at in range(0, len(text), 9)]
    paragraphs = [" ".join(words[at : at + 80]) for at in range(0, len(words), 80)]
    think = "\n\n".join(paragraphs)
    return {"problem": f"What is {number}?", "completion": f"<think>\n{think}\n</think>\n{number}"}


def measure(out: Path, scratch: Path, rounds: int) -> None:
    """Both ways, in turns; the ratios of each turn, and the medians."""
    times: dict[str, list[Run]] = {}

    def take(name: str, program: str, argument: Path | str, environment: dict[str, str]) -> None:
        command = [sys.executable, "-c", program, str(argument)]
        times.setdefault(name, []).append(timed(command, environment))

    for number in range(rounds):
        own = scratch / str(number)
        release, copy = own / "release", own / "copy"
        with hub(own / "hub") as environment:
            take("push", PUSH, out, environment(own / "home"))
            for name, program, target in (
                ("pull", PULL, ""),
                ("snapshot_download", DOWNLOAD, ""),
                ("pull --out", PULL, release),
                ("snapshot_download local_dir", DOWNLOAD, copy),
            ):
                take(name, program, target, environment(own / "home"))
                shutil.rmtree(own / "home")
        with hub(own / "hub-2") as environment:  # what was pulled: the very files that were pushed
            take("upload_folder", UPLOAD, release, environment(own / "home"))
        shutil.rmtree(own)
        print(
            ", ".join(f"{name} {runs[-1].seconds:.2f} s" for name, runs in times.items()),
            flush=True,
        )
    for ours, theirs in PAIRS:
        print(f"{ours} / {theirs}: {compared(times[ours], times[theirs])}")


PAIRS = (
    ("push", "upload_folder"),
    ("pull", "snapshot_download"),
    ("pull --out", "snapshot_download local_dir"),
)


def compared(ours: list[Run], theirs: list[Run]) -> str:
    calls = [a.seconds / b.seconds for a, b in zip(ours, theirs, strict=True)]
    whole = [a.whole / b.whole for a, b in zip(ours, theirs, strict=True)]
    memory = [max(run.memory for run in runs) for runs in (ours, theirs)]
    return (
        f"{statistics.median(calls):.2f} ({min(calls):.2f} to {max(calls):.2f}), whole processes "
        f"{statistics.median(whole):.2f}; at most {memory[0]:.0f} MB, {memory[1]:.0f} MB"
    )


def timed(command: list[str], environment: dict[str, str]) -> Run:
    """Run a command to its end; its own time and memory."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        whole = time.monotonic() - begun
        output.seek(0)
        said = output.read().decode()
        if status != 0:
            sys.exit(f"{command}: {said[-2_000:]}")
    last = said.split()[-1]
    seconds = float(last) if last.replace(".", "").isdigit() else whole
    return Run(seconds, whole, usage.ru_maxrss / 1e3)


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
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
