"""Time and peak memory of countdown builds of growing size, one worker, one variant.

Memory is the largest resident set of the build's process, from the kernel.

    python benchmarks/scale.py [--rows 10000 100000 1000000] [--variant noisy]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(rows: int, variant: str, out: Path) -> dict[str, float]:
    """The seconds and the peak megabytes of one build, in a process of its own."""
    code = (
        "from progdata.releases.build import build;"
        "from progdata.releases.recipe import load_recipe;"
        f"build(load_recipe(sources=['countdown:{rows}'], variants=['{variant}']), {str(out)!r})"
    )
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    return {
        "rows": rows,
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds),
        "peak_megabytes": round(peak),
        "build_megabytes": round(size, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--variant", default="noisy")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores")
    for rows in sorted(options.rows):  # the peak of the children only grows
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(rows, options.variant, Path(folder) / "out")), flush=True)


if __name__ == "__main__":
    main()
