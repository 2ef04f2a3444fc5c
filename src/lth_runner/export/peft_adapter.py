"""The form that is a folder as the library peft writes and reads adapters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from lth_runner.export.agreement import Answer
from lth_runner.export.pretrained_folder import write_facts
from lth_runner.export.taken_ticket import Taken
from lth_runner.problem.answers import answer
from lth_runner.problem.covers import TRANSPOSED
from lth_runner.problem.low_rank import LowRank, pairs
from lth_runner.problem.models.hugging_face import HuggingFace
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import SUFFIXES
from lth_runner.values.listed import listed
from lth_runner.values.state import State

FORM = "peft"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
IN_MODEL = "base_model.model."  # what peft puts before every name


@dataclass(frozen=True)
class PeftAdapter:
    """A folder that ``PeftModel.from_pretrained`` lays on its base: A, B and a new head.

    The base, theta_0, is not in it.
    """

    name: ClassVar[str] = FORM
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES[FORM]
    tolerance: ClassVar[float] = 1e-5

    def check(self, ticket: Taken) -> None:
        _check(ticket)
        if find_spec("peft") is None:
            raise UserError(f"{FORM} needs peft, not installed here: pip install peft")

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        coordinates, model, own = _check(ticket)
        task, tensors = ticket.task, State()
        for weight, (a, b) in pairs(task.prunable).items():
            layer = f"{IN_MODEL}{weight.removesuffix('.weight')}"
            tensors[f"{layer}.lora_A.weight"] = own[a]
            tensors[f"{layer}.lora_B.weight"] = own[b]
        whole = _whole(ticket, own)
        tensors |= {f"{IN_MODEL}{name}": own[name] for name in own if _module(name) in whole}
        turned = any(task.kind(weight) == TRANSPOSED for weight in pairs(task.prunable))
        config = {
            "peft_type": "LORA",
            "base_model_name_or_path": model.path,
            "r": coordinates.rank,
            "lora_alpha": coordinates.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": _exactly(pairs(task.prunable)),
            "modules_to_save": whole or None,
            "fan_in_fan_out": turned,
            "inference_mode": True,
            "task_type": None,
        }
        path.mkdir()
        states.save(path / WEIGHTS, tensors, {"format": "pt"})
        (path / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_facts(path, ticket, self.name)
        return (
            "its base are the weights that the run started from, with what was drawn of them: "
            "--round 0 --start --as pretrained writes them",
        )

    def read(self, path: Path, ticket: Taken) -> Answer:
        import peft

        module: Any = ticket.fresh()
        base = ticket.task.merged(ticket.task.init())
        states.write(module, {name: base[name] for name, _ in states.named_tensors(module)})
        adapted = peft.PeftModel.from_pretrained(module, str(path)).eval()
        return lambda inputs: answer(adapted, inputs)


def _check(ticket: Taken) -> tuple[LowRank, HuggingFace, State]:
    """Returns what the adapter is made of; raises UserError where there is none."""
    coordinates, model = ticket.task.coordinates, ticket.task.model
    if not isinstance(coordinates, LowRank):
        raise UserError(
            f"{FORM} is the adapter of a run in coordinates=low_rank, which this one is not: take "
            "checkpoint"
        )
    if ticket.own is None:
        raise UserError(f"{FORM} is an adapter as it was trained: leave --start away")
    if not isinstance(model, HuggingFace):
        raise UserError(f"{FORM} is for runs of model=hf: take checkpoint for other networks")
    _whole(ticket, ticket.own)
    return coordinates, model, ticket.own


def _whole(ticket: Taken, own: State) -> list[str]:
    """Lists the modules that were trained whole; raises UserError for a part of one."""
    covered = {*ticket.task.prunable}
    trained = {name for name in own if name not in covered}
    found = sorted({_module(name) for name in trained})
    stock = dict(ticket.stock().named_parameters())
    if parts := [n for n in stock if _module(n) in found and n not in trained]:
        raise UserError(
            f"{FORM} keeps whole modules beside an adapter, and {listed(parts)} was not trained "
            "with the rest of its own: name the module in coordinates.whole, or take pretrained"
        )
    return found


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _exactly(weights: Any) -> str:
    """Writes a pattern that matches the layers of these weights and no others."""
    layers = (re.escape(weight.removesuffix(".weight")) for weight in weights)
    return f"({'|'.join(layers)})"
