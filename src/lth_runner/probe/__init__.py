"""Probes look at a finished training; each yields (name, value) pairs for its row."""

from lth_runner.probe.attention import DeadHeads, MatrixDensity
from lth_runner.probe.calibration import Calibration
from lth_runner.probe.capacity import Capacity
from lth_runner.probe.certificate import Certificate
from lth_runner.probe.connectivity import Instability, InstabilityByStep, StartEnd
from lth_runner.probe.exploration import Exploration
from lth_runner.probe.generation import Generation
from lth_runner.probe.gradients import EarlyGradients, GradientEnergy
from lth_runner.probe.jacobian import Jacobian
from lth_runner.probe.kernel import TangentKernel
from lth_runner.probe.masks import (
    Collapse,
    DenseOverlap,
    EffectiveDensity,
    MaskDistance,
    RoundOverlap,
)
from lth_runner.probe.performance import Before, Learning, Performance
from lth_runner.probe.probe import Probe, Trains, Value, added_trainings
from lth_runner.probe.signal import Signal
from lth_runner.probe.signs import Signs
from lth_runner.probe.supermask import Supermask
from lth_runner.probe.topology import NeuralPersistence, SpanningTree
from lth_runner.probe.trajectory import Trajectory

__all__ = [
    "Before",
    "Calibration",
    "Capacity",
    "Certificate",
    "Collapse",
    "DeadHeads",
    "DenseOverlap",
    "EarlyGradients",
    "EffectiveDensity",
    "Exploration",
    "Generation",
    "GradientEnergy",
    "Instability",
    "InstabilityByStep",
    "Jacobian",
    "Learning",
    "MaskDistance",
    "MatrixDensity",
    "NeuralPersistence",
    "Performance",
    "Probe",
    "RoundOverlap",
    "Signal",
    "Signs",
    "SpanningTree",
    "StartEnd",
    "Supermask",
    "TangentKernel",
    "Trains",
    "Trajectory",
    "Value",
    "added_trainings",
]
