"""Time a build of four variants against the usual script and against the floor, side by side.

(a) usual: `datasets.map`, the `transformers` tokenizer on each segment, string joins; one variant;
(b) progdata: all four presets from one pass, texts and labels proved on every row;
(c) floor: read the same Parquet, count it once with fastokens, write the same variant tables.

Input: the real traces in $PROGDATA_SHARED (default ../shared), repeated, each copy with a problem
of its own. Every contender runs in its own process, on one core with one thread; `seconds` is
its work, `loading` is its tokenizer (progdata loads two and proves them equal), imports are in
neither. The two-worker ratio is of whole processes, on `--parallel-megabytes` of input.

    python benchmarks/build.py [--megabytes 80] [--parallel-megabytes 240]
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
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

SHARED = Path(os.environ.get("PROGDATA_SHARED", Path(__file__).parents[2] / "shared"))
TOKENIZER = SHARED / "data" / "tokenizers" / "deepscaler"
MODULES = {
    "usual": ("pyarrow.parquet", "datasets", "transformers"),
    "progdata": ("pyarrow.parquet", "progdata.releases.build"),
    "floor": ("pyarrow.parquet", "fastokens"),
}
"""What a contender imports, untimed."""

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
            problem = f"({copy}) {trace['problem']}"
            row = {"answer": trace["answer"], "completion": trace["completion"]}
            rows.append({"problem": problem} | row)
            if size >= megabytes * 1e6:
                break
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000)
    return size / 1e6


def load_usual(source: str, out: str, _: str) -> Callable[[], object]:
    """(a): what a user writes today, for one variant."""
    from datasets import disable_progress_bars, load_dataset
    from transformers import AutoTokenizer

    disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(str(TOKENIZER))

    def mark(row: dict) -> dict:
        completion = row["completion"]
        start = completion.find("<think>")
        start = start + len("<think>") if start >= 0 else 0
        end = completion.index("</think>")
        segments = completion[start:end].split("\n\n")
        segments = [segment + "\n\n" for segment in segments[:-1]] + segments[-1:]
        counts = [len(tokenizer.encode(s, add_special_tokens=False)) for s in segments]
        total, done, text, labels = sum(counts), 0, "", []
        for segment, count in zip(segments, counts, strict=True):
            done += count
            labels.append(round(100 * done / total))
            text += segment + f"<progressbar>{labels[-1]}%</progressbar>"
        return {"completion": completion[:start] + text + completion[end:], "labels": labels}

    def run() -> None:
        data = load_dataset("parquet", data_files=source, split="train", cache_dir=f"{out}/cache")
        data.map(mark).to_parquet(f"{out}/noisy.parquet")

    return run


def load_progdata(source: str, out: str, _: str) -> Callable[[], object]:
    """(b): four variants."""
    from progdata.builders.counter_proof import why_not_fast
    from progdata.builders.tokenizer import find_tokenizer, load_counter
    from progdata.releases.build import build
    from progdata.releases.recipe import load_recipe

    recipe = load_recipe(sources=[source], variants=PRESETS, tokenizer=str(TOKENIZER))
    tokenizer = find_tokenizer(recipe.tokenizer)
    why_not_fast(str(tokenizer.path), tokenizer.fingerprint)
    load_counter(tokenizer.path, True)
    return partial(build, recipe, out)


def load_floor(source: str, out: str, built: str) -> Callable[[], object]:
    """(c): the least that any tool must do; `built` holds the tables that it writes."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from fastokens import Tokenizer

    pa.set_cpu_count(1)
    tables = [pq.read_table(name) for name in sorted(Path(built).glob("data/*/*.parquet"))]
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))

    def run() -> None:
        texts = pq.read_table(source)["completion"].to_pylist()
        tokenizer.encode_batch_flat([text.partition("</think>")[0] for text in texts])
        for number, table in enumerate(tables):
            path = f"{out}/{number}.parquet"
            pq.write_table(table, path, compression="zstd", use_dictionary=False)

    return run


def contend(name: str, source: str, out: str, built: str) -> None:
    """Run one contender in this process; print its seconds of loading and of work."""
    for module in MODULES[name]:
        import_module(module)
    begun = time.perf_counter()
    load = {"usual": load_usual, "progdata": load_progdata, "floor": load_floor}[name]
    run = load(source, out, built)
    loaded = time.perf_counter()
    run()
    print(json.dumps([loaded - begun, time.perf_counter() - loaded]))


def measure(name: str, source: Path, folder: Path) -> tuple[float, float]:
    """The loading and the work of a contender in a process of its own, in seconds."""
    out = folder / name
    out.mkdir()
    command = [sys.executable, __file__, "--contend", name, str(source), str(out)]
    done = run_process(["taskset", "-c", "0", *command, str(folder / "progdata")])
    loading, work = json.loads(done.splitlines()[-1])
    return loading, work


def measure_whole(source: Path, out: Path, workers: int) -> float:
    """The seconds of a whole `progdata build` process."""
    command = [sys.executable, "-m", "progdata.cli", "build", "--source", str(source)]
    options = ["--out", str(out), "--tokenizer", str(TOKENIZER), "--workers", str(workers)]
    variants = [part for name in PRESETS for part in ("--variant", name)]
    begun = time.perf_counter()
    run_process([*command, *options, *variants])
    return time.perf_counter() - begun


def run_process(command: list[str]) -> str:
    one_thread = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    quiet = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=os.environ | one_thread | quiet, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=80.0, help="of thinking text")
    parser.add_argument("--parallel-megabytes", type=float, default=240.0)
    parser.add_argument("--contend", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        contend(*options.contend)
        return
    report: dict = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "traces.parquet"
        size = write_input(source, options.megabytes)
        names = ("progdata", "floor", "usual")
        taken = {name: measure(name, source, Path(folder)) for name in names}
        work = {name: seconds for name, (_, seconds) in taken.items()}
        report |= {
            "megabytes": round(size, 1),
            "seconds": {name: round(seconds, 2) for name, seconds in work.items()},
            "loading": {name: round(loading, 2) for name, (loading, _) in taken.items()},
            "megabytes_per_second": {n: round(size / seconds, 1) for n, seconds in work.items()},
            "times_as_fast_as_usual": round(work["usual"] / work["progdata"], 1),
            "times_the_floor": round(work["progdata"] / work["floor"], 2),
        }
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "traces.parquet"
        size = write_input(source, options.parallel_megabytes)
        whole = {n: measure_whole(source, Path(folder) / f"out{n}", n) for n in (1, 2)}
        report |= {
            "parallel_megabytes": round(size, 1),
            "whole_seconds": {f"{n} workers": round(s, 1) for n, s in whole.items()},
            "two_workers_are_times_as_fast": round(whole[1] / whole[2], 2),
        }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
