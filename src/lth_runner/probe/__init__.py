"""What is looked at in a finished training: each probe yields (name, value) pairs for its row."""

from lth_runner.probe.accuracy import Accuracy, Learning
from lth_runner.probe.gradients import EarlyGradients
from lth_runner.probe.masks import Collapse, Overlap
from lth_runner.probe.protocol import Probe, Value
from lth_runner.probe.signs import Signs

__all__ = [
    "Accuracy",
    "Collapse",
    "EarlyGradients",
    "Learning",
    "Overlap",
    "Probe",
    "Signs",
    "Value",
]
