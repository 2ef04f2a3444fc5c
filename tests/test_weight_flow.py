"""Networks generated from trained ones: in one order, reduced, by a flow, and measured."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from command import folders, lth_run, no_training, rows
from lth_runner.problem.models import velocity
from lth_runner.problem.task import Task
from lth_runner.runs.evidence.generated import find_generated
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.report.generated_networks import table, text
from lth_runner.runs.report.run_page import write_run
from lth_runner.runs.study_pages.generated import best, write_generated
from lth_runner.study.flow import Generated, Sampler, reduction, weight_flow
from lth_runner.study.flow.generated import pairs_in
from lth_runner.study.flow.layout import Layout
from lth_runner.study.flow.measuring import distances, same_errors
from lth_runner.study.flow.pairs import Drawing
from lth_runner.study.flow.reduction import Principal
from lth_runner.study.flow.sampling import SOLVERS
from lth_runner.study.flow.space import check_components
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

FAST = ("device=cpu", "threads=1", "train.engine=sequential")
NETWORK = ["dataset=synthetic", "dataset.num_train=120", "dataset.num_test=40", "model=mlp"]
PLAN = (
    "+study=weight_flow",
    f"study.networks={[*NETWORK, 'model.widths=[6]', 'model.norm=batch']}",
    "study.number='replicates=4'",
    "study.reduced=['dataset.components=3','probe.generated.num=4',"
    "'probe.generated.sampler.num_steps=3']",
    "study.canonicalize=['true']",
    "study.spreads=['0.5']",
    "study.starts=['1']",
    "train.shrink_to=6it",
    *FAST,
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    path = tmp_path_factory.mktemp("outputs")
    said = lth_run(*PLAN, f"paths.outputs={path}")
    assert said.status == 0, said.err
    return path


def runs_in(outputs):
    every = folders(outputs, "weight_flow")
    return [FinishedRun.load(one) for one in every if (one / "rounds.jsonl").is_file()]


def run_of(outputs, dataset, origin=None):
    """The folder of the study's run on a data set."""
    for run in runs_in(outputs):
        if run.option("dataset", "name") == dataset and bool(run.option("origin")) == bool(origin):
            return run.folder
    raise AssertionError(dataset)


@pytest.fixture(scope="module")
def population(outputs):
    return run_of(outputs, "synthetic")


@pytest.fixture(scope="module")
def data(population):
    return weight_flow(run=str(population), components=3, shape=[3], source_std=0.5)


def space_of(data):
    return data.train.space


def test_the_study_trains_once_and_starts_tickets_from_what_the_page_shows(outputs, population):
    with no_training():
        assert lth_run(*PLAN, f"paths.outputs={outputs}").status == 0
    flow = run_of(outputs, "weight_flow")
    tickets = rows(run_of(outputs, "synthetic", origin=True) / "rounds.jsonl")
    [row] = [row for row in rows(flow / "rounds.jsonl") if "generated_explained" in row]
    assert row["generated_explained"] == pytest.approx(1.0)  # four networks span three directions
    assert {"training", "reduced", "flow", "pairs", "mean", "gaussian"} == {
        *row["generated_accuracy"]
    }
    made = Generated(str(flow), index=1, sampler=Sampler(num_steps=3))
    task = rebuilt_task(population)
    # the second of the networks that the page speaks of, as the Store gives it to a ticket
    assert task.evaluate(made.state, "test")["accuracy"] == pytest.approx(row["generated_curve"][1])
    assert len(row["generated_curve"]) == 4
    assert {one["arm"] for one in tickets} == {"ticket", "reinit", "shuffle"}
    [found] = find_generated(runs_in(outputs))
    assert found.flows[0].measure.unit == "%"
    assert "in one order, 3 components, noise 0.5" in text(found)
    assert [line[1] for line in table(found)[1]].count("flow") == 1
    assert (outputs / "weight_flow" / "generated.html").is_file()


def rebuilt_task(folder) -> Task:
    from lth_runner.runs.rebuilt import rebuilt

    return rebuilt(folder)


def test_a_generated_network_is_a_function_of_its_number(outputs):
    flow = str(run_of(outputs, "weight_flow"))

    def made(index, **options):
        return Generated(flow, index, sampler=Sampler(num_steps=3, **options))

    one = made(2)
    assert one == made(2)
    others = [made(3), made(2, seed=1), made(2, solver="euler"), made(102)]
    assert len({one.content, *(other.content for other in others)}) == 5


