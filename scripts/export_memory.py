"""How long `lth-export` takes and how much memory it holds, in copies of the network's weights.

    python scripts/export_memory.py RUN SMALL

RUN is the run to export, SMALL one of a small network, whose export makes what the libraries make
at their first use too. Each form is written several times, every time in a process of its own, and
the largest peak of resident memory (VmHWM) counts, less that of a process which imports the same
modules (the first column of copies), and less that of the small network's export (the second).
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FORMS = {"checkpoint": ".safetensors", "csr": ".safetensors", "bitmask": ".safetensors",
         "shrink": ".pt2", "onnx": ".onnx"}  # fmt: skip
REPEATS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("small")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    arguments = parser.parse_args()
    print("| form | s | MB of weights | copies above the imports | above the small export |")
    print("|---|---|---|---|---|")
    for form in arguments.forms:
        found = [_exported(arguments.run, form) for _ in range(REPEATS)]
        small = max(_exported(arguments.small, form)["peak"] for _ in range(REPEATS))
        peak, weights = max(one["peak"] for one in found), found[0]["weights"]
        print(
            f"| `{form}` | {max(one['seconds'] for one in found):.0f} | {weights / 1e6:.0f} | "
            f"{(peak - min(one['imports'] for one in found)) / weights:.2f} | "
            f"{(peak - small) / weights:.2f} |",
            flush=True,
        )


def _exported(run: str, form: str) -> dict[str, float]:
    """Exports in one process, and imports in another what that one had imported in the end."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        target = Path(folder) / f"ticket{FORMS[form]}"
        _child("export", str(told), run, "--samples", "4", "--as", form, "--to", str(target))
        found: dict[str, float] = json.loads(told.read_text())
        _child("imports", str(told))
        return found | json.loads(told.read_text())


def _child(*words: str) -> None:
    began = [sys.executable, __file__, "--child", *words]
    subprocess.run(began, check=True, stdout=subprocess.DEVNULL)


def _export(told: Path, words: list[str]) -> None:
    began = time.perf_counter()
    from lth_runner.cli.export import main as export

    if export(words):
        raise SystemExit("the export failed")
    seconds, peak = time.perf_counter() - began, _peak()
    from lth_runner import export as made

    weights = sum(value.nbytes for value in made.ticket(words[0]).weights.values())
    modules = [name for name in sys.modules if name != "__main__"]
    told.write_text(json.dumps({"seconds": seconds, "peak": peak, "weights": weights,
                                "modules": modules}))  # fmt: skip


def _import(told: Path) -> None:
    for name in json.loads(told.read_text())["modules"]:
        try:
            importlib.import_module(name)
        except ImportError:  # one that another made, which no file holds
            continue
    told.write_text(json.dumps({"imports": _peak()}))


def _peak() -> int:
    """The largest resident memory that this process has had, in bytes; of Linux."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, told, *words = sys.argv[2:]
        if kind == "export":
            _export(Path(told), words)
        else:
            _import(Path(told))
    else:
        main()
