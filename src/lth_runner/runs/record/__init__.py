"""Records keep what a run does: local files are the truth, console and trackers views of them."""

from lth_runner.runs.record.console import Console
from lth_runner.runs.record.folder import RunFolder
from lth_runner.runs.record.ml_flow import MLflow
from lth_runner.runs.record.never_fatal import NeverFatal
from lth_runner.runs.record.problem_facts import coverage, problem_facts
from lth_runner.runs.record.record import Place, Progress, Record, RunDescription, Sink
from lth_runner.runs.record.tensor_board import TensorBoard
from lth_runner.runs.record.track_io import Trackio
from lth_runner.runs.record.weights_and_biases import WeightsAndBiases

__all__ = [
    "Console",
    "MLflow",
    "NeverFatal",
    "Place",
    "Progress",
    "Record",
    "RunDescription",
    "RunFolder",
    "Sink",
    "TensorBoard",
    "Trackio",
    "WeightsAndBiases",
    "coverage",
    "problem_facts",
]
