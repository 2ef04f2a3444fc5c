"""Between trainings: the next ticket, from the finished rounds alone."""

from lth_runner.search.at_init import AtInit
from lth_runner.search.early_bird import EarlyBird
from lth_runner.search.found import Found
from lth_runner.search.iterative import Iterative
from lth_runner.search.kept_scores import KeptScores
from lth_runner.search.learned import Learned
from lth_runner.search.protocol import Rewinding, Search

__all__ = [
    "AtInit",
    "EarlyBird",
    "Found",
    "Iterative",
    "KeptScores",
    "Learned",
    "Rewinding",
    "Search",
]
