"""The trial of a user's own probe on networks that nobody has trained, before any training."""

from __future__ import annotations

from collections.abc import Collection

from lth_runner.probe.measured import measured
from lth_runner.probe.probe import Probe
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.search.untrained import Untrained, any_half
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.steps import Clock


def try_probe(key: str, probe: Probe, task: Task, clock: Clock, *, taken: Collection[str]) -> None:
    """Raises UserError where a probe fails, or gives no values, on untrained networks.

    It is asked for the dense network, and for one of which every second weight is pruned.
    ``taken`` are the names that a row has without probes. A probe of this program is not asked:
    tests hold it to that.
    """
    if type(probe).__module__.startswith("lth_runner."):
        return
    weights = task.init()
    dense = Untrained(task, Ticket(task.dense(), weights), clock)
    pruned = Untrained(task, Ticket(any_half(task.dense()), weights), clock)
    try:
        with all_seeded(0, task.device):
            measured(probe, task, [], dense, taken=taken, told=key)
            measured(probe, task, [dense], pruned, taken=taken, told=key)
    except UserError:
        raise
    except Exception as error:  # a stranger's may raise anything
        said = " ".join(str(error).split())
        raise UserError(
            f"{key} cannot measure a network, tried before any training: "
            f"{type(error).__name__}: {said}"
        ) from error
