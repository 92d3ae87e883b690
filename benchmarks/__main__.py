"""Turn the names of benchmarks into a table of what they measured here: `python -m benchmarks`, or `nox -s bench`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

BENCHMARKS = ("search", "lattice", "nulls", "memory", "extract", "kernel", "store", "ingest", "rsa", "audit")


def main(arguments: list[str]) -> None:
    """Run what is asked for, and print and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure brainsim on this machine.")
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS), help=f"which of {', '.join(BENCHMARKS)}; all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that they run, measures nothing")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file that the figures are added to")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    found: dict[str, Any] = {"machine": describe_machine(options.device), "date": date.today().isoformat()}
    for name in options.names:
        figures = import_module(f"benchmarks.bench_{name}").run(quick=options.quick, device=options.device)
        found[name] = figures
        width = max(len(key) for key in figures)
        lines = [f"  {key:<{width}}  {value:,.4g}" for key, value in figures.items()]
        sys.stdout.write("\n".join([name, *lines, "", ""]))
        sys.stdout.flush()
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(options.out.read_text()) if options.out.exists() else {}
        options.out.write_text(json.dumps({**known, **found}, indent=1) + "\n")


def describe_machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on."""
    import torch

    import brainsim

    described = {
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "brainsim": brainsim.__version__,
    }
    return described | ({"gpu": torch.cuda.get_device_name()} if device != "cpu" else {})


if __name__ == "__main__":
    main(sys.argv[1:])
