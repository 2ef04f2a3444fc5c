"""The tangent kernel of the kept weights: by hand, by explicit Jacobians, and its laws."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch

import small
from finished import chain_task, random_mask, unchanged
from lth_runner.probe import TangentKernel, kernel
from lth_runner.probe.kernel import (
    effective_rank,
    eigenvalues,
    label_alignment,
    parts,
    tangent_kernel,
)
from lth_runner.probe.reference import sample
from lth_runner.search.ticket import Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

EYE = torch.eye(3)


def explicit(task, weights, mask, inputs, along):
    """J J^T from one backward per logit."""
    weights = {n: w.double() if w.is_floating_point() else w for n, w in weights.items()}
    leaves = [weights[name].requires_grad_() for name in mask]
    home = type(task)(lambda: task.model().double(), task.data)
    rows = []
    for x in inputs.double():
        for direction in along.double():
            logit = home.outputs(weights, x[None])[0] @ direction
            found = torch.autograd.grad(logit, leaves)
            rows.append(torch.cat([g[mask[n]] for n, g in zip(mask, found, strict=True)]))
    jacobian = torch.stack(rows)
    return (jacobian @ jacobian.T).detach()


def test_a_linear_networks_kernel_is_worked_out_by_hand():
    task = chain_task(2, 2)
    inputs = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    mask = Mask({"0.weight": torch.tensor([[True, True], [False, True]])})
    weights = {"0.weight": torch.ones(2, 2)}
    # rows (input, class); class 0 sees both inputs, class 1 the second alone
    full = tangent_kernel(task, weights, mask, inputs, torch.eye(2))
    assert full.tolist() == [[5, 0, 1, 0], [0, 4, 0, -2], [1, 0, 10, 0], [0, -2, 0, 1]]
    summed = tangent_kernel(task, weights, mask, inputs, torch.full((1, 2), 0.5**0.5))
    assert summed.flatten().tolist() == pytest.approx([4.5, -0.5, -0.5, 5.5])


@pytest.mark.parametrize("limit", [600, 2**25])
@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
def test_it_is_the_product_of_explicit_jacobians_whatever_the_block(model, limit):
    task = small.task(model=model)
    mask, inputs = random_mask(task, 0.3), sample(task, 4)[0]
    weights = mask(task.init())
    with mock.patch.object(kernel, "LIMIT", limit):
        found = tangent_kernel(task, weights, mask, inputs, EYE)
    assert torch.allclose(found, explicit(task, weights, mask, inputs, EYE), rtol=1e-9)


def test_parts_hold_every_kept_position_once_and_no_more_than_asked():
    mask = random_mask(small.task(), 0.4)
    found = list(parts(mask, 17))
    assert all(sum(map(len, part.values())) == 17 for part in found[:-1])
    for name, kept in mask.items():
        together = torch.cat([part[name] for part in found if name in part])
        assert together.tolist() == kept.flatten().nonzero().squeeze(1).tolist()


def test_kernels_of_a_mask_and_of_the_rest_add_up_to_the_whole():
    task = small.task()
    weights, mask, inputs = task.init(), random_mask(task, 0.3), sample(task, 6)[0]
    one, rest, whole = (
        tangent_kernel(task, weights, which, inputs, EYE) for which in (mask, ~mask, task.dense())
    )
    assert torch.allclose(one + rest, whole)


def test_eigenvalues_ranks_and_alignment_of_known_kernels():
    assert eigenvalues(torch.diag(torch.tensor([1.0, 3.0, -1e-9]))).tolist() == [3, 1, 0]
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert effective_rank(torch.tensor([5.0, 0.0])) == pytest.approx(1)
    assert effective_rank(torch.zeros(3)) == 0
    labels = torch.tensor([0, 1, 1, 0])
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    for matrix in (torch.outer(sign, sign), torch.eye(4).double(), torch.ones(4, 4).double()):
        plain = sign @ matrix @ sign / (matrix.norm() * 4)
        assert label_alignment(matrix, labels, 2) == pytest.approx(float(plain))
        # (K, K kron I): the same but for the norm of I
        spread = torch.kron(matrix, torch.eye(2).double())
        assert label_alignment(spread, labels, 2) == pytest.approx(float(plain) / 2**0.5)
    assert math.isnan(label_alignment(torch.zeros(4, 4).double(), labels, 2))


@pytest.mark.parametrize("outputs", ["sum", "full"])
def test_the_probe_compares_with_the_dense_spectrum(outputs):
    task = small.task()
    probe = TangentKernel(num_inputs=8, outputs=outputs, num_eigenvalues=4)
    weights, mask = task.init(), random_mask(task, 0.2)
    dense, ticket = unchanged(task.dense(), weights), unchanged(mask, weights)
    first, second = dict(probe(task, [], dense)), dict(probe(task, [dense], ticket))
    assert first["ntk_spectrum_distance"] == 0
    values = [eigenvalues(probe.kernel(task, one.ticket)) for one in (dense, ticket)]
    distance = (values[0] - values[1]).norm() / values[0].norm()
    assert second["ntk_spectrum_distance"] == pytest.approx(float(distance))
    assert second["ntk_eigenvalues_curve"] == pytest.approx(values[1][:4].tolist())
    assert second["ntk_trace"] == pytest.approx(float(values[1].sum()))
    assert 1 <= second["ntk_effective_rank"] <= len(values[1])
    assert 0 <= second["ntk_label_alignment"] <= 1


def test_the_point_may_be_the_dense_one_and_the_kept_weights_still_decide():
    task = small.task()
    mask, weights = random_mask(task, 0.3), task.init()
    at_masked, at_dense = (
        TangentKernel(num_inputs=6, at=at).kernel(task, Ticket(mask, weights))
        for at in ("masked", "dense")
    )
    inputs, along = sample(task, 6)[0], torch.full((1, 3), 3**-0.5)
    assert torch.equal(at_dense, tangent_kernel(task, weights, mask, inputs, along))
    assert not torch.allclose(at_masked, at_dense)


def test_a_search_without_a_dense_training_has_no_distance():
    task = small.task()
    ticket = unchanged(random_mask(task, 0.3), task.init())
    assert "ntk_spectrum_distance" not in dict(TangentKernel(num_inputs=4)(task, [], ticket))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"outputs": "all"}, "sum or full"),
        ({"at": "init"}, "masked or dense"),
        ({"num_inputs": 0}, "num_inputs"),
    ],
)
def test_unknown_options_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        TangentKernel(**options)
