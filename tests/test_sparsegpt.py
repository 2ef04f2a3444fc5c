"""SparseGPT: held against the plain optimal brain surgeon, layer by layer and as a whole."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pretrained
import small
from command import SMALL, folders, lth_run, rows
from lth_runner.allocate import Global, LayerWise, NOfM, Rows, count
from lth_runner.control import Late
from lth_runner.problem import Covers, Delta
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.schedule import at_once
from lth_runner.score.examples import draw_batches
from lth_runner.search import Rewind, Solved, SparseGPT
from lth_runner.search.solution import Solution
from lth_runner.search.sparsegpt.columns import (
    BestOfBlock,
    BestOfGroup,
    Choose,
    SingularError,
    inverse_factor,
    prune,
)
from lth_runner.search.sparsegpt.layers import Layer, Seen
from lth_runner.search.sparsegpt.walk import Walk
from lth_runner.store.ticket_file import read_ticket
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from second_proofs import mostly_slow

DAMPING = 0.01
BLOCKS = Covers(blocks=True)
DELTA = Delta(only=["linear1.weight"])


def noise(*shape: int, name: str = "noise") -> Tensor:
    return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)


def gram_of(inputs: Tensor) -> Tensor:
    return inputs.T @ inputs


def correlated(places: int, columns: int) -> Tensor:
    """Inputs that depend on each other, as those of a layer do."""
    return noise(places, columns) + noise(places, 3, name="few") @ noise(3, columns, name="mixed")


def surgeon(
    weight: Tensor, gram: Tensor, num_kept: Callable[[int], int], at_once: int, *, by_row: bool
) -> tuple[Tensor, Tensor]:
    """Removes weights column by column, each time with the inverse of what is left, written out.

    ``num_kept`` of the columns from one on: of the whole piece or, ``by_row``, of each row.
    """
    ridge = DAMPING * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    hessian, found = gram + ridge, weight.clone()
    kept = torch.ones_like(weight, dtype=torch.bool)
    for begin in range(0, len(gram), at_once):
        piece = range(begin, min(begin + at_once, len(gram)))
        pivots = torch.stack([torch.inverse(hessian[c:, c:])[0, 0] for c in piece])
        costs = found[:, piece.start : piece.stop] ** 2 / pivots
        flat = costs if by_row else costs.reshape(1, -1)
        best = flat.topk(num_kept(begin), dim=1).indices
        chosen = torch.zeros_like(flat, dtype=torch.bool).scatter(1, best, value=True)
        kept[:, piece.start : piece.stop] = chosen.view_as(costs)
        for c in piece:
            inverse = torch.inverse(hessian[c:, c:])
            removed = torch.where(kept[:, c], 0.0, found[:, c])
            found[:, c:] -= removed[:, None] / inverse[0, 0] * inverse[0]
            found[:, c][~kept[:, c]] = 0.0
    return found, kept


def cumulative(num: int, columns: int, block: int) -> Callable[[int], int]:
    def of(begin: int) -> int:
        end = min(begin + block, columns)
        return int(num * end / columns + 0.5) - int(num * begin / columns + 0.5)

    return of


@pytest.mark.parametrize("block", [1, 4, 5, 12, 50])
def test_a_matrix_is_pruned_as_by_the_surgeon_with_the_inverse_written_out(block: int) -> None:
    weight, gram = noise(6, 12, name="weight"), gram_of(correlated(30, 12))
    choose = BestOfBlock(25, 12, block, 0)
    found, kept = prune(weight, gram, choose, block=block, damping=DAMPING)
    wanted, chosen = surgeon(weight, gram, cumulative(25, 12, block), block, by_row=False)
    assert int(kept.sum()) == 25
    assert torch.equal(kept, chosen)
    torch.testing.assert_close(found, wanted)
    assert bool((found[~kept] == 0).all())


@pytest.mark.parametrize(("num", "group", "block"), [(2, 4, 4), (2, 4, 8), (1, 4, 12), (1, 2, 6)])
def test_n_of_m_is_chosen_as_the_surgeon_reaches_a_group(num: int, group: int, block: int) -> None:
    weight, gram = noise(6, 12, name="weight"), gram_of(correlated(30, 12))
    choose: Choose = BestOfGroup(num, group, 0)
    found, kept = prune(weight, gram, choose, block=block, damping=DAMPING)
    wanted, chosen = surgeon(weight, gram, lambda _: num, group, by_row=True)
    assert kept.unflatten(1, (-1, group)).sum(2).unique().tolist() == [num]
    assert torch.equal(kept, chosen)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("num_kept", [12, 36, 60])
def test_the_answers_move_less_than_without_new_weights_and_no_less_than_they_can(
    num_kept: int,
) -> None:
    """Under the same mask: magnitudes alone on one side, least squares on the other."""
    weight, inputs = noise(6, 12, name="weight"), correlated(40, 12)
    choose = BestOfBlock(num_kept, 12, 6, 0)
    found, kept = prune(weight, gram_of(inputs), choose, block=6, damping=1e-9)

    def moved(other: Tensor) -> Tensor:
        return (inputs @ (other - weight).T).square().sum(0)

    best = torch.zeros_like(weight)
    for row, stays in enumerate(kept):
        if stays.any():
            answers = inputs @ weight[row]
            best[row, stays] = torch.linalg.lstsq(inputs[:, stays], answers[:, None]).solution[:, 0]
    assert bool((moved(found) >= moved(best) - 1e-9).all())
    assert float(moved(found).sum()) < float(moved(weight * kept).sum())


def test_weights_of_dead_inputs_go_first_and_concern_no_others() -> None:
    weight, inputs = noise(5, 8, name="weight"), correlated(30, 8)
    dead = torch.tensor([1, 6])
    inputs[:, dead] = 0
    living = [c for c in range(8) if c not in dead]
    found, kept = prune(weight, gram_of(inputs), BestOfBlock(20, 8, 8, 0), block=8, damping=DAMPING)
    assert not kept[:, dead].any()
    alone = gram_of(inputs)[living][:, living]
    choose = BestOfBlock(20, 6, 6, 0)
    other, chosen = prune(weight[:, living], alone, choose, block=6, damping=DAMPING)
    assert torch.equal(kept[:, living], chosen)
    torch.testing.assert_close(found[:, living], other)
    found, kept = prune(weight, gram_of(inputs), BestOfBlock(35, 8, 8, 0), block=8, damping=DAMPING)
    assert int(kept[:, dead].sum()) == 5
    assert torch.equal(found[:, dead], torch.where(kept, weight, 0.0)[:, dead])
    # where no input was seen, the largest stay as they are
    found, kept = prune(weight, 0 * alone.new_zeros(8, 8), choose=BestOfBlock(9, 8, 8, 0),
                        block=8, damping=DAMPING)  # fmt: skip
    assert set(found[kept].abs().tolist()) == set(weight.abs().flatten().topk(9).values.tolist())


def test_the_factor_is_that_of_the_inverse_and_singular_products_are_told() -> None:
    gram = gram_of(correlated(30, 9))
    factor, _ = inverse_factor(gram, 0.0)
    assert torch.equal(factor, factor.triu())
    torch.testing.assert_close(factor.T @ factor, torch.inverse(gram))
    with pytest.raises(SingularError):
        inverse_factor(torch.ones(3, 3, dtype=torch.float64), 0.0)
    inverse_factor(torch.ones(3, 3, dtype=torch.float64), DAMPING)


def solver(allocate: Any = None, **options: Any) -> SparseGPT:
    plain = {"batch_size": 24, "block": 8, "damping": DAMPING}
    return SparseGPT(allocate or LayerWise(), **{**plain, **options})


def drawn(task: Task, num: int = 24) -> Any:
    """The samples that a task of this seed is solved by."""
    [(inputs, _)] = draw_batches(task, 1, num)
    return inputs


def test_an_input_that_is_changed_in_place_between_two_layers_is_seen_anew() -> None:
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)
    seen, inputs = Seen(), torch.tensor([[1.0, -2.0]])
    for name, layer in (("0.weight", first), ("1.weight", second)):
        seen.see(Layer(name, layer, "linear"), inputs)
        F.relu_(inputs)
    assert seen.grams["0.weight"].tolist() == [[1, -2], [-2, 4]]
    assert seen.grams["1.weight"].tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_of_inputs_of_half_precision_are_sums_of_float32(dtype: torch.dtype) -> None:
    inputs = torch.full((300, 2), 16.0, dtype=dtype)  # 300 * 16^2 is no float16, and no bfloat16
    image = inputs.reshape(300, 2, 1, 1)
    layers: list[tuple[Layer, torch.Tensor]] = [
        (Layer("a.weight", nn.Linear(2, 1), "linear"), inputs),
        (Layer("b.weight", nn.Conv2d(2, 1, 1), "convolution"), image),
    ]
    seen = Seen()
    for layer, given in layers:
        seen.see(layer, given)
        assert seen.grams[layer.name].tolist() == [[76800.0] * 2] * 2


def solved_by_hand(gram: Tensor, weight: Tensor, density: float) -> Tensor:
    num = cumulative(count(density, weight.numel()), weight.shape[1], 8)
    return surgeon(weight.double(), gram, num, 8, by_row=False)[0]


def test_each_layer_is_solved_for_what_the_pruned_layers_before_it_give() -> None:
    task = small.task(model=two_layers)
    weights = task.init()
    found = solver()(task, weights, 0.5)
    inputs = drawn(task).flatten(1).double()
    first = solved_by_hand(gram_of(inputs), weights["1.weight"], 0.5)
    torch.testing.assert_close(found.weights["1.weight"].double(), first, rtol=1e-4, atol=1e-5)
    hidden = F.softplus(F.linear(inputs, first, weights["1.bias"].double()))
    second = solved_by_hand(gram_of(hidden), weights["3.weight"], 0.5)
    torch.testing.assert_close(found.weights["3.weight"].double(), second, rtol=1e-4, atol=1e-5)
    assert found.mask.num_kept == count(0.5, found.mask.num_prunable)
    assert all(bool((w[~found.mask[n]] == 0).all()) for n, w in found.weights.items())


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Softplus(), nn.Linear(12, 4))


@pytest.mark.parametrize(
    "layer",
    [
        functools.partial(nn.Conv2d, 1, 4, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)),
        functools.partial(nn.Conv2d, 1, 4, 3, padding="same", bias=False),
    ],
)
def test_a_convolution_is_the_matrix_of_the_unfolded_input(layer: Callable[[], nn.Module]) -> None:
    task = small.task(model=functools.partial(convolving, layer))
    weights = task.init()
    found = solver(exclude=["2"], allocate=LayerWise(exclude=["2"]))(task, weights, 0.9)
    conv: Any = layer()
    around = (1, 1) if conv.padding == "same" else conv.padding
    unfolded = F.unfold(drawn(task), conv.kernel_size, conv.dilation, around, conv.stride)
    columns = unfolded.transpose(1, 2).flatten(0, 1).double()  # one channel: kernel places alone
    name = "0.weight"
    share = int(found.mask[name].sum()) / found.mask[name].numel()
    wanted = solved_by_hand(gram_of(columns), weights[name].flatten(1), share)
    torch.testing.assert_close(found.weights[name].flatten(1).double(), wanted, rtol=1e-4,
                               atol=1e-5)  # fmt: skip
    assert torch.equal(found.weights["2.weight"], weights["2.weight"])


def convolving(layer: Callable[[], nn.Module]) -> nn.Module:
    first = layer()
    with torch.no_grad():
        places = first(torch.zeros(1, 1, 4, 4)).numel()
    return nn.Sequential(first, nn.Flatten(), nn.Linear(places, 3))


def test_counts_are_exact_and_n_of_m_holds_along_the_input_channels_of_convolutions() -> None:
    task = small.task(model=small.convolutional)
    weights = task.init()
    for density in (0.1, 0.37, 0.9):
        found = solver(Global())(task, weights, density)
        assert found.mask.num_kept == count(density, found.mask.num_prunable)
        largest = Global()({n: weights[n].abs() for n in found.mask}, density, task.dense(), 0)
        assert found.mask.layer_density() == largest.layer_density()
    found = solver(NOfM(3, sparsity=2 / 3), block=6)(task, weights, 1 / 3)
    kept = found.mask["3.weight"]
    assert kept.unflatten(1, (-1, 3)).sum(2).unique().tolist() == [1]
    assert found.mask["0.weight"].all()  # one channel: left whole
    assert torch.equal(found.weights["0.weight"], weights["0.weight"])


def transformer(family: str, folder: Path) -> Task:
    model = pretrained.sequence_classifier(pretrained.folder(folder, family))
    one = Task(model, pretrained.sentences(), covers=BLOCKS)
    inputs, targets = one.data.train[0], one.data.train[1]
    shown = {name: value[:6].clone() for name, value in inputs.items()}
    real = torch.arange(pretrained.LENGTH) < torch.tensor([3, 6, 4, 6, 2, 5])[:, None]
    shown["attention_mask"] *= real
    split = shown, targets[:6]
    return replace(one, data=Data.from_tensors(split, split, validation=0, num_classes=3))


@pytest.mark.parametrize("family", mostly_slow(["bert", "gpt2", "llama", "t5"], ["bert", "llama"]))
def test_blocks_that_are_passed_over_give_what_whole_runs_give(family: str, tmp_path: Path) -> None:
    """Held against runs of the whole network for each block, its layers seen by hooks."""
    task = transformer(family, tmp_path)
    weights = task.init()
    solve = solver(batch_size=6, block=4)
    network = task.module().eval()
    walk = solve._walk(task, network, solve._layers(task, network))
    assert all(step.block for step in walk.steps)
    found = solve(task, weights, 0.5)
    states.write(network, weights)
    for step in walk.steps:
        grams = seen_by_hooks(network, step.layers, task.data.train[0])
        for layer in step.layers:
            weight = network.get_parameter(layer.name)
            matrix = weight.t() if family == "gpt2" else weight
            block = cumulative(int(found.mask[layer.name].sum()), matrix.shape[1], 4)
            new, _ = surgeon(matrix.detach().double(), grams[layer.name], block, 4, by_row=False)
            with torch.no_grad():
                weight.copy_(new.t() if family == "gpt2" else new)
            torch.testing.assert_close(found.weights[layer.name], weight.detach(), rtol=1e-3,
                                       atol=1e-4)  # fmt: skip


def seen_by_hooks(
    network: nn.Module, layers: Any, inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Inner products of what layers are given, each sample run alone and without its padding."""
    grams: dict[str, Tensor] = {}

    def see(layer: nn.Module, given: Any, *, name: str, kept: Tensor) -> None:
        places = given[0].detach().flatten(0, -2).double()
        places = places[kept] if len(places) == len(kept) else places
        grams[name] = grams.get(name, 0) + gram_of(places)

    for index, kept in enumerate(inputs["attention_mask"].bool()):
        hooks = [
            one.module.register_forward_pre_hook(functools.partial(see, name=one.name, kept=kept))
            for one in layers
        ]
        with torch.no_grad():
            network(**{name: value[index : index + 1] for name, value in inputs.items()})
        for hook in hooks:
            hook.remove()
    return grams


