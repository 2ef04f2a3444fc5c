"""A ticket file holds the network that its row is of, and is read by what it fits alone."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

import small
from lth_runner.allocate import Global, LayerWise
from lth_runner.experiment import Experiment, run
from lth_runner.masking import EdgePopup, GemMiner, MultiPrize, Static, Supermask
from lth_runner.probe import Performance
from lth_runner.problem.answers import evaluate
from lth_runner.problem.coordinates import Delta
from lth_runner.runs.record import Record
from lth_runner.schedule import Iterations
from lth_runner.search import Found
from lth_runner.search.ticket import Ticket
from lth_runner.store import load_ticket, read_ticket, save_ticket
from lth_runner.store.ticket_file import FORMAT, StockTicket
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

HALF = Iterations(0.5)


@dataclass
class Files:
    """Writes the ticket of each round into a file, as a run folder does."""

    folder: object
    rows: list = field(default_factory=list)

    def __getattr__(self, name):
        return lambda *_: set()

    def round(self, row, ticket):
        if row["arm"] == "ticket":
            self.rows.append(row)
            save_ticket(self.folder / f"{row['round']}", ticket, {"steps": row["steps"]})


USED = {
    "edge_popup": EdgePopup(LayerWise(), HALF),
    "scale_fan": EdgePopup(Global(), HALF, scale_fan=True),
    "multi_prize": MultiPrize(LayerWise(), HALF),
    "supermask": Supermask(Global()),
    "supermask_rescaled": Supermask(Global(), rescale=True, hard="round"),
    "supermask_counted": Supermask(Global(), sparsity=0.7, rescale=True),
}


def recorded(folder, model, masking, search):
    files = Files(folder)
    trainer = small.trainer(folder / "store", recipe=small.recipe(length="12it", eval_every="12it"))
    tasks = [small.task(model=model)]
    run(Experiment(tasks, search, masking, {}, (Performance(),)), trainer, Record([files]))
    return tasks[0], trainer, files.rows


@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
@pytest.mark.parametrize("masking", USED.values(), ids=USED)
def test_a_ticket_that_is_used_untrained_evaluates_to_its_rows_accuracy(masking, model, tmp_path):
    task, _, rows = recorded(tmp_path, model, masking, Found())
    [row] = [row for row in rows if not row["steps"]]
    module = model()
    load_ticket(tmp_path / f"{row['round']}", module)
    found = evaluate(module, task.data.batches("test", 2000), task.objective)
    assert found["accuracy"] == row["test_accuracy"]
    assert found["loss"] == pytest.approx(row["test_loss"], rel=1e-5)
    assert read_ticket(tmp_path / f"{row['round']}").metadata["steps"] == 0


@pytest.mark.parametrize(
    ("masking", "search"),
    [(Static(), small.imp(rounds=1)), (GemMiner(Global(), HALF), Found(train=True))],
    ids=["imp", "gem_miner"],
)
def test_a_ticket_that_is_trained_trains_to_its_row(masking, search, tmp_path):
    task, trainer, rows = recorded(tmp_path, small.perceptron, masking, search)
    row = rows[-1]
    assert row["steps"]
    module = small.perceptron()
    mask = load_ticket(tmp_path / f"{row['round']}", module)
    start = Ticket(mask, states.read(module), replace(small.dense_job(task).ticket.start, order=1))
    job = replace(small.dense_job(task), ticket=start, masking=masking)
    ended = replay(job, trainer.recipe, None, 12).weights
    found = task.evaluate(ended, "test")
    assert found["accuracy"] == row["test_accuracy"]


class Net(nn.Module):
    """A layer, batch norm and a part whose name is what wrappers call theirs."""

    def __init__(self, width=6):
        super().__init__()
        self.inp, self.norm = nn.Linear(4, width), nn.BatchNorm1d(width)
        self.output = nn.Linear(width, 3)

    def forward(self, x):
        return self.output(self.norm(self.inp(x)).relu())


def ticket_of(module):
    generator = torch.Generator().manual_seed(0)
    weights = states.read(module)
    kept = {
        name: torch.rand(weights[name].shape, generator=generator) < 0.5
        for name, value in module.named_parameters()
        if value.ndim == 2
    }
    return Ticket(Mask(kept), weights)


@pytest.fixture
def path(tmp_path):
    save_ticket(tmp_path / "ticket", ticket_of(Net()), {"seed": 0})
    return tmp_path / "ticket"


def rewritten(path, change, **metadata):
    """Writes the file again, sealed, with other tensors or metadata."""
    tensors, text = states.load(path)
    change(tensors)
    text.pop("seal", None)
    states.save(path, tensors, {**text, **metadata})
    return path


def removed(value, kept):
    value[~kept] = 0.5


WRONG = {
    "another format": (lambda t: None, {"format": "2"}, r"of the format '2', and this .* reads 1"),
    "a mask of another shape": (
        lambda t: t.update({"mask.inp.weight": torch.ones(4, 6, dtype=torch.bool)}), {},
        r"mask of inp\.weight has the shape \(4, 6\), and its weights \(6, 4\)",
    ),
    "a mask that would stretch": (
        lambda t: t.update({"mask.inp.weight": torch.ones(1, 4, dtype=torch.bool)}), {},
        r"mask of inp\.weight has the shape \(1, 4\)",
    ),
    "a mask of a layer that is not there": (
        lambda t: t.update({"mask.hidden.weight": torch.ones(6, 4, dtype=torch.bool)}), {},
        r"a mask of hidden\.weight and no weights of that name",
    ),
    "a mask that is none": (
        lambda t: t.update({"mask.inp.weight": torch.ones(6, 4)}), {},
        r"mask of inp\.weight is float32, not bool",
    ),
    "weights under a zero mask": (
        lambda t: removed(t["weights.inp.weight"], t["mask.inp.weight"]), {},
        r"\d+ of the weights of inp\.weight that the mask removes are not zero",
    ),
    "no number under a zero mask": (
        lambda t: t["weights.output.weight"].masked_fill_(~t["mask.output.weight"], torch.nan), {},
        r"\d+ of the weights of output\.weight that the mask removes are not zero",
    ),
    "no masks": (lambda t: [t.pop(n) for n in list(t) if n[0] == "m"], {}, "holds no ticket"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "metadata", "said"), WRONG.values(), ids=WRONG)
def test_a_file_whose_parts_do_not_fit_is_refused(change, metadata, said, path):
    rewritten(path, change, **metadata)
    module = Net()
    before = states.fingerprint(states.read(module))
    for reads in (read_ticket, lambda p: load_ticket(p, module)):
        with pytest.raises(UserError, match=said):
            reads(path)
    assert states.fingerprint(states.read(module)) == before


def test_a_file_without_a_format_is_refused(path):
    tensors, text = states.load(path)
    states.save(path, tensors, {"sparsity": text["sparsity"]})
    with pytest.raises(UserError, match="of the format None"):
        read_ticket(path)


def test_no_fact_of_a_run_takes_the_place_of_the_formats_number(tmp_path):
    save_ticket(tmp_path / "ticket", ticket_of(Net()), {"format": 7, "sparsity": "mine"})
    read = read_ticket(tmp_path / "ticket")
    assert str(read.metadata["format"]) == FORMAT
    assert read.metadata["sparsity"] == read.mask.sparsity


def test_a_pruned_delta_leaves_the_origins_weight_and_the_file_says_so(tmp_path):
    task = replace(small.task(), coordinates=Delta(["*weight"]))
    mask = Mask({name: torch.zeros_like(kept) for name, kept in task.dense().items()})
    ticket = StockTicket(task, Ticket(mask, task.init()))
    save_ticket(tmp_path / "ticket", ticket, {})
    module = small.perceptron()
    load_ticket(tmp_path / "ticket", module)
    assert all(value.any() for name, value in module.named_parameters() if value.ndim == 2)
    assert json.loads(states.load(tmp_path / "ticket")[1]["pruned"]) == "origin"


class Compiled(nn.Module):
    """A network of which one layer alone is compiled."""

    def __init__(self):
        super().__init__()
        whole = Net()
        self.inp, self.norm = torch.compile(whole.inp), whole.norm
        self.output = whole.output


WRAPPED = {
    "plain": Net,
    "compiled": lambda: torch.compile(Net()),
    "a compiled layer": Compiled,
    "parallel": lambda: nn.DataParallel(Net()),
    "compiled and parallel": lambda: nn.DataParallel(torch.compile(Net())),
    "parallel and compiled": lambda: torch.compile(nn.DataParallel(Net())),
}


@pytest.mark.parametrize("saved", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("loaded", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_modules_are_loaded_whichever_was_saved(saved, loaded, tmp_path):
    ticket = ticket_of(saved())
    save_ticket(tmp_path / "ticket", ticket, {})
    module = loaded()
    mask = load_ticket(tmp_path / "ticket", module)
    assert states.fingerprint(dict(enumerate_values(states.read(module)))) == states.fingerprint(
        dict(enumerate_values(ticket.masked))
    )
    parameters = dict(module.named_parameters())
    assert len(mask) == 2
    for name, kept in mask.items():  # so that a loop of one's own can hold the mask
        assert not parameters[name][~kept].any()
        assert mask.num_kept == ticket.mask.num_kept


def enumerate_values(state):
    """The tensors under numbers, in the network's order."""
    return ((str(index), value) for index, value in enumerate(state.values()))


