"""Every shipped experiment, from its config to its rows, in three steps a training.

To its page where that has something of its own: a measure, a probe, controls, one round alone.
"""

from __future__ import annotations

import copy
import functools
import json
import math
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file

import pretrained
from command import lth_run, rows, without_pictures
from lth_runner.cli.check import resolve
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.launch import execute
from lth_runner.cli.signatures import check_targets
from lth_runner.parts.make import make
from lth_runner.store.ticket_file import read_ticket
from second_proofs import mostly_slow

# on data of their own, which need no download
OWN_DATA = {
    "diabetes_regression": "r2",
    "digits_segmentation": "accuracy",
    "chars_lm": "perplexity",
    "sst2_small": "accuracy",
    "minilm_lota": "accuracy",
    "minilm_partial_lora": "accuracy",
}
OF_IMAGES = {"resnet50_imagenet_imp", "deit_imagenet_imp"}  # of a folder, a small one here
OF_A_FOLDER = {"minilm_lota", "minilm_partial_lora"}  # of a pretrained model, a small one here
# of a pretrained model, which tests/test_language_oneshot.py makes itself
FOREIGN_MODEL = {"smollm2_oneshot"}
# of a model's folder, on a small one: tests/test_pretrained_tickets.py
PRETRAINED = {"minilm_sst2", "bert_base_glue", "bert_base_mlm"}
# starts from another run
FROM_RUN = {"pretrained_transfer"}
# one after the other: tests/test_ks_lottery.py
CIPHER = {"cipher_pretraining", "cipher_ks_lottery", "cipher_full"}
# round 0 learns the mask; the ticket is found at once
LEARNED = {"digits_strong", "resnet20_cs"}
AT_ONCE = {
    "minilm_lota", "minilm_partial_lora", "resnet20_cts", "lenet300_mnist_sanity",
    "lenet300_mnist_snip", "wide_resnet_rigl",
}  # fmt: skip
DERIVED = {"minilm_partial_lora"}  # the density is what a task needs
# what they are about
OWN_PROBES = {"lenet300_mnist_connectivity", "resnet20_connectivity"}
# quick enough for a control beside the ticket, and for all probes
LIGHT = {
    "digits_imp",
    "digits_strong",
    "resnet20_imp",
    "chars_lm",
    "sst2_small",
}
# pages are drawn once for each kind of search, measure and probe
DRAWN = {"digits_imp", "digits_strong", *OWN_DATA, *OWN_PROBES, "lenet300_mnist_snip"}


OTHERS = {*OWN_DATA, *OF_IMAGES, *FROM_RUN, *FOREIGN_MODEL, *PRETRAINED, *CIPHER}
# of images that a synthetic dataset stands for
IMAGES = sorted({path.stem for path in (conf_dir() / "experiment").glob("*.yaml")} - OTHERS)


def shape(experiment: str) -> str:
    """Returns the channels of an experiment's own data, and a side as small as is quick."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = compose("config", overrides=[f"+experiment={experiment}"])
    channels, side, _ = config.dataset.shape
    if channels > 1:
        side = 16 if config.model._target_.endswith(".vgg") else 8
    return f"[{channels},{side},{side}]"


def data_words(experiment: str, folder: Path) -> list[str]:
    """What makes an experiment's data small; no file of its own is needed."""
    if experiment in IMAGES:
        return ["dataset=synthetic", f"dataset.shape={shape(experiment)}", "dataset.subset=null"]
    if experiment in OF_IMAGES:
        photographs(folder)
        small = ["dataset.shape=[3,32,32]", "dataset.num_classes=2", "dataset.transforms=null"]
        return [f"dataset.root={folder}", *small]
    if experiment not in {"sst2_small", *OF_A_FOLDER}:
        return []
    for name in ("train", "dev", "test"):
        lines = [
            f"{number % 2}\t{'good' if number % 2 else 'bad'} {number}" for number in range(40)
        ]
        (folder / f"{name}.tsv").write_text("\n".join(["label\ttext", *lines]))
    found = [f"dataset.root={folder}"]
    if experiment in OF_A_FOLDER:
        model = pretrained.folder(folder / "model", head="", vocab_size=44)
        pretrained.words(folder / "model", [*map(str, range(40)), "good", "bad"])
        found += [f"model.path={model}", "dataset.vocabulary=44", "dataset.length=8"]
    return found


