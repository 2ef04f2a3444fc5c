"""The console script `lth-export`, which takes one ticket of a finished run away as a file."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lth_runner.cli.program import exit_status
from lth_runner.cli.stopping import say, terminated_as_interrupted
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import BATCHES, REPETITIONS, SUFFIXES
from lth_runner.values.search_path import user_code_last
from lth_runner.values.terminal import Arguments, show

if TYPE_CHECKING:
    from lth_runner.export import Exported, Taken

EXIT_DISAGREES = 1
MOST_BATCH = 65536
LIBRARIES = (
    r"torch\..*|onnxscript\..*|transformers\..*|peft\..*|copyreg"  # whose warnings nobody needs
)

DESCRIPTION = """\
Take one ticket of a finished run away as a file, and measure what it saves; nothing is trained.

RUN is a run folder, outputs/<name>/<run_id>, or outputs/<name> with one run in it. Its network is
built again from the folder's config.yaml: call lth-export from where lth-run was called.
"""

EPILOG = """\
forms:
  checkpoint       the plain state_dict: .safetensors or .pt
  pretrained       a folder that from_pretrained reads, of model=hf
  shrink           the network without its dead channels and units, as a program (.pt2)
  onnx             the masked network, any batch size (.onnx)
  semi_structured  2:4, two of every four inputs (.safetensors)
  csr              the weights that stay, row by row (.safetensors)
  bitmask          the weights that stay and a bit for each place (.safetensors)
  task_vector      the deltas of coordinates=delta and a bit for each place (.safetensors)
  peft             a folder that peft reads, of coordinates=low_rank and model=hf

examples:
  lth-export outputs/digits_imp --best-matching --as onnx --to ticket.onnx
  lth-export outputs/digits_imp --sparsity 0.98 --as checkpoint --to ticket.safetensors
  lth-export outputs/digits_imp --round 5 --report saved.json

Without --round, --sparsity or --best-matching it is the last round. Every file is read back and
must answer as the ticket does, over the test split, before it gets its name. Nothing is replaced.
exit status: 0, 1 where a file does not answer as the ticket does, 2 for a mistake in the command,
130 where it was interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `lth-export`; returns its exit status."""
    arguments = _arguments(argv)
    written: list[Path] = []

    def run() -> int:
        with terminated_as_interrupted():
            return _run(arguments, written)

    less = "a machine with more" if arguments.report is None else "smaller --batches"
    return exit_status("lth-export", run, written=written, less=less)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Arguments(
        prog="lth-export",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="the run that the ticket is of")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--round", type=_whole, metavar="K", help="the ticket of this round")
    which.add_argument(
        "--sparsity", type=_share, metavar="S", help="the ticket with this share removed"
    )
    which.add_argument(
        "--best-matching", action="store_true", help="the sparsest that is shown to match"
    )
    add("--seed", type=_whole, metavar="N", help="the replicate's seed (the run's first)")
    add("--arm", default="ticket", metavar="A", help="the ticket, or a control's name")
    add("--start", action="store_true", help="the weights it started from, not the trained ones")
    add(
        "--keep-zeros", action="store_true",
        help="of coordinates=delta or low_rank: where the weights that the change was added to are "
        "0 the merged ones stay 0, so that a sparse base stays sparse",
    )  # fmt: skip
    add("--as", dest="form", choices=SUFFIXES, metavar="FORM", help=", ".join(SUFFIXES))
    add("--to", metavar="PATH", help="the file to write, or the folder")
    add(
        "--samples", type=_count, metavar="N",
        help="compare answers on so many samples, not on the whole test split (the run's own "
        "figure is not recomputed then)",
    )  # fmt: skip
    add("--report", metavar="FILE.json", help="sizes, FLOPs and latency, measured; FILE.png beside")
    add(
        "--batches", type=_batches, metavar="N,N,...",
        help=f"with --report: batch sizes ({','.join(map(str, BATCHES))})",
    )  # fmt: skip
    add(
        "--repetitions", type=_repetitions, metavar="N",
        help=f"with --report: how often each is timed, at least {REPETITIONS}",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    pairs = (("batches", "report"), ("repetitions", "report"), ("samples", "to"))
    for option, needed in pairs:
        if getattr(arguments, option) is not None and getattr(arguments, needed) is None:
            parser.error(f"--{option} goes with --{needed}: without it, it changes nothing")
    if (arguments.form is None) != (arguments.to is None):
        parser.error("--as FORM and --to PATH go together")
    if arguments.keep_zeros and arguments.form in ("task_vector", "peft"):
        parser.error("--keep-zeros is for merged weights: task_vector and peft write the change")
    if arguments.form is None and arguments.report is None:
        parser.error("say what to write: --as FORM --to PATH, or --report FILE.json, or both")
    return arguments


def _run(arguments: argparse.Namespace, written: list[Path]) -> int:
    """Writes what was asked for; ``written`` gets the ticket's file once it is there."""
    from lth_runner.cli.loading import uncollected
    from lth_runner.export.whole_file import check_target

    # before anything is built, which may take long
    report = target = None
    if arguments.to is not None:
        target = check_target(arguments.to, SUFFIXES[arguments.form], arguments.form)
    if arguments.report is not None:
        report = check_target(arguments.report, (".json",), "a report")
        picture = check_target(report.with_suffix(".png"), (".png",), "a report's picture")
        if target is not None and target.resolve() in (report.resolve(), picture.resolve()):
            raise UserError(f"--to {target} and --report {report} write one file: give two names")
    warnings.filterwarnings("ignore", module=LIBRARIES)
    logging.getLogger("torch").setLevel(logging.ERROR)
    with uncollected():
        from lth_runner import export
        from lth_runner.export.programs import ONNX_NEEDS, check_extra
        from lth_runner.export.to_forms import TO_FORMS
    if arguments.form == "onnx":
        check_extra(ONNX_NEEDS, "onnx")
    user_code_last()  # model._target_=mine.Net finds mine.py in this folder
    ticket = export.ticket(
        arguments.run,
        round=arguments.round,
        sparsity=arguments.sparsity,
        best_matching=arguments.best_matching,
        seed=arguments.seed,
        arm=arguments.arm,
        start=arguments.start,
        keep_zeros=arguments.keep_zeros,
    )
    say(_named(ticket))
    if target is not None:
        try:
            found = TO_FORMS[arguments.form](ticket, target, samples=arguments.samples)
        except export.Disagreement as error:
            show(f"lth-export: {error}", sys.stderr)
            return EXIT_DISAGREES
        written.append(found.path)
        say(_told(found))
    if report is not None:
        _report(ticket, report, arguments.batches or BATCHES, arguments.repetitions or REPETITIONS)
    return 0


