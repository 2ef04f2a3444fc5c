"""One training: its recipe, the job that asks for it, and how it is done."""

from lth_runner.training.job import Job, Slot
from lth_runner.training.learning_rate import Constant, Cosine, LearningRate, Linear, MultiStep
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer

__all__ = [
    "Constant", "Cosine", "Interrupted", "Job", "LearningRate", "Linear", "MultiStep", "Pace",
    "Recipe", "Slot", "Trainer",
]  # fmt: skip
