"""What takes one ticket out of a finished run: files that other programs use, and what they save.

from lth_runner import export

ticket = export.ticket("outputs/digits_imp", sparsity=0.98)
export.to_onnx(ticket, "ticket.onnx")
"""

from lth_runner.export.agreement import Agreement, Disagreement
from lth_runner.export.form import Exported
from lth_runner.export.taken_ticket import Taken, ticket
from lth_runner.export.task_vector import Applied, TaskVector
from lth_runner.export.tensor_files import load, load_csr
from lth_runner.export.to_forms import (
    to_bitmask,
    to_checkpoint,
    to_csr,
    to_onnx,
    to_peft,
    to_pretrained,
    to_semi_structured,
    to_shrink,
    to_task_vector,
)
from lth_runner.export.two_of_four import load_semi_structured

__all__ = [
    "Agreement", "Applied", "Disagreement", "Exported", "Taken", "TaskVector", "load", "load_csr",
    "load_semi_structured", "ticket", "to_bitmask", "to_checkpoint", "to_csr", "to_onnx",
    "to_peft", "to_pretrained", "to_semi_structured", "to_shrink", "to_task_vector",
]  # fmt: skip