def test_running_statistics_are_those_of_training_samples(outputs, population):
    flow = str(run_of(outputs, "weight_flow"))
    state = Generated(flow, sampler=Sampler(num_steps=3)).state
    task = rebuilt_task(population)
    module = task.module().train()
    inputs, _ = task.data.sample(task.data.num_train, 0)
    for name, value in module.state_dict().items():
        value.copy_(state[name])
    hidden = module.linear1(module.flatten(inputs))
    assert torch.allclose(state["norm1.running_mean"], hidden.mean(0), atol=1e-5)


def test_permuted_copies_are_one_network_in_one_order(population, tmp_path):
    from lth_runner.study.flow.population import Member, Population
    from lth_runner.study.flow.space import Space
    from lth_runner.study.permutation import Matching

    known = Population.of_runs([str(population)], round=0)
    first = known.members[0]
    space = Space(known, Matching(), None)
    copies = tuple(
        Member(space.symmetries.applied(first.state, space.symmetries.random(seed)), first.mask, 0,
               first.entry)
        for seed in range(3)
    )  # fmt: skip
    alike = Space(Population(known.tasks, (first, *copies)), Matching(), None).rows
    apart = Space(Population(known.tasks, (first, *copies)), None, None).rows
    assert bool((alike == alike[0]).all())
    assert not bool((apart == apart[0]).all())


def test_samples_are_drawn_by_the_step_between_noise_and_networks(data):
    stream = data.stream(16, seed=3)
    first, again, later = stream[5], data.stream(16, seed=3)[5], stream[6]
    assert torch.equal(first[0]["points"], again[0]["points"])
    assert not torch.equal(first[0]["points"], later[0]["points"])
    inputs, targets = first
    ends = space_of(data).points
    # x_0 = x_1 - target; x_t = (1 - t) x_0 + t x_1, but for noise of 0.001
    apart = torch.cdist(inputs["points"] + (1 - inputs["times"]) * targets, ends)
    assert bool((apart.min(1).values < 0.01).all())
    assert bool((inputs["times"] >= 0).all() and (inputs["times"] < 1).all())


def test_what_decides_a_flow_is_in_its_name(data, population):
    def name(**changes):
        keys = {"components": 3, "shape": [3], "source_std": 0.5} | changes
        return weight_flow(run=str(population), **keys).fingerprint

    assert name() == data.fingerprint
    others = [{"source_std": 0.01}, {"canonicalize": False}, {"noise_std": 0.0}, {"num": 3,
              "components": 2, "shape": [2]}, {"num_conditions": 1}]  # fmt: skip
    assert len({name(), *(name(**one) for one in others)}) == 6


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_components_are_those_of_the_singular_values(shape, monkeypatch):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.arange(
        1, 1 + shape[1]
    )
    whole = Principal.of(drawn, 3)
    monkeypatch.setattr(reduction, "BLOCK", 7)
    in_blocks = Principal.of(drawn, 3)
    centred = (drawn - drawn.mean(0)).double()
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    share = float(values[:3].square().sum() / values.square().sum())
    for found in (whole, in_blocks):
        assert found.explained == pytest.approx(share)
        alike = (found.components.double() @ directions[:3].t()).abs()
        assert torch.allclose(alike, torch.eye(3).double(), atol=1e-4)
        lost = drawn - found.back(found.reduced(drawn))
        assert float(lost.square().sum() / centred.square().sum()) == pytest.approx(
            1 - share, abs=1e-4
        )


@pytest.mark.parametrize("shape", [(5, 40), (40, 5)])
def test_equal_networks_span_no_direction_of_their_own(shape):
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    twice = torch.cat([drawn, drawn])
    rank = min(4, shape[1])
    assert Principal.of(twice, rank).components.isfinite().all()
    if shape[0] < shape[1]:
        with pytest.raises(UserError, match=r"components=9: the networks span 4 directions"):
            Principal.of(twice, 9)
    with pytest.raises(UserError, match="all equal"):
        Principal.of(drawn[:1].repeat(3, 1), 2)


def test_a_row_holds_the_surviving_weights_and_no_others():
    state = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.ones(2),
        "mean": torch.full((2,), 7.0),
    }
    mask = Mask({"a": torch.tensor([[True, False, True], [False, False, True]])})
    layout = Layout(state, ("a", "b"), mask)
    row = layout.rows([state])
    assert row.tolist() == [[0, 2, 5, 1, 1]]
    assert layout.size == 5
    back = layout.network(row[0] + 1)
    assert back["a"].tolist() == [[1, 0, 3], [0, 0, 6]]
    assert back["mean"].tolist() == [7, 7]


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_a_solver_has_its_order(solver, order):
    def end(num):
        points = torch.ones(1, 1, dtype=torch.float64)
        for step in range(num):
            points = SOLVERS[solver].step(lambda x, t: x * (1 + t), points, step / num, 1 / num)
        return abs(float(points) - math.exp(1.5))

    assert end(10) / end(20) == pytest.approx(2**order, rel=0.15)


