"""F1 and Matthews' correlation of classes, from counts that add up over samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.values.ignored import IGNORED


def class_counts(outputs: Tensor, labels: Tensor) -> Tensor:
    """Counts true positives, predictions and labels of every class, by sample.

    A place's prediction is the class of its largest output. Returns int64 [3 * classes, samples];
    places of -100 are not counted.
    """
    num = outputs.shape[1]
    counted = (labels != IGNORED).unsqueeze(-1)
    true = F.one_hot(labels.clamp(min=0), num) * counted
    predicted = F.one_hot(outputs.argmax(1), num) * counted
    parts = true * predicted, predicted, true
    by_sample = [part.reshape(len(labels), -1, num).sum(1).t() for part in parts]
    return torch.cat(by_sample)


def f1(counts: Tensor) -> Tensor:
    """Computes 2 TP / (2 TP + FP + FN) of class 1 where there are two, else the mean over classes.

    A class that is neither predicted nor a label counts 0. ``counts`` are sums, or means, of
    ``class_counts``, [3 * classes].
    """
    hits, predicted, true = counts.view(3, -1)
    below = predicted + true
    each = torch.where(below > 0, 2 * hits / torch.where(below > 0, below, 1), 0)
    return each[1] if len(each) == 2 else each.mean()


def matthews(counts: Tensor) -> Tensor:
    """Computes the correlation of predicted and true classes, 0 where either is always the same.

    (c s - sum p t) / sqrt((s^2 - sum p^2) (s^2 - sum t^2)) with c of s places right, p predictions
    and t labels of each class. Matthews, BBA 1975; of several classes Gorodkin, Comput. Biol. Chem.
    2004.
    """
    hits, predicted, true = counts.view(3, -1)
    num = true.sum()
    above = hits.sum() * num - (predicted * true).sum()
    below = (num**2 - (predicted**2).sum()) * (num**2 - (true**2).sum())
    return torch.where(below > 0, above / torch.where(below > 0, below, 1).sqrt(), 0)


def linearised(parts: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """Computes what each sample adds to a smooth function of means over samples.

    T(m) + T'(m) (a_j - m) with m the mean of ``parts``, [parts, samples], whose mean is T(m): the
    delta method (van der Vaart, Asymptotic Statistics, 1998, chapter 3).
    """
    with torch.enable_grad():
        mean = parts.mean(1).requires_grad_()
        value = measure(mean)
        (slope,) = torch.autograd.grad(value, mean)
    return value.detach() + slope @ (parts - mean.detach()[:, None])
