"""Run the benchmarks and print their table: `python -m benchmarks [--quick] [--json] [NAME ...]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict
from types import ModuleType
from typing import Any

from benchmarks import (
    background,
    bounded_memory,
    built_ins,
    callbacks,
    captured_locals,
    choosing,
    contexts,
    current_call,
    events,
    failures,
    guards,
    imports,
    nothing_attached,
    other_libraries,
    ready_made,
    resident_memory,
)
from benchmarks.measuring import QUICK, Budget
from benchmarks.table import shown

BENCHMARKS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        nothing_attached,
        built_ins,
        contexts,
        callbacks,
        choosing,
        current_call,
        failures,
        captured_locals,
        guards,
        background,
        events,
        ready_made,
        other_libraries,
        imports,
        resident_memory,
        bounded_memory,
    )
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it; a bar that is missed is shown, and fails nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run: {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a first look")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    budget = QUICK if options.quick else Budget()
    results: dict[str, Any] = {}
    if not options.json:
        print(_machine())
    for name in options.names or BENCHMARKS:
        module = BENCHMARKS[name]
        rows = module.rows(budget)
        results[name] = [{**asdict(row), "verdict": row.verdict} for row in rows]
        if not options.json:
            print(f"\n{shown(module.TITLE, rows)}", flush=True)
    if options.json:
        json.dump({"machine": _machine(), "quick": options.quick, "results": results}, sys.stdout, indent=2)
        print()


def _machine() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python}, {platform.system()} {platform.machine()}, {os.cpu_count()} processors"


if __name__ == "__main__":
    main()
