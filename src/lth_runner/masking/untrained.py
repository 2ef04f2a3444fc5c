"""Batch norm's running statistics for a ticket that is never trained."""

from __future__ import annotations

from dataclasses import replace

from lth_runner.masking.live import Masking
from lth_runner.problem.batch_norm_statistics import pieces, recompute, statistics
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.values import state as states
from lth_runner.values.seeds import derive

NUM_SAMPLES = 10_000


def with_measured_statistics(task: Task, ticket: Ticket, masking: Masking) -> Ticket:
    """Gives a ticket batch norm's statistics, measured on the network its masking makes of it.

    The mean over batches of the statistics of up to 10,000 training samples, not augmented, drawn
    by the task's seed. Scales, shifts and weights stay as they are; without batch norm all does.
    """
    module = task.module().eval()
    states.write(module, ticket.masked)
    if not statistics(module):
        return ticket
    live = masking.install(module, ticket.mask, task.seed)
    drawn = task.data.sample(
        min(NUM_SAMPLES, task.data.num_train), derive(task.seed, "search", "statistics")
    )
    recompute(module, pieces(drawn))
    found = statistics(module)
    live.remove()
    return replace(ticket, weights=ticket.weights | found)
