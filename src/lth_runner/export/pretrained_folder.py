"""The form that is a folder as the library transformers writes and reads them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lth_runner.export.agreement import Answer
from lth_runner.export.taken_ticket import Taken, of_file
from lth_runner.problem.answers import answer
from lth_runner.problem.models.hugging_face import HuggingFace
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.export_forms import SUFFIXES

FACTS = "lth-export.json"


@dataclass(frozen=True)
class PretrainedFolder:
    """A folder that ``from_pretrained`` reads: config, weights, tokenizer; pruned weights zero."""

    name: ClassVar[str] = "pretrained"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES["pretrained"]
    tolerance: ClassVar[float] = 0.0

    def check(self, ticket: Taken) -> None:
        _model(ticket)

    def write(self, ticket: Taken, path: Path) -> tuple[str, ...]:
        model = _model(ticket)
        path.mkdir()
        names = getattr(ticket.task.data, "class_names", ())  # a user's own data may have none
        model.save(ticket.lent, path, names)
        write_facts(path, ticket, self.name)
        files = model.tokenizer_files
        for file in files:
            (path / file.name).write_bytes(file.read_bytes())  # a full disk is told by no name
        return () if files else ("the model's folder has no tokenizer, and so has this one",)

    def read(self, path: Path, ticket: Taken) -> Answer:
        network = _model(ticket).loaded(path).eval()
        for _, value in states.named_tensors(network):  # mapped from wherever they lie in the file
            value.data = states.aligned(value.data)
        return lambda inputs: answer(network, inputs)


def write_facts(folder: Path, ticket: Taken, form: str) -> None:
    """Writes what is known of a ticket beside what a library has written of it."""
    facts = json.dumps(of_file(ticket.facts, form), indent=2)
    (folder / FACTS).write_text(facts + "\n", encoding="utf-8")


def _model(ticket: Taken) -> HuggingFace:
    """Returns what built a ticket's network; raises UserError where that is no model=hf."""
    model = ticket.task.model
    if not isinstance(model, HuggingFace):
        raise UserError(
            "pretrained is a folder of the library transformers, for runs of model=hf: take "
            "checkpoint for other networks"
        )
    return model
