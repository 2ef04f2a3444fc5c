"""What is stored of a network answers and learns as the network did, or it is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import hiding
import small
from command import SMALL, lth_run
from fake_past import small_task
from lth_runner.allocate import Global
from lth_runner.masking import EdgePopup
from lth_runner.problem import models
from lth_runner.problem.coordinates import Delta
from lth_runner.problem.retained import check_retained, refuse_other_answers
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric
from lth_runner.training.job import Job
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import positions

OUTSIDE = r"training changes what the model's state_dict does not hold \({}\)"
TWICE = "taken twice from the same weights and random numbers, end differently"
HIDING = {
    hiding.RunningMean: OUTSIDE.format("mean"),
    hiding.SlowMean: OUTSIDE.format("mean"),
    hiding.PlainMean: OUTSIDE.format("mean"),
    hiding.Counted: OUTSIDE.format("count"),
    hiding.CountedLate: OUTSIDE.format("count"),
    hiding.WarmedUp: OUTSIDE.format("count"),
    hiding.SetByItsData: OUTSIDE.format("is_set"),
    hiding.OwnGenerator: OUTSIDE.format("a generator or a list of its own, perhaps"),
    hiding.CountedByClass: TWICE,
    hiding.FreshGenerator: TWICE,
    hiding.CountedInEvaluation: "answers differently when it is asked again in evaluation",
}
OPEN = [
    hiding.Plain, hiding.KeptMean, hiding.Counting, hiding.Remembering, hiding.FunctionalDropout,
    hiding.AttentionDropout, hiding.DepthByPython, hiding.NormThatDraws, hiding.GradientNoise,
    hiding.GivesUp, hiding.SparseGraph,
]  # fmt: skip


def task(network) -> Task:
    return small.task(model=partial(network, shape=(1, 4, 4), num_classes=3))


@pytest.mark.parametrize("network", HIDING)
def test_what_training_changes_outside_the_state_dict_is_refused(network) -> None:
    with pytest.raises(UserError, match=HIDING[network]):
        check_retained(task(network))


@pytest.mark.parametrize("network", OPEN)
def test_a_network_whose_state_dict_holds_all_is_let_through_and_no_stream_moves(network) -> None:
    before = positions()
    check_retained(task(network))
    assert positions() == before


def test_deltas_and_a_batch_norm_of_one_sample_are_let_through() -> None:
    one = small.task(model=partial(hiding.KeptMean, shape=(1, 4, 4), num_classes=3))
    check_retained(Task(one.model, one.data, coordinates=Delta(only=["inp.weight"])))
    check_retained(Task(small.convolutional, small.blobs(num=25).limited(1)))


def test_networks_of_this_program_are_not_tried_and_a_users_are() -> None:
    shipped = partial(models.mlp, shape=(1, 4, 4), num_classes=3, widths=(4,))
    assert small.task(model=shipped).is_shipped
    assert not task(hiding.Plain).is_shipped
    assert not small_task().is_shipped  # its function is a user's, its modules are torch's


def test_a_training_whose_network_answers_otherwise_than_its_weights_is_not_stored(
    tmp_path: Path,
) -> None:
    trainer = small.trainer(tmp_path)
    with pytest.raises(UserError, match=r"answers otherwise \(by up to .*\) than the weights that"):
        list(trainer.fit([small.dense_job(task(hiding.RunningMean))]))
    assert not list((tmp_path / "entries").glob("*"))


def test_a_mask_over_frozen_weights_is_no_other_answer(tmp_path: Path) -> None:
    dense = small.dense_job(task(hiding.KeptMean))
    job = Job(dense.task, dense.ticket, EdgePopup(Global(), Geometric(0.5, rounds=1)))
    (trained,) = small.trainer(tmp_path).fit([job])
    assert trained.mask.density < 1


def test_other_weights_than_a_networks_own_are_other_answers() -> None:
    problem = task(hiding.Plain)
    module = problem.module()
    states.write(module, problem.init())
    refuse_other_answers(problem, module, problem.init())
    with pytest.raises(UserError, match="answers otherwise"):
        refuse_other_answers(problem, module, problem.init(1))


@pytest.mark.parametrize("network", ["RunningMean", "Counted"])
def test_lth_run_refuses_it_before_any_training(tmp_path: Path, network: str) -> None:
    plain = [word for word in SMALL if not word.startswith("model")]
    said = lth_run(
        *plain, "model=custom", f"model._target_=hiding.{network}", f"paths.outputs={tmp_path}"
    )
    assert said.status == 2
    assert "does not hold" in said.err
    assert "register_buffer" in said.err
    assert not (tmp_path / "store" / "entries").exists()