def _report(ticket: Taken, path: Path, batches: Sequence[int], repetitions: int) -> None:
    from lth_runner.export.report import measured, text, write

    report = measured(ticket, batches, repetitions)
    say(f"\n{text(report)}\n")
    written = write(report, path)
    say("written  " + "\n         ".join(map(str, written)))


def _named(ticket: Taken) -> str:
    facts = ticket.facts
    weights = "trained weights" if facts["weights"] == "trained" else "starting weights"
    weights += ", the means of a Bayesian network" if facts.get("means") else ""
    return (
        f"ticket   {facts['name']}/{facts['run']}, round {facts['round']}, arm {facts['arm']}, "
        f"seed {facts['seed']}: sparsity {100 * facts['sparsity']:.4g} %, {weights}"
    )


def _told(done: Exported) -> str:
    found = done.agreement
    figures = ", ".join(f"{name} {value:.6g}" for name, value in found.figures.items())
    lines = [f"note     {note}" for note in done.notes]
    lines += [
        f"answers  outputs differ by {found.largest:.2g} at most, of up to {found.scale:.3g}, over "
        f"{found.num} samples of {found.split}{'; ' + figures if figures else ''}",
        f"written  {done.path} ({done.num_bytes:,} bytes)",
    ]
    return "\n".join(lines)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # of thousands of digits, too
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: give a whole number, as 3") from None


def _count(text: str, least: int = 1) -> int:
    if (number := _whole(text)) < least:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number, at least {least}")
    return number


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give the share of the weights that are removed, from 0 to below 1: 0.9"
        )
    return value


def _repetitions(text: str) -> int:
    return _count(text, REPETITIONS)


def _batches(text: str) -> tuple[int, ...]:
    found = tuple(dict.fromkeys(_count(one) for one in text.split(",")))
    if max(found) > MOST_BATCH:
        raise argparse.ArgumentTypeError(f"{text!r}: a batch has at most {MOST_BATCH} samples")
    return found


if __name__ == "__main__":
    sys.exit(main())
