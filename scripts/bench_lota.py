"""A LoTA step of a BERT of MiniLM's size against a full fine-tuning step, in time and memory."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from bench_finetune import BLOCKS, RECIPE, STEPS, THREADS, model_folder, sentences
from measuring import in_turns, kept, ratios, repeated, say

from lth_runner.masking import Compact, Masking, Static
from lth_runner.problem import Delta
from lth_runner.problem.models import HuggingFace
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job

# name -> in deltas, the density of the mask, the masking
ARMS: dict[str, tuple[bool, float, Masking]] = {
    "full": (False, 1.0, Static()),
    "LoTA, 90 %": (True, 0.1, Static()),
    "LoTA, 99 %": (True, 0.01, Static()),
    "LoTA, 99 %, Compact": (True, 0.01, Compact()),
}


def begun(path: Path, arm: str) -> Callable[[], None]:
    """Begins a training; returns what takes a step of it."""
    in_deltas, density, masking = ARMS[arm]
    model = HuggingFace(str(path), "sequence_classification", 2)
    coordinates = Delta(whole=("classifier",), covers=BLOCKS) if in_deltas else None
    task = Task(model, sentences().to("cpu"), covers=BLOCKS, coordinates=coordinates)
    mask = task.dense() if density == 1.0 else kept(task, density)
    job = Job(task, Ticket(mask, task.init()), masking)
    return Sequential().begin([job], RECIPE, [None]).advance


def peak(path: str, arm: str) -> None:
    """Takes some steps and prints the most memory that this process had to have, in MB."""
    advance, most = begun(Path(path), arm), 0
    with RECIPE.arithmetic(torch.device("cpu")):
        for _ in range(STEPS):
            advance()
            status = Path("/proc/self/status").read_text()
            found = re.search(r"^RssAnon:\s*(\d+)", status, re.MULTILINE)
            most = max(most, int(found[1]) if found else 0)
    print(most / 1024)


def main() -> None:
    """Prints ratios of time, in turns in one process, and memory after steps, a process each."""
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = model_folder(Path(folder))
            _times(path)
            _memory(path)
    finally:
        torch.set_num_threads(before)


def _times(path: Path) -> None:
    steps = {arm: repeated(begun(path, arm), STEPS) for arm in ARMS}
    with RECIPE.arithmetic(torch.device("cpu")):
        times = in_turns(steps, repeats=5)
    say("full fine-tuning step", [1e3 * t / STEPS for t in times["full"]], "ms")
    for arm in list(ARMS)[1:]:
        say(f"{arm} / full", ratios(times[arm], times["full"]), "x")


def _memory(path: Path) -> None:
    for arm in ARMS:
        code = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import bench_lota\n"
        )
        code += f"bench_lota.peak({str(path)!r}, {arm!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        print(f"  memory after steps, {arm}: {float(done.stdout):.0f} MB", flush=True)