class Skipping(nn.Module):
    """Blocks that attend, the last of which reads the first's answer too."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.TransformerEncoderLayer(4, 2, 8, batch_first=True) for _ in range(3)]
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        first = self.layers[0](inputs.flatten(1).unflatten(1, (4, 4)))
        found: Tensor = self.head(self.layers[2](self.layers[1](first) + first).mean(1))
        return found


def test_a_network_whose_blocks_are_no_chain_is_run_from_its_inputs() -> None:
    task = small.task(model=Skipping)
    solve = solver(exclude=["*self_attn*"], allocate=LayerWise(exclude=["*self_attn*"]))
    network = task.module().eval()
    walk = Walk.through(network, solve._layers(task, network), drawn(task, 2))
    assert [step.block for step in walk.steps] == [None] * 7
    found = solve(task, task.init(), 0.8)
    assert {round(d, 1) for d in found.mask.layer_density().values()} == {0.8, 1.0}


class Kept:
    """A training beside which a solution is kept, in memory."""

    def __init__(self) -> None:
        self.held: dict[str, State] = {}

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        return self.held.setdefault(name, compute())


def test_a_kept_solution_is_named_by_its_calibration_and_comes_back_with_its_bits() -> None:
    task = small.task()
    weights = task.init()
    beside: Any = Kept()
    search = Solved(solver(), at_once(0.5, rounds=1), Rewind())
    first = search._solution(task, [beside], weights)
    again = search._solution(task, [beside], weights)
    assert len(beside.held) == 1
    alone = solver()(task, weights, 0.5)
    for one in (again, alone):
        assert one.mask == first.mask
        assert all(torch.equal(one.weights[name], first.weights[name]) for name in first.mask)
    others = [
        (replace(search, solve=solver(damping=0.1)), task),
        (replace(search, solve=solver(block=4)), task),
        (replace(search, solve=solver(batch_size=12)), task),
        (replace(search, solve=solver(num_batches=2, batch_size=12)), task),
        (replace(search, schedule=at_once(0.6, rounds=1)), task),
        (search, replace(task, data=small.blobs(num=60))),
        (search, task.with_seed(1)),
    ]
    for num, (other, problem) in enumerate(others, start=2):
        other._solution(problem, [beside], weights)
        assert len(beside.held) == num


@pytest.mark.slow
def test_a_run_that_goes_on_and_one_from_the_start_have_the_same_bits(tmp_path: Path) -> None:
    words = [*SMALL, "pruner=sparsegpt", "pruner.search.solve.batch_size=32", "pruner.sparsity=0.5"]
    ends = []
    for outputs in (tmp_path / "one", tmp_path / "other"):
        said = lth_run(*words, f"paths.outputs={outputs}")
        assert said.status == 0, said.err
        [folder] = folders(outputs)
        ends.append((rows(folder / "rounds.jsonl")[-1], read_ticket(ticket_of(folder))))
    row, ticket = ends[0]
    assert row["num_kept"] == count(0.5, row["num_prunable"])
    # as after a kill: the dense training and the solution are there, the ticket's training is not
    [folder] = folders(tmp_path / "one")
    entries = tmp_path / "one/store/entries"
    assert len(list(entries.glob("*/derived-solution-*.safetensors"))) == 1
    for key in {r["training_key"] for r in rows(folder / "rounds.jsonl") if r["round"] == 1}:
        (entries / key).rename(tmp_path / key)
    (folder / "rounds.jsonl").unlink()
    said = lth_run(*words, f"paths.outputs={tmp_path / 'one'}")
    assert said.status == 0, said.err
    ends.append((rows(folder / "rounds.jsonl")[-1], read_ticket(ticket_of(folder))))
    for other, its in ends[1:]:
        assert other["training_key"] == row["training_key"]
        assert its.mask == ticket.mask
        assert all(torch.equal(its.weights[n], w) for n, w in ticket.weights.items())


def ticket_of(folder: Path) -> Path:
    return folder / "tickets/round-01.safetensors"


class Grouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 2, groups=2), nn.Flatten(),
                         nn.Linear(4, 3))  # fmt: skip


class Embedded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.table(inputs.flatten(1).abs().long().clamp(max=8)).mean(1))
        return found


class Uncalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(16, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return F.linear(inputs.flatten(1), self.hidden.weight)


@pytest.mark.parametrize(
    ("task", "solve", "said"),
    [
        (small.task(model=Grouped), solver(), r"1\.weight is a convolution in groups"),
        (Task(Embedded, small.blobs(), covers=Covers(types=["linear", "embedding"])), solver(),
         r"table\.weight is of the kind embedding"),
        (small.task(model=Uncalled), solver(), "hidden.weight without calling its layer"),
        (small.task(), solver(Rows()), r"pruner\.scope=rows.*layerwise"),
        (small.task(), solver(NOfM(4), block=6), r"block=6 cuts groups of 4"),
        (Task(small.perceptron, small.blobs(), biases=True), solver(), r"pruner\.biases=true"),
        (Task(small.perceptron, small.blobs(), coordinates=DELTA), solver(),
         r"coordinates \(Delta\)"),
        (small.task(), solver(batch_size=97), r"pruner\.search\.solve\.batch_size=97"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_it_cannot_solve_is_refused_by_name(task: Task, solve: SparseGPT, said: str) -> None:
    with pytest.raises(UserError, match=said):
        solve.check(task, 0.5)


def test_options_and_inputs_without_an_inverse_are_refused_by_their_key() -> None:
    with pytest.raises(UserError, match=r"pruner\.search\.solve\.damping=-1"):
        solver(damping=-1)
    with pytest.raises(UserError, match=r"pruner\.search\.solve\.block=0"):
        solver(block=0)
    task = small.task()
    with pytest.raises(UserError, match=r"damping=0.*inputs of .*weight depend on each other"):
        solver(damping=0, batch_size=2)(task, task.init(), 0.5)
    with pytest.raises(UserError, match=r"control=late rewinds otherwise.*Solved does not rewind"):
        Late(Solved(solver(), at_once(0.5, rounds=1)), "5it")


@pytest.mark.parametrize(
    "control", mostly_slow(["shuffle", "random", "even", "random_data", "regroup"], ["shuffle"])
)
def test_controls_with_another_mask_over_its_weights_are_refused_before_any_training(
    control: str, tmp_path: Path
) -> None:
    words = [*SMALL, "pruner=sparsegpt", "pruner.search.solve.batch_size=32",
             f"paths.outputs={tmp_path}", f"control={control}"]  # fmt: skip
    words += ["control.random_data.corrupt=pixels"] if control == "random_data" else []
    said = lth_run(*words)
    assert said.status
    assert f"control={control} would keep weights of" in said.err
    assert not list(tmp_path.glob("store/entries/*"))
    if control == "shuffle":
        said = lth_run(*words, "control.shuffle.weights=fresh")
        assert said.status == 0, said.err


def test_a_solution_is_packed_with_the_zeros_among_its_kept_weights() -> None:
    mask = Mask({"w": torch.tensor([[True, False, True]])})
    solution = Solution(mask, {"w": torch.tensor([[0.0, 0.0, 2.0]])})
    found = Solution.unpacked(solution.packed(), mask)
    assert found.mask == mask
    assert torch.equal(found.weights["w"], solution.weights["w"])
