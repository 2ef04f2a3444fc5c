"""Forms that hold the network's computation too, and need none of its code: .pt2 and .onnx."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.utils.rnn import PackedSequence

from lth_runner.cutting import Shrunk, shrink
from lth_runner.export.agreement import Answer
from lth_runner.export.taken_ticket import Taken, of_file, said
from lth_runner.export.whole_file import written
from lth_runner.problem.answers import answer
from lth_runner.problem.channels_last import has_convolutions, lay_channels_last
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import SUFFIXES
from lth_runner.values.memory import give_back
from lth_runner.values.raised import first_line
from lth_runner.values.tree import Tree

EXAMPLES = 2  # samples that a network is traced with
FACTS = "lth-export.json"  # beside the program in a .pt2
MOST_ONNX = 2**31 - 2**24  # bytes of weights: protobuf's files end at 2 GB
PACKED = (  # why neither .pt2 nor .onnx can have such a network
    "torch.export follows no packed sequences (torch.nn.utils.rnn.PackedSequence): take "
    "checkpoint, csr or bitmask, or lth_runner.cutting.shrink for the module alone"
)
ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")  # the extra


@dataclass(frozen=True)
class ShrunkProgram:
    """The network without its dead channels, units and heads, as a program of torch.export's."""

    name: ClassVar[str] = "shrink"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["shrink"]
    tolerance: ClassVar[float] = 1e-5

    def check(self, ticket: Taken) -> None:
        ticket.check_zeros(self.name)

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        found = shrunk(ticket)
        small = found.module.eval()
        args, named, dynamic = _arguments(
            ticket.inputs(EXAMPLES), lengths_differ=ticket.lengths_differ
        )
        with blocked_by(small, (args, named), "shrink"):
            program = traced_program(small, args, named, dynamic)
        facts = json.dumps(of_file(ticket.facts, self.name))
        with written(path) as opened, warnings.catch_warnings():
            # of tensors that lie channels last, each of which has its memory to itself
            warnings.filterwarnings("ignore", message="No complete tensor found")
            torch.export.save(program, opened, extra_files={FACTS: facts})
        before, after = found.num_parameters
        notes = [f"{after:,} of {before:,} parameters are left"]
        notes += [f"{name or 'the network'}: {why}" for name, why in found.blocked.items()]
        return tuple(notes)

    def read(self, path: Path, ticket: Taken) -> Answer:
        return program(path)


@dataclass(frozen=True)
class Onnx:
    """The masked network as an ONNX model, whose first axis is as long as a batch happens to be."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["onnx"]
    tolerance: ClassVar[float] = 1e-4

    def check(self, ticket: Taken) -> None:
        check_extra(ONNX_NEEDS, "onnx")

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        write_onnx(ticket, path, said(ticket.facts, self.name))
        return ()

    def read(self, path: Path, ticket: Taken) -> Answer:
        return session(path, reorders=False)


def shrunk(ticket: Taken) -> Shrunk:
    """Cuts what the mask has killed out of a copy of the ticket's network, ``channels_last``."""
    example = ticket.inputs(EXAMPLES)
    found = shrink(ticket.lent, ticket.mask, example, copied=ticket.put_away)
    channels_last(found.module, example)
    give_back(ticket.task.num_parameters)
    return found


def channels_last(module: nn.Module, example: Tree) -> nn.Module:
    """Lays the weights of convolutions of images so that a processor computes the fastest by them.

    As training does on one, where the network takes that; returns the network.
    """
    if has_convolutions(module):
        lay_channels_last(module, example)
    return module


def traced_program(module: nn.Module, args: Any, named: Any, dynamic: Any) -> ExportedProgram:
    """Traces a network; by its Python code where it takes a size for a fixed number, as len(x).

    What fails either way is told in the words of the first.
    """
    try:
        return torch.export.export(module, args, named, dynamic_shapes=dynamic)
    except Exception:  # torch.export raises what the network's code does, or its own
        with suppress(Exception):
            return torch.export.export(module, args, named, dynamic_shapes=dynamic, strict=True)
        raise


def program(path: str | Path) -> Answer:
    """Reads a .pt2 file: a function of inputs, which needs no code but torch's."""
    with Path(path).open("rb") as opened:
        module = torch.export.load(opened).module()
    return lambda inputs: answer(module, inputs)


