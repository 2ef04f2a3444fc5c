"""What a ticket saves, form by form: sizes and measured latency, as text, picture and JSON."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lth_runner import __version__
from lth_runner.export.agreement import Agreement, Answer, apart, tolerated
from lth_runner.export.latency import Latency, latencies, with_csr
from lth_runner.export.programs import (
    EXAMPLES,
    ONNX_NEEDS,
    channels_last,
    check_extra,
    session,
    shrunk,
    write_onnx,
)
from lth_runner.export.size import FormSize, form_sizes
from lth_runner.export.taken_ticket import Taken
from lth_runner.export.two_of_four import is_two_of_four, on_gpu, timed_on_gpu
from lth_runner.export.whole_file import check_target, finished
from lth_runner.problem.answers import answer
from lth_runner.runs import quantities
from lth_runner.runs.aligned_text import aligned
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import BATCHES, REPETITIONS
from lth_runner.values.machine import processor
from lth_runner.values.raised import first_line
from lth_runner.values.tree import Tree

TOLERANCE = 1e-4  # of answers, as a share of the largest, in single precision
CANNOT = "it cannot compute this network"


@dataclass(frozen=True)
class Report:
    """What was measured of one ticket, on which machine; ``left_out``: form -> why."""

    ticket: Mapping[str, Any]
    machine: Mapping[str, Any]
    repetitions: int
    sizes: Sequence[FormSize]
    latencies: Sequence[Latency]
    left_out: Mapping[str, str]


def measured(
    ticket: Taken, batches: Sequence[int] = BATCHES, repetitions: int = REPETITIONS
) -> Report:
    """Sizes a ticket in every form and times the forms side by side, by batch size.

    Inputs are the test split's, and on all of them a form answers as the ticket does, or is left
    out. ``dense`` is the same network without a zero among its weights; it, the masked and the
    shrunk one have the order of weights that training has on a processor (``channels_last``).
    """
    inputs = {batch: ticket.inputs(batch) for batch in batches}
    forms = _Forms(ticket, inputs)
    small: list[nn.Module] = []

    def cut() -> Answer:
        ticket.check_zeros("shrink")
        small.append(shrunk(ticket).module.eval())
        return _plain(small[0])

    def csr() -> Answer:
        ticket.check_zeros("csr")
        module = with_csr(ticket)
        if module is None:
            raise UserError("no layer is thinned out that it could compute")
        return _plain(module)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        forms.add("shrunk", cut)
        forms.add("csr", csr)
        forms.add("onnxruntime", lambda: _in_onnxruntime(ticket))
        known = form_sizes(ticket, small[0] if "shrunk" in forms.usable else None)
        example = ticket.inputs(EXAMPLES)
        dense = {
            "dense": _plain(channels_last(ticket.fresh(), example)),
            "masked": _plain(channels_last(ticket.module(), example)),
        }
        times = latencies(dense | forms.usable, inputs, repetitions)
        if is_two_of_four(ticket) and torch.cuda.is_available():
            try:
                gpu = {batch: on_gpu(given) for batch, given in inputs.items()}
                times += latencies(timed_on_gpu(ticket), gpu, repetitions)
            except Exception as error:  # of kernels that do not take a layer of the network
                forms.left_out["semi_structured"] = f"{CANNOT}: {first_line(error)[:300]}"
        elif is_two_of_four(ticket):
            none = "it saves time on CUDA alone, and there is none here"
            forms.left_out["semi_structured"] = none
    machine = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "lth_runner": __version__,
    }
    return Report(dict(ticket.facts), machine, repetitions, known, times, forms.left_out)


class _Forms:
    """Forms that answer as the ticket does on the inputs that they are timed with."""

    def __init__(self, ticket: Taken, inputs: Mapping[int, Tree]) -> None:
        self.usable: dict[str, Answer] = {}
        self.left_out: dict[str, str] = {}
        self._ticket, self._inputs = ticket, inputs

    def add(self, form: str, make: Callable[[], Answer]) -> None:
        """Makes a form and asks it once; leaves it out, and says why, where that fails."""
        try:
            answers = make()
            differs = self._differs(answers)
        except UserError as error:
            differs = str(error)
        except Exception as error:  # of kernels that do not know an operation, of a forward's own
            differs = f"{CANNOT}: {first_line(error)[:300]}"
        if differs:
            self.left_out[form] = differs
        else:
            self.usable[form] = answers

    @torch.inference_mode()
    def _differs(self, answers: Answer) -> str:
        for batch, given in self._inputs.items():
            largest, scale = apart(answer(self._ticket.lent, given), answers(given))
            found = Agreement(self._ticket.split, batch, largest, scale, {})
            if not found.within(tolerated(self._ticket, TOLERANCE)):
                return f"it does not answer as the ticket does: in a batch of {batch} {found.off}"
        return ""


def _plain(module: nn.Module) -> Answer:
    module.eval()
    return lambda inputs: answer(module, inputs)


def _in_onnxruntime(ticket: Taken) -> Answer:
    check_extra(ONNX_NEEDS, "onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "masked.onnx")
        write_onnx(ticket, path, {})
        return session(path)


def text(report: Report) -> str:
    """Writes the two tables for a terminal, and a sentence on what was saved."""
    lines = [("form", "parameters", "non-zero", "FLOPs a sample", "bytes", "of dense")]
    dense = report.sizes[0]
    lines += [
        (
            one.form, f"{one.num_parameters:,}", f"{one.num_nonzero:,}",
            "" if one.flops is None else f"{one.flops:,}", quantities.size(one.num_bytes),
            f"{100 * one.num_bytes / dense.num_bytes:.3g} %",
        )
        for one in report.sizes
    ]  # fmt: skip
    found = [*aligned(lines, right=range(1, 6)), ""]
    found.append(f"latency in ms a batch: median [quartiles] of {report.repetitions}, in turns")
    found.append(_machine(report))
    found += aligned(_times(report), right=range(1, 20))
    found += ["", *(_saved(report, batch) for batch in _batches(report))]
    found += [f"not timed: {form}: {why}" for form, why in report.left_out.items()]
    return "\n".join(found)


def _machine(report: Report) -> str:
    named = report.machine
    threads = named["threads"]
    gpu = f", {named['gpu']}" if named["gpu"] else ""
    many = "s" if threads != 1 else ""
    return f"{named['processor']}{gpu}, {threads} thread{many}, torch {named['torch']}"


def _times(report: Report) -> list[tuple[str, ...]]:
    batches = _batches(report)
    by_place = {(one.form, one.batch): one for one in report.latencies}
    names = list(dict.fromkeys(one.form for one in report.latencies))
    lines: list[tuple[str, ...]] = [("form", *(f"batch {batch}" for batch in batches))]
    for name in names:
        cells = (by_place.get((name, batch)) for batch in batches)
        lines.append(
            (
                name,
                *(
                    "" if c is None else f"{c.median:.3g} [{c.lower:.3g} {c.upper:.3g}]"
                    for c in cells
                ),
            )
        )
    return lines


def _saved(report: Report, batch: int) -> str:
    """Says how many times as fast each form is as the dense network, or that it saves nothing.

    Faster or slower is what has its quartiles beyond those of the dense network.
    """
    ones = {one.form: one for one in report.latencies if one.batch == batch}
    dense, told = ones["dense"], []
    for one in ones.values():
        ratio = f"{dense.median / one.median:.2g}x"
        if one.upper < dense.lower:
            told.append(f"{one.form} {ratio} as fast")
        elif one.form != "dense" and "CUDA" not in one.form:
            slower = one.lower > dense.upper
            told.append(f"{one.form} {'is slower' if slower else 'saves nothing'} ({ratio})")
    return f"batch {batch}: {', '.join(told)}"


def _batches(report: Report) -> list[int]:
    return list(dict.fromkeys(one.batch for one in report.latencies))


def write(report: Report, path: str | Path) -> tuple[Path, Path]:
    """Writes ``FILE.json``, and a picture beside it; raises UserError where one is there."""
    target = check_target(path, (".json",), "a report")
    picture = check_target(target.with_suffix(".png"), (".png",), "a report's picture")
    drawn, told = _drawn(report), json.dumps(dataclasses.asdict(report), indent=2) + "\n"
    with finished(picture) as picture_piece, finished(target) as piece:
        picture_piece.write_bytes(drawn)
        piece.write_text(told)
    return target, picture


def _drawn(report: Report) -> bytes:
    """Draws a panel of bars for each batch size: medians, with the quartiles as whiskers."""
    import io

    from lth_runner.runs.pages.drawing import colour, new_figure, tidy

    batches = _batches(report)
    figure = new_figure(3.4 * len(batches) + 1.2, 3.4)
    for place, batch in enumerate(batches, 1):
        axes = figure.add_subplot(1, len(batches), place)
        ones = [one for one in report.latencies if one.batch == batch][::-1]
        axes.barh(
            [one.form for one in ones], [one.median for one in ones],
            xerr=[[o.median - o.lower for o in ones], [o.upper - o.median for o in ones]],
            color=[colour(len(ones) - 1 - i) for i in range(len(ones))],
            error_kw={"elinewidth": 1, "capsize": 3},
        )  # fmt: skip
        tidy(axes, xlabel=f"ms a batch of {batch}", ylabel="")
        if place > 1:
            axes.tick_params(labelleft=False)
    named = report.ticket
    figure.suptitle(
        f"{named['name']}/{named['run']}, round {named['round']}, sparsity "
        f"{100 * named['sparsity']:.4g} %\n{_machine(report)}, median and quartiles of "
        f"{report.repetitions}", fontsize=8, parse_math=False,
    )  # fmt: skip
    figure.tight_layout()
    held = io.BytesIO()
    figure.savefig(held, format="png")
    return held.getvalue()