def test_a_flow_at_its_start_moves_nothing_and_takes_conditions():
    module = velocity(shape=[5], width=8, num_conditions=2).eval()
    given = {"points": torch.randn(3, 5), "times": torch.rand(3, 1)}
    assert not module(**given, conditions=torch.tensor([0, 1, 1])).any()
    with torch.no_grad():
        module.output.weight.normal_()
    zero, one = (module(**given, conditions=torch.full((3,), c)) for c in (0, 1))
    assert not torch.equal(zero, one)


def test_distances_and_errors_are_those_of_the_nearest():
    networks = torch.tensor([[0.0, 0.0], [3.0, 4.0], [100.0, 0.0]])
    found = distances(torch.tensor([[0.0, 1.0], [3.0, 3.0]]), networks)
    assert found.nearest == (1.0, 1.0)
    assert found.num_neighbours == 2
    assert found.pairwise == pytest.approx(math.sqrt(13))
    assert distances(networks, networks, themselves=True).nearest[0] == 5.0
    wrong = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0]]).bool()
    assert same_errors(wrong, wrong) == 1.0
    assert same_errors(torch.tensor([[1, 0, 0, 0]]).bool(), wrong) == 0.5
    assert same_errors(wrong, wrong, themselves=True) == 0.0
    assert math.isnan(same_errors(wrong[:1], wrong[:1], themselves=True))


def test_networks_whose_weights_are_not_finite_are_told_without_a_distance(tmp_path):
    row = {
        "round": 0, "arm": "ticket", "seed": 0, "density": 1.0, "generated_explained": 0.5,
        "generated_accuracy": {"training": 0.9, "flow": 0.1},
        "generated_nearest": {"training": 1.0, "flow": None},
        "generated_curve": [0.1, None], "generated_nearest_curve": [None, 1.0],
    }  # fmt: skip
    folder = tmp_path / "name" / "flow"
    config = {"name": "flow", "dataset": {"run": "there"}}
    flow = FinishedRun(folder, config, {}, {}, (row,))
    [found] = find_generated([flow])
    page, *_ = write_generated(found, tmp_path)
    assert "how far apart they are is not known" in page.read_text()
    assert "copies" not in best(found).about


def test_a_flow_learns_from_several_runs_and_tells_them_apart(outputs, population, tmp_path):
    # the same run twice under two names stands for two
    twin = outputs / "twin" / population.name
    shutil.copytree(population, twin, dirs_exist_ok=True)
    words = (
        f"dataset.run=[{population},{twin}]", "dataset=weight_flow", "dataset.num_conditions=2",
        "dataset.components=3", "model=velocity", "model.width=8", "objective=regression",
        "pruner=magnitude_at_init", "pruner.sparsity=0.5", "pruner.rate=null",
        "pruner.retrain=false", "control=none", "probe=generated", "probe.generated.num=3",
        "probe.generated.sampler.num_steps=2", "replicates=1", "train.shrink_to=4it",
        "record=local", "name=told", f"paths.outputs={outputs}", *FAST,
    )  # fmt: skip
    said = lth_run(*words)
    assert said.status == 0, said.err
    [folder] = folders(outputs, "told")
    row = rows(folder / "rounds.jsonl")[0]
    assert {name.partition(":")[0] for name in row["generated_accuracy"]} == {
        "synthetic 0", "synthetic 1"
    }  # fmt: skip
    assert len(row["generated_curve_1"]) == 3
    assert "told by condition in the table" in said.out
    assert "Generated networks" in write_run(FinishedRun.load(folder))[1].read_text()
    [made] = find_generated([FinishedRun.load(folder)])
    assert "told by condition in the table" in text(made)
    assert sum(line[1].endswith(": flow") for line in table(made)[1]) == 2
    with pytest.raises(UserError, match="told 2 conditions: give one from 0 to 1"):
        Generated(str(folder))
    few = Sampler(num_steps=2)
    one, other = (Generated(str(folder), condition=c, sampler=few) for c in (0, 1))
    assert one.content != other.content


