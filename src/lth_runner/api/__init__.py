"""What ``lth_runner`` offers to programs: the command line in a call, and parts to build by hand.

Everything here is a name of ``lth_runner`` itself, loaded when it is named.
"""

from lth_runner.allocate import Global, LayerWise, Uniform
from lth_runner.api.by_hand import run_parts
from lth_runner.api.composing import compose
from lth_runner.api.result import Result
from lth_runner.api.running import run
from lth_runner.cli.composed import Composed
from lth_runner.control import Reinit, Shuffle
from lth_runner.cutting import shrink
from lth_runner.experiment import Experiment
from lth_runner.masking import Static
from lth_runner.probe import Performance, Signs
from lth_runner.problem import (
    Covers,
    CrossEntropy,
    Delta,
    LowRank,
    Measure,
    MultiLabel,
    NextToken,
    Objective,
    SquaredError,
    Task,
)
from lth_runner.problem.data import Data, FlipCrop, MapStyle, SampledData, Tokens
from lth_runner.schedule import Geometric
from lth_runner.score import Grasp, Magnitude, Snip, Synflow
from lth_runner.search import AtInit, EarlyBird, Given, Iterative, Learned, Rewind
from lth_runner.store import Store, load_ticket, read_ticket, save_ticket
from lth_runner.training import Job, Recipe, Slot, Trainer
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import write as write_state

__all__ = [
    "AtInit", "Composed", "Covers", "CrossEntropy", "Data", "Delta", "EarlyBird", "Experiment",
    "FlipCrop", "Geometric", "Given", "Global", "Grasp", "Iterative", "Job", "LayerWise", "Learned",
    "LowRank", "Magnitude", "MapStyle", "Mask", "Measure", "MultiLabel", "NextToken", "Objective",
    "Performance", "Recipe", "Reinit", "Result", "Rewind", "SampledData", "Shuffle", "Signs",
    "Slot", "Snip", "SquaredError", "Static", "Store", "Synflow", "Task", "Tokens", "Trainer",
    "Uniform", "UserError", "compose", "load_ticket", "read_ticket", "run", "run_parts",
    "save_ticket", "shrink", "write_state",
]  # fmt: skip