def test_a_part_that_is_called_module_is_no_wrapper(tmp_path):
    class Holding(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.other = nn.Linear(4, 3), nn.Linear(4, 3)

    save_ticket(tmp_path / "ticket", ticket_of(Holding()), {})
    mask = load_ticket(tmp_path / "ticket", nn.DataParallel(Holding()))
    assert set(mask) == {"module.module.weight", "module.other.weight"}


class Wrapper(nn.Module):
    """As the average of weights, or a library's trainer, holds a network."""

    def __init__(self):
        super().__init__()
        self.register_buffer("num_averaged", torch.zeros(()))
        self.net = Net()


def test_the_part_that_a_ticket_fits_is_named(path):
    with pytest.raises(UserError, match="; it is one of the module's part net: give that"):
        load_ticket(path, Wrapper())
    load_ticket(path, Wrapper().net)


def test_a_sharded_tensor_is_told(path):
    module = Net()
    module.inp.weight.full_tensor = None  # as a DTensor has it
    with pytest.raises(UserError, match=r"inp\.weight is sharded over processes: load the ticket"):
        load_ticket(path, module)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: Net(width=7), r"network: inp\.weight has shape \(6, 4\), the module's has"),
        (lambda: nn.Linear(4, 3), r"another network: it lacks bias, weight, and it has inp\.bias"),
        (lambda: Net().half(), r"float32, the module's is float16, and nothing is cast here: load"),
        (lambda: Net().bfloat16(), r"the module's is bfloat16"),
        (lambda: Net().double(), r"the module's is float64"),
        (lambda: Net().to("meta"), r"on the meta device, which holds no values"),
    ],
    ids=["width", "layer", "half", "bfloat16", "double", "meta"],
)
def test_a_module_that_the_ticket_does_not_fit_is_left_as_it_was(module, said, path):
    made = module()
    before = copy.deepcopy(made)
    with pytest.raises(UserError, match=said):
        load_ticket(path, made)
    for one, other in zip(made.parameters(), before.parameters(), strict=True):
        assert one.is_meta or torch.equal(one, other)
