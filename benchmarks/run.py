#!/usr/bin/env python3
"""Compare the applications of this directory, and print the table of docs/performance.md.

    python benchmarks/run.py --node-path node_modules [--rounds 5] [--scale 1]

It needs Node.js with drachtio-srf (npm install drachtio-srf), and drachtwist in the Python that
runs it. The exit status is 1 when a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
# What is compared: workload, further options, figure, limit.
ROWS = [
    ("options", [], "cpu_us_per_call", 0.50),
    ("uas", [], "cpu_us_per_call", 0.50),
    ("churn", [], "cpu_us_per_call", 0.50),
    ("register", [], "cpu_us_per_call", 0.75),
    ("soak", ["--collect"], "rss_per_dialog_bytes", 0.50),
    ("uas", ["--paced"], "cpu_us_per_call", 0.75),
    ("uac", [], "cpu_us_per_call", 0.50),
    ("b2bua", [], "cpu_us_per_call", 0.50),
    ("proxy", [], "cpu_us_per_call", 0.50),
    ("b2bua", ["--paced"], "cpu_us_per_call", 0.75),
]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--node-path", required=True, help="where drachtio-srf is installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", help="these workloads, with commas between")
    options = parser.parse_args()
    missed = 0
    print("| workload | drachtwist | drachtio-srf | ratio | lowest to highest | limit |")
    print("|---|---|---|---|---|---|")
    for workload, extra, key, limit in ROWS:
        if options.only and workload not in options.only.split(","):
            continue
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            node = "node --expose-gc" if "--collect" in extra else "node"
            command = [sys.executable, str(HERE / "compare.py"), "--json", file.name]
            command += ["--a", f"{sys.executable} {HERE / 'app.py'}"]
            command += ["--b", f"{node} {HERE / 'node_app.js'}", "--node-path", options.node_path]
            command += ["--workloads", workload, "--rounds", str(options.rounds)]
            command += ["--scale", str(options.scale), *extra]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs = json.loads(Path(file.name).read_text())
        if any(run["errors"] for run in runs):
            print(f"{workload}: the driver found errors", file=sys.stderr)
            return 1
        ours, theirs = ([run[key] for run in runs if run["app"] == app] for app in "AB")
        ratios = sorted(one / other for one, other in zip(ours, theirs, strict=True))
        ratio = median(ratios)
        missed += ratio > limit
        name = " ".join([workload, *[word for word in extra if word == "--paced"]])
        unit = "B" if key.startswith("rss") else "us"
        print(
            f"| {name} | {median(ours):.1f} {unit} | {median(theirs):.1f} {unit} | {ratio:.2f}"
            f" | {ratios[0]:.2f} to {ratios[-1]:.2f} | {limit:.2f} |",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
