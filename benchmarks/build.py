"""Time a build of four variants against the usual script and against the floor, side by side.

(a) usual: `datasets.map` with per-segment tokenisation and string joins, one variant;
(b) progdata: all four presets from one pass, one worker, and (b2) with two;
(c) floor: read the same Parquet, count it once with fastokens, write the same variant tables.

Input: the real traces in $PROGDATA_SHARED (default ../shared), repeated. Every contender runs in
its own process; all but (b2) on one core with one thread. Imports are not timed, loading the
tokenizer is.

    python benchmarks/build.py [--megabytes 80] [--json]
"""

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARED = Path(os.environ.get("PROGDATA_SHARED", Path(__file__).parents[2] / "shared"))
TOKENIZER = SHARED / "data" / "tokenizers" / "deepscaler"
PRESETS = ["clean", "noisy", "masked", "special"]


def write_input(path: Path, megabytes: float) -> float:
    """Write the finished real traces, repeated, as Parquet; their megabytes of thinking."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    traces = []
    for name in sorted((SHARED / "data" / "traces").glob("*.jsonl.gz")):
        with gzip.open(name, "rt", encoding="utf-8") as lines:
            traces += [json.loads(line) for line in lines]
    traces = [trace for trace in traces if "</think>" in trace["completion"]]
    rows, size, copy = [], 0, 0
    while size < megabytes * 1e6:
        copy += 1
        for trace in traces:
            thinking = trace["completion"].partition("</think>")[0].removeprefix("<think>")
            size += len(thinking.encode())
            rows.append(
                {
                    "problem": f"({copy}) {trace['problem']}",
                    "answer": trace["answer"],
                    "completion": trace["completion"],
                }
            )
            if size >= megabytes * 1e6:
                break
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000)
    return size / 1e6


def run_usual(source: str, out: str) -> None:
    """(a): what a user writes today, for one variant."""
    from datasets import disable_progress_bars, load_dataset
    from tokenizers import Tokenizer

    disable_progress_bars()
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))

    def mark(row: dict) -> dict:
        completion = row["completion"]
        start = completion.find("<think>")
        start = start + len("<think>") if start >= 0 else 0
        end = completion.index("</think>")
        segments = completion[start:end].split("\n\n")
        segments = [segment + "\n\n" for segment in segments[:-1]] + segments[-1:]
        counts = [len(tokenizer.encode(s, add_special_tokens=False).ids) for s in segments]
        total, done, text, labels = sum(counts), 0, "", []
        for segment, count in zip(segments, counts, strict=True):
            done += count
            labels.append(round(100 * done / total))
            text += segment + f"<progressbar>{labels[-1]}%</progressbar>"
        return {"completion": completion[:start] + text + completion[end:], "labels": labels}

    data = load_dataset("parquet", data_files=source, split="train", cache_dir=f"{out}/cache")
    data.map(mark).to_parquet(f"{out}/noisy.parquet")


def run_progdata(source: str, out: str, workers: int) -> None:
    """(b): four variants."""
    from progdata.releases.build import build
    from progdata.releases.recipe import load_recipe

    recipe = load_recipe(sources=[source], variants=PRESETS, tokenizer=str(TOKENIZER))
    build(recipe, Path(out), workers=workers)


def run_floor(source: str, out: str, built: str) -> float:
    """(c): the least that any tool must do. Returns seconds to leave out: loading the tables."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from fastokens import Tokenizer

    pa.set_cpu_count(1)
    begun = time.perf_counter()
    files = sorted(Path(built).glob("data/*/*.parquet"))
    tables = [pq.read_table(name) for name in files]
    left_out = time.perf_counter() - begun
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    texts = pq.read_table(source)["completion"].to_pylist()
    tokenizer.encode_batch_flat([text.partition("</think>")[0] for text in texts])
    for number, table in enumerate(tables):
        pq.write_table(
            table,
            f"{out}/{number}.parquet",
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        )
    return left_out


def contend(name: str, source: str, out: str, built: str) -> None:
    """Run one contender in this process and print its seconds."""
    import pyarrow.parquet  # noqa: F401, imports are not timed

    if name == "usual":
        import datasets  # noqa: F401
    elif name.startswith("progdata"):
        import progdata.releases.build  # noqa: F401
    begun = time.perf_counter()
    left_out = 0.0
    if name == "usual":
        run_usual(source, out)
    elif name == "floor":
        left_out = run_floor(source, out, built)
    else:
        run_progdata(source, out, 2 if name == "progdata-2" else 1)
    print(json.dumps(time.perf_counter() - begun - left_out))


def measure(name: str, source: Path, folder: Path) -> float:
    """The seconds of a contender in a process of its own."""
    out = folder / name
    out.mkdir()
    one_thread = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--contend", name, str(source), str(out)]
    cores = [] if name == "progdata-2" else ["taskset", "-c", "0"]
    done = subprocess.run(
        [*cores, *command, str(folder / "progdata")],
        env=os.environ | one_thread | quiet,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=80.0, help="of thinking text")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--contend", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        contend(*options.contend)
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "traces.parquet"
        size = write_input(source, options.megabytes)
        names = ("progdata", "floor", "progdata-2", "usual")
        seconds = {name: measure(name, source, Path(folder)) for name in names}
    report = {
        "megabytes": round(size, 1),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "megabytes_per_second": {name: round(size / value, 1) for name, value in seconds.items()},
        "times_the_usual": round(seconds["usual"] / seconds["progdata"], 1),
        "of_the_floor": round(seconds["progdata"] / seconds["floor"], 2),
        "two_workers": round(seconds["progdata"] / seconds["progdata-2"], 2),
    }
    print(json.dumps(report) if options.json else json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
