#!/usr/bin/env python3
"""Run two apps in turn (A B A B ...) on every workload, and print how they compare.

    compare.py --a "python my_app.py" --b "node node_app.js" --node-path /path/to/node_modules

The ratio is CPU per call of A over that of B, taken within each round: below 1, A is the cheaper.
With --a alone it prints the figures of that one app. What it does not know is passed to driver.py.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CALLS = {
    "uas": 20000,
    "options": 50000,
    "register": 50000,
    "uac": 30000,
    "b2bua": 10000,
    "proxy": 30000,
    "churn": 5000,
    "soak": 20000,
}
PACED = {"uas": 500, "b2bua": 200}


def drive(app, workload, calls, options):
    command = [
        sys.executable,
        os.path.join(HERE, "driver.py"),
        "--workload",
        workload,
        "--app",
        app,
        "--calls",
        str(calls),
        *options,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    if not done.stdout:
        raise SystemExit(f"{workload}: the driver failed for {app}")
    return json.loads(done.stdout)


def median(runs, key):
    return statistics.median(run[key] or 0 for run in runs)


def latency(runs, quantile):
    """Of the first thing the app had to answer; of its ACK where it places the calls."""
    return statistics.median(
        run["latency_us"].get("first", run["latency_us"].get("ack", {})).get(quantile, 0)
        for run in runs
    )


def line(label, name, runs):
    text = (
        f"{label:14} {name} {median(runs, 'cpu_us_per_call'):9.1f} "
        f"{median(runs, 'msgs_per_s'):8.0f} {median(runs, 'cpu_share'):5.2f} "
        f"{latency(runs, 'p50'):8.0f} {latency(runs, 'p99'):8.0f} "
        f"{median(runs, 'rss_start_kb') / 1024:7.1f} "
        f"{median(runs, 'rss_settled_kb') / 1024:7.1f} "
        f"{median(runs, 'rss_peak_kb') / 1024:7.1f} {sum(run['errors'] for run in runs):4}"
    )
    if "rss_per_dialog_bytes" in runs[0]:
        text += f"   {median(runs, 'rss_per_dialog_bytes'):.0f} B per held dialog"
    print(text, flush=True)
    for sample in next((run["error_samples"] for run in runs if run["errors"]), []):
        print("   !", sample)


def ratios(label, key, a, b):
    pairs = [x[key] / y[key] for x, y in zip(a, b) if x.get(key) and y.get(key)]
    if pairs:
        print(
            f"{label:14} {key} A/B {statistics.median(pairs):.2f} "
            f"({min(pairs):.2f} to {max(pairs):.2f})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", required=True)
    parser.add_argument("--b")
    parser.add_argument("--workloads", default=",".join(CALLS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1, help="factor on the number of calls")
    parser.add_argument("--paced", action="store_true", help="fixed, low call rates, not a window")
    parser.add_argument("--json", help="also keep every run in this file")
    args, options = parser.parse_known_args()

    apps = {"A": args.a, "B": args.b} if args.b else {"A": args.a}
    kept = []
    print(
        f"{'workload':14}    us/call   msgs/s share   p50 us   p99 us startMB   endMB  peakMB  err"
    )
    for workload in args.workloads.split(","):
        calls, more = int(CALLS[workload] * args.scale), list(options)
        if args.paced:
            rate = PACED.get(workload, 500)
            more += ["--rate", str(rate), "--warmup", str(rate * 2)]
            calls = int(rate * 8 * args.scale)
        runs = {name: [] for name in apps}
        for _ in range(args.rounds):
            for name, app in apps.items():
                runs[name].append(drive(app, workload, calls, more))
        for name in apps:
            line(workload, name, runs[name])
            kept += [dict(run, app=name) for run in runs[name]]
        if args.b:
            ratios(workload, "cpu_us_per_call", runs["A"], runs["B"])
            ratios(workload, "rss_per_dialog_bytes", runs["A"], runs["B"])
        if args.json:
            with open(args.json, "w") as f:
                json.dump(kept, f, indent=1)


if __name__ == "__main__":
    main()