def write_onnx(ticket: Taken, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes a network as an ONNX model in one file; raises UserError for what blocks it."""
    module = ticket.lent
    args, named, dynamic = _arguments(ticket.inputs(EXAMPLES), lengths_differ=ticket.lengths_differ)
    with blocked_by(module, (args, named), "onnx"):
        made = torch.onnx.export(
            module, args, kwargs=named, dynamo=True, dynamic_shapes=dynamic,
            input_names=list(named) if named else ["input"], output_names=["output"],
            verbose=False,
        )  # fmt: skip
    assert made is not None
    made.model.metadata_props.update(metadata)
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # where in which file each was traced: paths of this machine
    _save_onnx(made.model, path)


def _save_onnx(model: Any, path: Path) -> None:
    """Writes a model into one file and takes its weights from it, one after another.

    So the whole is never in memory beside it. Protobuf adds up what follows in a file: a model
    without weights, then each of them. Whoever made the model may hold it longer: onnxscript's
    rules keep what they have last rewritten, with the weights that they folded.
    """
    import onnx
    import onnx_ir

    held = dict(model.graph.initializers)
    if sum(value.const_value.nbytes for value in held.values()) > MOST_ONNX:
        raise UserError("onnx: the network has more than 2 GB, and a file of the form holds less")
    model.graph.initializers.clear()
    with path.open("xb") as opened:
        opened.write(onnx_ir.to_proto(model).SerializeToString())
        for name, value in held.items():
            tensor = onnx_ir.to_proto(value.const_value)
            value.const_value = None
            tensor.name = name  # which may be another than its own: of weights that were folded
            one = onnx.ModelProto()
            one.graph.initializer.append(tensor)
            opened.write(one.SerializeToString())


def session(path: str | Path, threads: int | None = None, *, reorders: bool = True) -> Answer:
    """Reads an ONNX model with onnxruntime on the CPU: a function of inputs.

    ``reorders``: the weights of convolutions are laid out for the processor's vectors, which is
    faster and takes one and a half copies more of them.
    """
    check_extra(("onnxruntime",), "onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or torch.get_num_threads()
    options.log_severity_level = 3
    if not reorders:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside others
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def answers(inputs: Tree) -> Tensor:
        given = {"input": inputs} if isinstance(inputs, Tensor) else inputs
        names = {one.name for one in made.get_inputs()}  # an input that nothing reads is gone
        feed = {name: value.cpu().numpy() for name, value in given.items() if name in names}
        return torch.from_numpy(made.run(None, feed)[0])

    return answers


def check_extra(modules: tuple[str, ...], form: str) -> None:
    """Raises UserError where a package of the extra is not installed."""
    if absent := [name for name in modules if find_spec(name) is None]:
        raise UserError(
            f"{form} needs {', '.join(absent)}, not installed here: pip install "
            "'lth-runner[export]'"
        )


def _arguments(
    example: Tree, *, lengths_differ: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Lays an example out as arguments, by place or by name, with the first axis open.

    Where lengths differ so is the second, if the network lets it be.
    """
    batch = {0: torch.export.Dim.DYNAMIC}
    if isinstance(example, Tensor):
        return (example,), {}, (batch,)
    longer = batch | ({1: torch.export.Dim.AUTO} if lengths_differ else {})
    return (), dict(example), {n: longer if v.ndim > 1 else batch for n, v in example.items()}


@contextmanager
def blocked_by(module: nn.Module, call: tuple[Any, Any], form: str) -> Iterator[None]:
    """Raises UserError, with the name of the module that it is about, where tracing fails."""
    try:
        with _quiet():
            yield
    except UserError:
        raise
    except Exception as error:  # torch.export raises what the network's code does, or its own
        where, packed = _where(module, call)
        why = PACKED if packed else _told(error)
        raise UserError(f"{form} cannot take this network: {where} blocks it: {why}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what torch prints of a graph that it could not finish, and a warning."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        # of recurrent layers, whose parameters lie in a list of theirs too
        warnings.filterwarnings("ignore", message=".* assigned during export")
        yield


def _where(module: nn.Module, call: tuple[Any, Any]) -> tuple[str, bool]:
    """Names the innermost module at work when the network is traced until it fails.

    And whether it is given a packed sequence.
    """
    under_way: list[tuple[str, bool]] = []
    at: list[tuple[str, bool]] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, given: tuple[object, ...]) -> None:
            under_way.append((name, any(isinstance(each, PackedSequence) for each in given)))
            at[:] = under_way

        return hook

    def leave(*given: object) -> None:
        under_way.pop()
        at[:] = under_way

    handles = []
    for name, part in module.named_modules():
        shown = f"{name or 'the network'} ({type(part).__name__})"
        handles += [part.register_forward_pre_hook(enter(shown))]
        handles += [part.register_forward_hook(leave)]
    args, named = call
    try:
        _, _, dynamic = _arguments(named or args[0])
        with _quiet():
            torch.export.export(module, args, named, dynamic_shapes=dynamic, strict=False)
    except Exception:  # the one that is being explained
        pass
    finally:
        for handle in handles:
            handle.remove()
    return at[-1] if at else ("the network", False)


def _told(error: BaseException) -> str:
    """The first line of the deepest cause that says something."""
    while error.__cause__ is not None and str(error.__cause__).strip():
        error = error.__cause__
    return first_line(error)[:300]