def test_tickets_of_one_mask_are_generated_over_surviving_weights(outputs, population):
    base = (
        "dataset=synthetic", "dataset.num_train=120", "dataset.num_test=40", "model=mlp",
        "model.widths=[6]", "model.norm=batch", "replicates=3", "control=none", "probe=none",
        "train.shrink_to=6it", "record=local", "name=tickets", f"paths.outputs={outputs}", *FAST,
    )  # fmt: skip
    given = ("pruner=given", f"pruner.ticket={population}", "pruner.seed=0", "pruner.round=1")
    said = lth_run(*base, *given)
    assert said.status == 0, said.err
    [folder] = folders(outputs, "tickets")
    with pytest.raises(UserError, match="canonicalize=true permutes units and with them masks"):
        weight_flow(run=str(folder), round=1, components=2, shape=[2])
    keys = {"round": 1, "canonicalize": False, "components": None}
    with pytest.raises(UserError, match=r"dataset\.num=-1: .* networks of round 1"):
        weight_flow(run=str(folder), shape=[3], num=-1, **keys)
    with pytest.raises(UserError, match=r"a network is (\d+) numbers here: set dataset.shape"):
        weight_flow(run=str(folder), shape=[3], **keys)
    mask = mask_of(folder)
    num = mask.num_kept + 6 + 6 + 10  # the norm's scale and shift, and the last layer's bias
    space = space_of(weight_flow(run=str(folder), shape=[num], **keys))
    [made] = space.networks(space.rows[:1] + 1)
    assert all(not made[name][~mask[name]].any() for name in mask)


def mask_of(folder):
    from lth_runner.study.flow.population import Population

    return Population.of_runs([str(folder)], round=1).mask


def test_networks_that_do_not_fit_are_refused_before_anything_is_trained(outputs, population):
    others = {
        "dataset.components=4": "4 networks of 466 weights span 3 directions",
        "dataset.components=0": "components=0: give a whole number",
        "dataset.source_std=0": "source_std=0: give a standard deviation above 0",
        "dataset.round=3": "has no training of round 3",
        "dataset.num=9": "has 4 networks of round 0",
        "dataset.num_conditions=3": "dataset.run names 1 of them",
        "dataset.run=elsewhere": "is no run folder",
        "probe.generated.sampler.solver=rk45": "sampler.solver='rk45'",
        "probe.generated.sampler.num_steps=0": "num_steps=0",
        "probe.generated.num=1": "num=1",
        "model.num_conditions=2": "set model.num_conditions to dataset.num_conditions",
        "model.dropout=1": "model.dropout=1",
    }
    base = (
        "dataset=weight_flow", f"dataset.run={population}", "dataset.components=3",
        "model=velocity", "model.width=8", "objective=regression", "pruner=magnitude_at_init",
        "pruner.sparsity=0.5", "pruner.rate=null", "pruner.retrain=false", "control=none",
        "probe=generated", "record=local", "replicates=1", f"paths.outputs={outputs}", "name=no",
        *FAST,
    )  # fmt: skip
    for word, told in others.items():
        with no_training():
            said = lth_run(*base, word)
        assert said.status == 2, (word, said.err)
        assert told in said.err, (word, said.err)


def test_a_study_is_refused_before_its_networks_are_trained(tmp_path):
    for words, told in {
        ("study.number='replicates=3'",): "3 networks of 466 weights span 2 directions",
        (
            f"study.networks={[*NETWORK, 'model.widths=[]']}",
            "pruner.exclude=[]",
        ): "no layer has units that may change places",
        (
            "study.reduced=['dataset.components=null','dataset.shape=[1]']",
        ): "set dataset.shape=[466]",
        ("origin.index=-1",): "origin",
    }.items():
        with no_training():
            said = lth_run(*PLAN, *words, f"paths.outputs={tmp_path}")
        assert said.status == 2, (words, said.err)
        assert told in said.err, said.err


def test_an_unfinished_population_is_refused(population, tmp_path):
    there = tmp_path / "outputs" / "left" / population.name
    shutil.copytree(population, there)
    (there / "status.json").unlink()
    with pytest.raises(UserError, match="is not finished: "):
        weight_flow(run=str(there), components=3, shape=[3])


def test_a_run_that_trained_no_flow_generates_nothing(population):
    with pytest.raises(UserError, match="has trained no flow"):
        Generated(str(population))
    assert pairs_in(rebuilt_task(population)) is None


def test_components_need_more_networks_than_they_are():
    check_components(None, 1, 10)
    check_components(9, 10, 100)
    for num, networks in ((10, 10), (1, 1), (True, 5), (2.0, 5)):
        with pytest.raises(UserError, match=r"dataset\.components"):
            check_components(num, networks, 100)


@pytest.mark.parametrize("std", [0, -1, float("nan"), True, "wide"])
def test_a_spread_of_the_noise_that_is_none_is_refused(std):
    with pytest.raises(UserError, match="source_std"):
        Drawing(std, 0.0)
    with pytest.raises(UserError, match=r"sampler\.source_std"):
        Sampler(source_std=std)
