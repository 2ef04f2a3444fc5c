"""Searches propose, between trainings, the next ticket from the finished rounds alone."""

from lth_runner.search.at_init import AtInit
from lth_runner.search.early_bird import EarlyBird
from lth_runner.search.fit import Fit
from lth_runner.search.found import Found
from lth_runner.search.given import Given
from lth_runner.search.iterative import Iterative
from lth_runner.search.kept_scores import KeptScores
from lth_runner.search.ks_lottery import KsLottery
from lth_runner.search.learned import Learned
from lth_runner.search.partial_lora import PartialLoRA
from lth_runner.search.rewind import Rewind
from lth_runner.search.search import Foreseeing, Rewinding, Search
from lth_runner.search.solution import Solution, Solve
from lth_runner.search.solved import Solved
from lth_runner.search.sparsegpt import SparseGPT
from lth_runner.search.ticket import Start, Ticket

__all__ = [
    "AtInit",
    "EarlyBird",
    "Fit",
    "Foreseeing",
    "Found",
    "Given",
    "Iterative",
    "KeptScores",
    "KsLottery",
    "Learned",
    "PartialLoRA",
    "Rewind",
    "Rewinding",
    "Search",
    "Solution",
    "Solve",
    "Solved",
    "SparseGPT",
    "Start",
    "Ticket",
]
