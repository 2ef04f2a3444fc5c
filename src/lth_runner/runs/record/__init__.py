"""Records keep what a run does: local files are the truth, console and W&B are views of them."""

from lth_runner.runs.record.console import Console
from lth_runner.runs.record.folder import RunFolder
from lth_runner.runs.record.problem_facts import coverage, problem_facts
from lth_runner.runs.record.record import Place, Progress, Record, RunDescription, Sink
from lth_runner.runs.record.weights_and_biases import WeightsAndBiases

__all__ = [
    "Console",
    "Place",
    "Progress",
    "Record",
    "RunDescription",
    "RunFolder",
    "Sink",
    "WeightsAndBiases",
    "coverage",
    "problem_facts",
]
