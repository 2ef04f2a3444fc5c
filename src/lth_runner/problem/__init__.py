"""What is to be learned: a network, data, and a seed."""

from lth_runner.problem.task import Batch, Task

__all__ = ["Batch", "Task"]
