"""`make bench`: each measurement runs on real servers of its own and prints one JSON line.

A figure is only meaningful beside its yardstick, measured in the same run on the same machine: `ratio` is value over
yardstick. Nothing here passes or fails; the goals stand in ARCHITECTURE.md, "Budgets".
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench import ingest, notice, query, ratios, rollup, yardsticks
from tests.bench.measurement import Bench, Measurement

MEASUREMENTS: dict[str, Callable[[Bench], Measurement]] = {
    "copy": yardsticks.copy,
    "pipe": yardsticks.pipe,
    "ingest": ingest.ingest,
    "ingest_single": ingest.ingest_single,
    "rollup": rollup.rolled,
    "ratios": ratios.ratios,
    "notice": notice.notice,
    "usage_query": query.usage_query,
}


def conditions() -> dict[str, object]:
    """Describe the machine, as far as it bears on a ratio."""
    return {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}


def main() -> int:
    """Run the chosen measurements in order and print a JSON line for each."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=sorted(MEASUREMENTS), help="run this one (and the yardstick it needs)")
    chosen = parser.parse_args().only
    # As Ctrl-C: the servers are stopped and their folder is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="nenghao-bench-") as folder, Bench.running(Path(folder)) as bench:
        for name, measure in MEASUREMENTS.items():
            if chosen in (None, name):
                found = bench.measured(name, measure)
                line = {
                    "name": name,
                    **found.as_line(),
                    "conditions": {**conditions(), **found.conditions},
                }
                print(json.dumps(line, ensure_ascii=False), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
