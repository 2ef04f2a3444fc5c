"""Inside one training: how the mask lives."""

from lth_runner.masking.gradual import Gradual
from lth_runner.masking.live import LiveMask, Masking
from lth_runner.masking.static import Static

__all__ = ["Gradual", "LiveMask", "Masking", "Static"]