def photographs(folder: Path) -> None:
    """Writes a tree as ImageNet's is, of two classes."""
    from PIL import Image

    draws = numpy.random.default_rng(0)
    for split, num in (("train", 20), ("test", 4)):
        for kind in ("n01440764", "n01443537"):
            (folder / split / kind).mkdir(parents=True)
            for number in range(num):
                pixels = draws.integers(0, 256, (40, 50, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(folder / split / kind / f"{kind}_{number}.JPEG")


# the others are of the same parts; all are composed and checked in tests/test_conf.py
QUICK = {
    "conv2_cifar10_imp",
    "resnet20_imp",
    "lenet300_mnist_snip",
    "sst2_small",
    "minilm_lota",
}


@pytest.mark.parametrize(
    "experiment",
    mostly_slow((*IMAGES, *OWN_DATA, *OF_IMAGES), QUICK),
)
def test_an_experiment_trains_end_to_end(
    experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    controls = ["reinit"] if experiment in LIGHT else []
    overrides = [
        f"+experiment={experiment}",
        "+scale=smoke",
        *data_words(experiment, tmp_path),
        "train.shrink_to=3it",
        "train.batch_size=8",
        "max_samples=64",
        f"control=[{','.join(controls)}]",
        "record=local",
        "device=cpu",
        "threads=1",  # tests run side by side: more would wait for each other
        f"paths.outputs={tmp_path / 'outputs'}",
    ]
    if experiment in OWN_PROBES:
        overrides += [f"probe.instability_by_step.num_{what}" for what in ("points=3", "samples=8")]
    else:
        overrides.append(f"probe={'default' if experiment in LIGHT else 'none'}")
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        config = compose("config", overrides=overrides)

    threads = torch.get_num_threads()
    try:
        with nullcontext() if experiment in DRAWN else without_pictures():
            final = execute(config, f"lth-run +experiment={experiment}").value
    finally:
        torch.set_num_threads(threads)

    (folder,) = (tmp_path / "outputs" / experiment).iterdir()
    found = rows(folder / "rounds.jsonl")
    tickets = sorted((r for r in found if r["arm"] == "ticket"), key=lambda row: row["round"])
    short = experiment in LEARNED | AT_ONCE | OWN_PROBES  # the last are one-shot
    assert [row["round"] for row in tickets] == ([0, 1] if short else [0, 1, 2])
    densities = [row["density"] for row in tickets]
    if experiment in LEARNED:
        assert 0 < densities[0] == densities[1] < 1
    else:
        assert densities[0] == 1.0
        assert densities == sorted(set(densities), reverse=True)
        assert densities[-1] > (0 if experiment in DERIVED else 0.5)
    headline = f"test_{OWN_DATA.get(experiment, 'accuracy')}"
    assert all(math.isfinite(row[headline]) for row in found)
    assert final == tickets[-1][headline]
    assert {row["arm"] for row in found} == {"ticket", *controls}
    if experiment in OWN_PROBES:
        assert set(tickets[0]["instability_by_step"]) == {"0"}
    assert (folder / "curve.png").stat().st_size > 0
    assert ("<html" in (folder / "report.html").read_text()) == (experiment in DRAWN)
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


def test_a_run_starts_from_what_another_has_trained(tmp_path: Path) -> None:
    small = (
        "+scale=smoke", "train.shrink_to=3it", "probe=none", "record=local", "device=cpu",
        "threads=1", f"paths.outputs={tmp_path}",
    )  # fmt: skip
    first = lth_run("dataset=digits28", "name=first", "control=none", *small)
    assert first.status == 0, first.err
    words = ("+experiment=pretrained_transfer", f"origin.run={tmp_path}/first")
    second = lth_run(*words, *small)
    assert second.status == 0, second.err
    [folder] = (tmp_path / "pretrained_transfer").iterdir()
    [before] = (tmp_path / "first").iterdir()
    dense = next(row for row in rows(before / "rounds.jsonl") if row["round"] == 0)
    trained = load_file(tmp_path / "store/entries" / dense["training_key"] / "end.safetensors")
    ticket = read_ticket(folder / "tickets/round-00.safetensors")
    for name, value in ticket.weights.items():
        assert torch.equal(value, trained[f"weights.{name}"])


def swept(sweep: str) -> dict[str, list[str]]:
    found = yaml.safe_load((conf_dir() / "sweep" / f"{sweep}.yaml").read_text())
    params = found["hydra"]["sweeper"]["params"]
    return {key: str(values).split(",") for key, values in params.items()}


# in rounds, at once, before any training, while it is trained, and learned
EACH_KIND = {"imp", "one_shot", "iter_snip", "gradual", "rigl", "continuous", "concrete"}
SWEPT = [(sweep, pruner) for sweep in ("pruners", "families") for pruner in swept(sweep)["pruner"]]


@functools.cache
def with_pruner(pruner: str, *words: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("config", overrides=[*words, f"pruner={pruner}"])


@pytest.mark.slow
@pytest.mark.parametrize(("sweep", "pruner"), [*SWEPT, ("families", "concrete")])
def test_every_pruner_of_a_sweep_takes_its_sparsities_and_those_of_smoke_scale(
    sweep: str, pruner: str
) -> None:
    sparsity = float(swept(sweep)["pruner.sparsity"][-1])
    points = [(("+experiment=lenet300_mnist_pruners",), {"sparsity": sparsity})]
    if pruner in EACH_KIND:  # smoke scale over the defaults takes every pruner
        points.append((("+experiment=resnet20_imp", "+scale=smoke"), {"sparsity": None}))
    if pruner in EACH_KIND and sweep == "pruners":
        small = {"sparsity": sparsity, "rounds": None}
        points.append((("+experiment=lenet300_mnist_pruners", "+scale=smoke"), small))
    for words, values in points:
        config = copy.deepcopy(with_pruner(pruner, *words))
        config.pruner.update(values)
        plain = resolve(config)
        check_targets(plain)
        make(plain["pruner"]["search"])
        make(plain["pruner"]["masking"])


@pytest.mark.parametrize("sweep", ["pruners", "families"])
def test_a_sweep_of_pruners_changes_what_is_swept_alone(sweep: str) -> None:
    file = yaml.safe_load((conf_dir() / "sweep" / f"{sweep}.yaml").read_text())
    assert file.keys() == {"hydra"}
    assert swept(sweep).keys() == {"pruner", "pruner.sparsity"}
