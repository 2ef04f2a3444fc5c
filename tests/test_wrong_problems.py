"""Problems that do not fit: one message, exit status 2, and no training begun."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from command import lth_run, no_training
from lth_runner.problem.models import mlp

PARTS = """
import random

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import Dataset, IterableDataset

from lth_runner.problem.data import Data


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(4), 0


class Named(Dataset):
    def __init__(self, names=("left", "right")):
        self.names = names

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {name: torch.ones(4) * index for name in self.names}, index % 3


class Uneven(Named):
    def __getitem__(self, index):
        return torch.zeros(4 + index // 30), index % 3


class Both(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.output = nn.Linear(4, num_classes)

    def forward(self, left, right):
        return self.output(left + right)


def tokens(*, shape, num_classes):
    inputs = torch.arange(40)[:, None] % 9
    split = inputs, torch.arange(40) % num_classes
    return Data.from_tensors(split, split, validation=0.1)


class Words(nn.Module):
    def __init__(self, num_classes, rows=8):
        super().__init__()
        self.words = nn.Embedding(rows, 4)
        self.output = nn.Linear(4, num_classes)

    def forward(self, tokens):
        return self.output(self.words(tokens).mean(1))


class Normed(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.output = weight_norm(nn.Linear(64, num_classes))

    def forward(self, images):
        return self.output(images.flatten(1))


class OwnDice:
    looks = 0

    def __call__(self, image):
        self.looks += 1
        return image if self.looks % 8 else image + 1


class Halved:
    def __call__(self, image):
        return image[:, ::2]


class Widened:
    def __call__(self, image):
        return image.double()
"""
YAMLS = {  # which cannot be read, or composed
    "open": b"# @package _global_\nseed: [1\nname: : x\n",
    "twice": b"# @package _global_\nseed: 1\nseed: 2\n",
    "latin": b"name: caf\xe9\n",
    "absent": b"defaults:\n  - nowhere\n",
    "controls": b"# @package _global_\ndefaults:\n  - override /control: [reinit, reinit]\n",
}
RUN = (
    "+scale=smoke", "train=sgd", "probe=none", "device=cpu", "threads=1", "record=local",
    "name=wrong",
)  # fmt: skip
DIGITS = ("control=none", "model=mlp", "model.widths=[8]")
DIABETES = ("control=none", "dataset=diabetes", "model=mlp", "model.num_classes=1")
REGRESSION = (*DIABETES, "objective=regression")
SCENES = (
    "control=none", "dataset=digit_scenes", "model=unet", "dataset.num_train=40",
    "dataset.num_test=40", "train.batch_size=8",
)  # fmt: skip
OWN = (
    "control=none", "dataset=custom", "dataset.train._target_=wrongparts.Named",
    "dataset.test._target_=wrongparts.Named", "dataset.num_classes=3", "model=custom",
    "model._target_=wrongparts.Both", "~model.shape",
)  # fmt: skip
TOKENS = (
    "control=none", "dataset=tokens", "model=custom",
    "model._target_=wrongparts.Words", "~model.shape",
)  # fmt: skip
NORMED = ("control=none", "model=custom", "model._target_=wrongparts.Normed")
DELTA = (*DIGITS, "coordinates=delta")


def names(*given: str) -> tuple[str, ...]:
    return tuple(f"+dataset.{split}.names=[{','.join(given)}]" for split in ("train", "test"))


def transform(of: str) -> tuple[str, ...]:
    at = "dataset.augment"
    return (
        f"+{at}._target_=lth_runner.problem.data.Transforms",
        f"+{at}.transform._target_=wrongparts.{of}",
    )


@pytest.fixture(scope="module", autouse=True)
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the parts above, and files of weights that do not fit."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrongparts.py").write_text(PARTS)
    (folder / "mine/dataset").mkdir(parents=True)
    option = "_target_: wrongparts.tokens\nnum_classes: 3\nshape: [1]\n"
    (folder / "mine/dataset/tokens.yaml").write_text(option)
    (folder / "mine/own").mkdir()
    for name, content in YAMLS.items():
        (folder / f"mine/own/{name}.yaml").write_bytes(content)
    held = mlp(shape=[1, 8, 8], num_classes=10, widths=[8]).state_dict()
    save_file({n: v for n, v in held.items() if n != "linear1.bias"}, folder / "lacks.safetensors")
    save_file(held | {"pooler": torch.zeros(2)}, folder / "exceeds.safetensors")
    other = mlp(shape=[1, 8, 8], num_classes=7, widths=[8]).state_dict()
    save_file(other, folder / "other.safetensors")
    whole = (folder / "exceeds.safetensors").read_bytes()
    (folder / "torn.safetensors").write_bytes(whole[:-20])
    before = Path.cwd()
    os.chdir(folder)
    sys.modules.pop("wrongparts", None)
    yield folder
    os.chdir(before)
    sys.modules.pop("wrongparts", None)


CASES = {
    "images' transforms of data that are none": (
        (*REGRESSION, "+augment=cutout"),
        r"dataset\.augment is .*samples are no images",
    ),
    "data without classes and nothing said of them": (
        ("dataset=diabetes", "model=mlp"),
        r"these data have none: objective=regression",
    ),
    # targets and objectives
    "classes as numbers": (
        (*DIGITS, "objective=regression"),
        "need floating-point targets, not int64",
    ),
    "classes as labels": (
        (*DIGITS, "objective=multi_label"),
        "needs targets of 0.0 and 1.0, not int64",
    ),
    "classes as tokens": (
        (*DIGITS, "objective=next_token"),
        r"needs token numbers .samples, length",
    ),
    "numbers as classes": (DIABETES, "needs class numbers .int64. as targets, not float32"),
    "numbers as labels": ((*DIABETES, "objective=multi_label"), "these have other values"),
    "numbers as tokens": ((*DIABETES, "objective=next_token"), "needs token numbers"),
    "pixels as numbers": ((*SCENES, "objective=regression"), "need floating-point targets"),
    "pixels as labels": ((*SCENES, "objective=multi_label"), "needs targets of 0.0 and 1.0"),
    "pixels as tokens": ((*SCENES, "objective=next_token"), "needs token numbers"),
    "two answers for one number": (
        (*REGRESSION, "model.num_classes=2"),
        r"answers with shape \(2,\) .* targets have \(1,\)",
    ),
    "one answer for all pixels": (
        (*SCENES, "model=mlp"),
        r"answers with shape \(10,\).*must have the shape \(10, 16, 16\)",
    ),
    "pixels for one class": (
        ("control=none", "model=unet"),
        r"shape \(10, 8, 8\).*must have the shape \(10,\)",
    ),
    # inputs and models
    "a name too few": ((*OWN, *names("left")), "forward needs right, but the data give left"),
    "a name too many": ((*OWN, *names("left", "right", "up")), "forward takes no 'up'"),
    "a name mistyped": ((*OWN, *names("left", "rihgt")), "no 'rihgt': did you mean right"),
    "token numbers beyond the embedding": (TOKENS, "largest token number is 8, .* has 8 rows"),
    # origins
    "no file": ((*DIGITS, "origin=file", "origin.path=none"), "no such file or folder of weights"),
    "a torn file": (
        (*DIGITS, "origin=file", "origin.path=torn.safetensors"),
        "is no safetensors file",
    ),
    "names that lack": (
        (*DIGITS, "origin=file", "origin.path=lacks.safetensors"),
        r"lacks linear1\.bias: name them in origin\.fresh",
    ),
    "names besides": (
        (*DIGITS, "origin=file", "origin.path=exceeds.safetensors"),
        r"has pooler, which the network has not.*origin\.unused",
    ),
    "other shapes": (
        (*DIGITS, "origin=file", "origin.path=other.safetensors"),
        r"output\.\w+ has shape \(7.*the network's has \(10.*origin\.fresh",
    ),
    "no run": ((*DIGITS, "origin=run", "origin.run=none"), "origin.run=none is no run folder"),
    "no path": ((*DIGITS, "origin=file"), "origin.path is not set"),
    "classes last": (
        ("model=causal_transformer", "dataset=characters", "max_samples=8"),
        r"of \(32,\) \(objective=next_token",
    ),
    # covers
    "covers nothing": ((*DIGITS, "covers.also=[nothing]"), "covers.also: 'nothing' matches no"),
    "covers no kind": ((*DIGITS, "covers.types=[linera]"), "'linera': did you mean linear"),
    "covers an empty list": ((*DIGITS, "covers.types=[]"), "nothing can be pruned"),
    "covers a computed tensor": (
        (*NORMED, "covers.only=[output.weight]"),
        "computes from other tensors.*original0",
    ),
    "only and also": (
        (*DIGITS, "covers.only=[output]", "covers.also=[linear1]"),
        "give one of them",
    ),
    # coordinates
    "a Gaussian without a width": (
        (*DIGITS, "coordinates=gaussian", "coordinates.initial_std=0"),
        "coordinates.initial_std=0.*from 1e-09",
    ),
    "layers computed again by other draws": (
        (*DIGITS, "coordinates=gaussian", "train.recompute=true"),
        "train.recompute=true.*other draws",
    ),
    "a score of widths on numbers": (
        (*DIGITS, "pruner=signal_to_noise"),
        "of no width: take coordinates=gaussian",
    ),
    "other data of another shape": (
        (
            *DIGITS,
            "probe=calibration",
            "+dataset@probe.calibration.other=synthetic",
            "probe.calibration.other.shape=[1,5,5]",
        ),
        "probe.calibration.other.*5, 5.*8, 8",
    ),
    "deltas of nothing": ((*DELTA, "coordinates.only=[nope]"), "coordinates.only: 'nope' matches"),
    "deltas of a base unknown": (
        (*DELTA, "coordinates.base=bf15"),
        "coordinates.base='bf15'.*bf16",
    ),
    "deltas of an empty list": ((*DELTA, "coordinates.only=[]"), "coordinates.only is empty"),
    "whole that is nothing": (
        (*DELTA, "coordinates.only=[linear1]", "coordinates.whole=[nope]"),
        "coordinates.whole: 'nope' matches",
    ),
    "whole with a delta": (
        (*DELTA, "coordinates.only=[linear1]", "coordinates.whole=[linear1.bias]"),
        "both name linear1.bias",
    ),
    "deltas and covers": (
        (*DELTA, "coordinates.only=[linear1]", "covers.only=[output]"),
        "says itself what a mask covers: leave covers at its default",
    ),
    "deltas and biases": (
        (*DELTA, "coordinates.only=[linear1]", "pruner.biases=true"),
        "leave pruner.biases out",
    ),
    "deltas scored where all are 0": (
        (*DELTA, "coordinates.only=[linear1]", "pruner=snip"),
        "every weight has the score 0",
    ),
    # data sets and transforms
    "no length": ((*OWN, "dataset.train._target_=wrongparts.Endless"), "Endless has no length"),
    "samples that do not stack": (
        (
            "control=none",
            "dataset=custom",
            "dataset.train._target_=wrongparts.Uneven",
            "dataset.test._target_=wrongparts.Uneven",
            "dataset.num_classes=3",
            "dataset.shape=[4]",
            "model=mlp",
        ),
        r"sample 30 is .*\(5,\).*padding",
    ),
    "a transform with dice of its own": (
        (*DIGITS, *transform("OwnDice")),
        "OwnDice gives another image under the same seed",
    ),
    "a transform of another shape": (
        (*DIGITS, *transform("Halved")),
        r"makes torch.uint8, \(1, 4, 8\) of an image",
    ),
    "a transform of another type": ((*DIGITS, *transform("Widened")), "makes torch.float64"),
    "pixels that move from their targets": (
        (
            *SCENES,
            "+dataset.augment._target_=lth_runner.problem.data.FlipCrop",
            "+dataset.augment.flip=true",
        ),
        "moves pixels, but targets",
    ),
    "a null that is followed": ((*DIABETES[:3], "objective=regression"), "set model.num_classes"),
    # what numbers and named inputs have not
    "smoothed numbers": (
        (*REGRESSION, "train.label_smoothing=0.1"),
        "SquaredError has no class labels to smooth",
    ),
    "random labels for numbers": (
        (*REGRESSION, "control=random_data"),
        "control.random_data with corrupt=labels needs",
    ),
    "a kernel of numbers": ((*REGRESSION, "probe=kernel"), "probe.kernel.* class number each"),
    "wrong answers of numbers": ((*REGRESSION, "probe=capacity"), "probe.capacity.* class number"),
    "samples of each class of numbers": ((*REGRESSION, "pruner=grasp"), "samples of each class"),
    "probabilities of numbers": (
        (*REGRESSION, "pruner=obd"),
        "estimator=ggn .hutchinson does without. needs",
    ),
    "divergence of numbers": (
        (*REGRESSION, "pruner=concrete"),
        "reverse_kl .*compares the probabilities of classes",
    ),
    "flow through named inputs": ((*OWN, "pruner=synflow"), "SynFlow, .* inputs that are plain"),
    "paths from named inputs": ((*OWN, "probe=paths"), "follows paths from plain inputs"),
    "signal from named inputs": ((*OWN, "probe=signal"), "predicts the layers' signal"),
    "random labels of named inputs": ((*OWN, "control=random_data"), "samples in memory"),
    "a kernel of pixels": ((*SCENES, "probe=kernel"), "CrossEntropy on digit_scenes. has none"),
    "flow through tokens": (
        (*TOKENS, "+model.rows=9", "pruner=synflow"),
        "SynFlow, .* inputs that are plain",
    ),
    # options beside one another, and yaml of one's own
    "a control twice": (
        (*DIGITS[1:], "control=[reinit,reinit]"),
        r"control=\[reinit,reinit\] names reinit twice",
    ),
    "a probe twice": (
        (*DIGITS, "probe=[signs,signs]"),
        r"probe=\[signs,signs\] names signs twice",
    ),
    "none beside a control": (
        (*DIGITS[1:], "control=[none,reinit]"),
        r"none stands alone: give control=none or control=\[reinit\]",
    ),
    "a control twice in a yaml": (
        (*DIGITS[1:], "+own=controls"),
        r"control=\[reinit,reinit\] names reinit twice",
    ),
    "a yaml with a bracket left open": (
        (*DIGITS, "+own=open"),
        r"a yaml file cannot be read: .*open\.yaml., line 2",
    ),
    "a yaml with a key twice": ((*DIGITS, "+own=twice"), r"duplicate key seed .*twice\.yaml"),
    "a yaml in Latin-1": ((*DIGITS, "+own=latin"), "a yaml file is not written in UTF-8"),
    "a yaml with defaults that are nowhere": ((*DIGITS, "+own=absent"), "own.*nowhere"),
    "no probe at all": ((*DIGITS, "probe=null"), "a group cannot be null"),
    # tolerance
    **{
        f"a tolerance of {text}": ((*DIGITS, f"report.tolerance={text}"), "report.tolerance=.*2%")
        for text in ("two", "-2%", "110%", "nan", "true")
    },
}


@pytest.mark.parametrize(("words", "says"), CASES.values(), ids=CASES.keys())
def test_a_problem_that_does_not_fit_is_told_before_training(
    words: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    own = {"dataset=tokens", "+own"} & {word for w in words for word in (w, w.partition("=")[0])}
    mine = ("--config-dir", "mine") if own else ()
    with no_training():
        said = lth_run(*RUN, *words, f"paths.outputs={tmp_path}", *mine)
    assert said.status == 2, said.err
    [message] = [line for line in said.err.splitlines() if "warning:" not in line and line]
    assert message.startswith("error: ")
    assert re.search(says, message), message
    assert not list(tmp_path.glob("*/*/rounds.jsonl"))


def test_a_sweep_over_a_group_says_how_to_set_a_key_that_its_default_has_not(
    tmp_path: Path,
) -> None:
    words = ("-m", "pruner=rigl,set", f"paths.outputs={tmp_path}", *RUN, *DIGITS)
    said = lth_run(*words, "pruner.fraction=0.5")
    assert said.status == 2
    assert "write ++pruner.fraction=..." in said.err
    with no_training():
        cured = lth_run(*words, "++pruner.fraction=5", f"hydra.sweep.dir={tmp_path}/sweep")
    assert cured.err.count("error: pruner.fraction=5 is a share") == 2  # both options have the key
