"""All of conf/: every file composes, and every experiment is what its header says."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from command import parts_of
from lth_runner.cli.check import EXAMPLES, resolve
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.signatures import check_targets
from lth_runner.cli.study_plan import read_study, set_by_scale
from lth_runner.parts.make import make
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.steps import Duration
from second_proofs import mostly_slow

CONF = conf_dir()
FILES = sorted(CONF.rglob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
# their masks are found within one training: no rounds of pruning
FOUND = {"digits_strong", "resnet20_cs", "resnet20_cts", "cipher_ks_lottery"}
# masks before training: one round, however many are asked for
AT_ONCE = {
    "lenet300_mnist_sanity", "lenet300_mnist_snip", "minilm_lota", "minilm_partial_lora",
    "cipher_pretraining", "cipher_full", "wide_resnet_rigl",
}  # fmt: skip
FROM_FOLDER = {  # of a model that is not there
    "minilm_lota", "minilm_partial_lora", "minilm_sst2", "bert_base_glue", "bert_base_mlm",
}  # fmt: skip
ONE_SHOT = {"lenet300_mnist_connectivity", "resnet20_connectivity"}
BAYESIAN = {"mean_magnitude", "signal_to_noise", "mean_square", "lexicographic"}
# pruners that train in between
IN_ROUNDS = {"imp", "imp_linear", "imp_tree", "random", "han2015", "obd", *BAYESIAN}
# of a model that comes with nothing here
FOREIGN_MODEL = {"smollm2_oneshot"}
ITERATIVE = [name for name in EXPERIMENTS if name not in FOUND | FOREIGN_MODEL]
DEFAULT_GROUPS = {
    group.removeprefix("override ")
    for entry in yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    if isinstance(entry, dict)
    for group in entry
} | {"train/learning_rate", "dataset/tokenizer"}
# what an option leaves to its user
NEEDED = {
    "model=custom": ["model._target_=lth_runner.problem.models.lenet300"],
    "model=torchvision": ["model.name=resnet18"],
    "model=hf": ["model.path=minilm"],
    "rewind=partial": ["rewind.only=[output]"],
    "model=transformer": ["dataset=text"],
    "model=causal_transformer": ["dataset=characters"],
    "model=masked_transformer": ["dataset=masked_characters"],
    "dataset=text": ["model=transformer"],
    "dataset=sst2": ["model=transformer"],
    "dataset=trec": ["model=transformer"],
    "dataset=characters": ["model=causal_transformer"],
    "dataset=masked_characters": ["model=masked_transformer"],
    "dataset=cipher_records": ["model=causal_transformer"],
    "dataset=cipher_answers": ["model=causal_transformer"],
    "dataset=corpus": ["model=causal_transformer", "dataset.tokenizer.path=tokenizer.json"],
    "dataset=masked_corpus": ["model=masked_transformer", "dataset.tokenizer.path=tokenizer.json"],
    **{
        f"dataset/tokenizer={name}": ["dataset=text", "model=transformer"]
        for name in ("words", "characters", "bytes")
    },
    "dataset/tokenizer=file": [
        "dataset=text",
        "model=transformer",
        "dataset.tokenizer.path=tokenizer.json",
    ],
    "dataset=glue": [
        "model=transformer",
        "dataset.task=sst2",
        "dataset.tokenizer.path=tokenizer.json",
    ],
    "dataset=hf": [
        "model=transformer",
        "dataset.path=saved",
        "dataset.tokenizer.path=tokenizer.json",
    ],
    "dataset=squad": [
        "model=transformer",
        "model.num_classes=2",
        "dataset.tokenizer.path=tokenizer.json",
    ],
    "dataset=tagged": [
        "model=transformer",
        "dataset.tokenizer.path=tokenizer.json",
    ],
    "dataset=custom": [
        "dataset.train._target_=builtins.list",
        "dataset.test._target_=builtins.list",
        "dataset.shape=[4]",
        "dataset.num_classes=2",
    ],
    "dataset=diabetes": ["model.num_classes=1"],
    "dataset=hf_images": ["dataset.path=saved"],
    "dataset=token_files": ["model=causal_transformer"],
    "+dataset/transforms=imagenet": ["dataset=imagefolder"],
    "pruner=given": ["pruner.ticket=outputs/first"],
    "+pruner/rename=open_lth_mnist_lenet": ["pruner=given", "pruner.ticket=mask.pth"],
    "+pruner/rename=open_lth_cifar_resnet_20": ["pruner=given", "pruner.ticket=mask.pth"],
    "dataset=weight_flow": ["dataset.run=outputs/first", "model=velocity"],
    "model=velocity": ["dataset=weight_flow", "dataset.run=outputs/first"],
    "origin=generated": ["origin.run=outputs/first"],
    "origin=file": ["origin.path=model.safetensors"],
    "origin=run": ["origin.run=outputs/first"],
    "probe=retention": ["origin=run", "origin.run=outputs/first"],
    "origin=torchvision": ["origin.name=resnet18"],
    "origin=hf": ["origin.path=minilm"],
    **{
        f"+study={name}": ["model=hf", "model.path=minilm"]
        for name in (
            "forgetting",
            "merge",
            "minilm_tickets",
            "minilm_rewinding",
            "bert_transfer",
            "minilm_transfer",
            "partial_lora",
        )
    },
    "+experiment=pretrained_transfer": ["origin.run=outputs/mnist_first"],
    "+experiment=cipher_ks_lottery": ["origin.run=outputs/cipher_pretraining"],
    "+experiment=cipher_full": ["origin.run=outputs/cipher_pretraining"],
    "+experiment=smollm2_oneshot": ["model.path=smollm2"],
    **{f"+experiment={name}": ["model.path=minilm"] for name in sorted(FROM_FOLDER)},
}
APART = {
    "pruner", "control", "probe", "record", "augment", "covers", "train/learning_rate",
    "dataset/transforms",
}  # fmt: skip
# of masked_corpus any text of one's own, whose trainings are counted in steps
PUBLISHED_TRAIN = {
    "mnist": 60000, "cifar10": 50000, "sst2": 6920, "glue_mnli": 392702, "masked_corpus": 100000,
    "imagenet": 1281167,
}  # fmt: skip
WITH_VALIDATION = {"sst2"}  # whose validation samples are a file of their own


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return compose("config", overrides=list(overrides))


@functools.cache  # half of the tests look at the same experiments: read it, change nothing
def resolved(*overrides: str) -> Mapping[str, Any]:
    given = {word.partition("=")[0] for word in overrides}
    needed = [word for option in overrides for word in NEEDED.get(option, [])]
    missing = [word for word in needed if word.partition("=")[0] not in given]
    plain = resolve(composed(*overrides, *missing))
    check_targets(plain)
    return plain


def own(experiment: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())


def header(experiment: str) -> list[str]:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    return lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]


def field(experiment: str, name: str) -> str:
    """A header field with the lines that go on from it, indented by two."""
    text = "\n".join(header(experiment))
    found = re.search(rf"^# {name}[^:\n]*: ?(.*(?:\n#   .*)*)", text, re.MULTILINE)
    assert found, f"{experiment} has no line '# {name}: ...'"
    return re.sub(r"\s*\n#\s+", " ", found[1])


def options() -> list[tuple[str, ...]]:
    """Every option, together with those of groups that have nothing to do with its own."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        group = path.relative_to(CONF).parent.as_posix()
        if group.split("/")[0] not in (".", "hydra", "skeleton", "study"):  # it is runs
            word = f"{'' if group in DEFAULT_GROUPS else '+'}{group}={path.stem}"
            found.setdefault(group, []).append(word)
    alone = [(word,) for group in found.keys() - APART for word in found[group]]
    together = zip_longest(*(found[group] for group in sorted(APART)))
    return sorted(alone) + [tuple(filter(None, words)) for words in together]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}.{p.stem}")
def test_every_file_is_a_yaml_mapping(path: Path) -> None:
    assert isinstance(OmegaConf.load(path), DictConfig)


@pytest.mark.parametrize("words", options(), ids=" ".join)
def test_every_option_composes_with_the_defaults_and_fits_its_signature(words: list[str]) -> None:
    plain = resolved(*words)
    assert plain["pruner"]["search"]["_target_"]


@pytest.mark.parametrize("option", [one for one in NEEDED if not one.startswith("dataset/")])
def test_an_option_that_needs_a_value_is_refused_without_it(option: str) -> None:
    with pytest.raises(UserError):
        parts_of(composed(option))


def test_the_defaults_are_digits_imp() -> None:
    alone = parts_of(composed()).run_id
    assert parts_of(composed("+experiment=digits_imp")).run_id == alone
    assert parts_of(composed("+experiment=digits_imp", "seed=1")).run_id != alone


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_opens_with_paper_command_cost_and_expectation(experiment: str) -> None:
    assert header(experiment)[0] == "# @package _global_"
    assert re.search(r"arXiv:\d{4}\.\d{5}", field(experiment, "Paper"))
    assert f"lth-run +experiment={experiment}" in field(experiment, "Command")
    assert re.search(r"hours: not measured|ms a step", field(experiment, "Cost"))
    assert field(experiment, "Expected")
    assert all(len(line) <= 100 for line in header(experiment))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_is_named_after_its_file(experiment: str) -> None:
    assert resolved(f"+experiment={experiment}")["name"] == experiment


@pytest.mark.parametrize("experiment", ITERATIVE)
def test_an_experiment_costs_the_steps_that_its_header_says(experiment: str) -> None:
    plain = resolved(f"+experiment={experiment}")
    dataset, recipe = plain["dataset"], make(plain["train"])
    search = make(plain["pruner"]["search"])
    published = PUBLISHED_TRAIN.get(dataset["name"])
    held = 0 if dataset["name"] in WITH_VALIDATION else dataset["validation"]
    taken = dataset.get("subset") or (published - held if published else None)
    num_train = taken or make(dataset).num_train
    clock = recipe.clock(num_train // recipe.batch_size)
    pruned = (search.num_rounds - 1) * (1 + len(plain["control"]))
    steps = clock.total + pruned * (clock.total - search.rewind.at(clock))
    num_trainings, num_steps = (plain["replicates"] * n for n in (1 + pruned, steps))
    said = f"{num_trainings} trainings, {num_steps:,} steps in all"
    assert field(experiment, "Cost").startswith(said)
    warmup = clock.steps(Duration.parse(recipe.warmup), "train.warmup")
    assert recipe.rate(0, clock) == pytest.approx(1 / max(1, warmup))
    rates = plain["train"]["learning_rate"]
    last = rates["factor"] ** len(rates["drops"]) if "drops" in rates else rates.get("final", 1.0)
    assert recipe.rate(clock.total - 1, clock) == pytest.approx(
        last, abs=max(1e-3, 1.01 / clock.total)
    )


WITH_DENSITIES = [one for one in ITERATIVE if one not in FROM_FOLDER]
LARGE = {
    "vgg16_imp", "vgg19_imp", "conv2_cifar10_imp", "conv4_cifar10_imp", "resnet50_imagenet_imp",
    "deit_imagenet_imp",
}  # fmt: skip


@pytest.mark.parametrize(
    "experiment", mostly_slow(WITH_DENSITIES, [one for one in WITH_DENSITIES if one not in LARGE])
)
def test_an_experiment_has_the_densities_that_its_header_says(experiment: str) -> None:
    said = re.fullmatch(r"([\d., ]+) % after rounds ([\d, ]+)\.", field(experiment, "Density"))
    assert said
    plain = resolved(f"+experiment={experiment}")
    search, model = make(plain["pruner"]["search"]), make(plain["model"])
    parameters = dict(model.named_parameters())
    names = make(plain["covers"]).names(model)
    dense = Mask({name: torch.ones_like(parameters[name], dtype=torch.bool) for name in names})
    scores = {name: parameters[name].detach().abs() for name in names}
    rounds = [int(number) for number in said[2].split(", ")]
    assert rounds[-1] == search.num_rounds - 1
    # counts depend on the density alone, so each round may start from the dense mask
    densities = [search.schedule()[number - 1] for number in rounds]
    reached = [search.allocate(scores, density, dense, 0).density for density in densities]
    assert [f"{100 * density:.1f}" for density in reached] == said[1].split(", ")


@pytest.mark.parametrize("experiment", mostly_slow(EXPERIMENTS, EXPERIMENTS[::4]))
def test_smoke_scale_and_a_rewind_preset_hold_over_an_experiment(experiment: str) -> None:
    preset = "finetune" if EXPERIMENTS.index(experiment) % 2 else "renda_wr"
    alone = resolved(f"rewind={preset}")["rewind"]
    kept = own(experiment).get("rewind", {})
    behind = resolved(f"+experiment={experiment}", f"rewind={preset}", "+scale=smoke")
    assert behind["rewind"] == alone | kept
    # whose files tell to give rewind.step with it, search at that step, or train tickets faster
    assert not kept or experiment in {
        "vgg16_imp", "vgg19_imp", "resnet20_cs", "resnet20_cts", "chars_lm", "minilm_lota",
        "vit_cifar10_imp", "resnet50_imagenet_imp", "deit_imagenet_imp",
    }  # fmt: skip
    assert behind["replicates"] == 1
    assert behind["train"]["shrink_to"] == "20it"
    in_rounds = experiment in set(ITERATIVE) - AT_ONCE - ONE_SHOT
    assert make(behind["pruner"]["search"]).num_rounds == (3 if in_rounds else 2)


def test_every_key_that_is_left_to_the_user_has_an_example() -> None:
    left = set()
    for path in FILES:
        group = path.parent.relative_to(CONF).as_posix().replace("/", ".")
        found = yaml.safe_load(path.read_text())
        if group != "skeleton":
            left |= {f"{group}.{key}" for key, value in leaves(found) if value == "???"}
    assert left == set(EXAMPLES)


def leaves(node: Any) -> list[tuple[str, Any]]:
    below = ((k, leaves(v)) if isinstance(v, dict) else (k, [("", v)]) for k, v in node.items())
    return [(f"{key}.{path}".rstrip("."), value) for key, own in below for path, value in own]


PRUNERS = sorted(path.stem for path in (CONF / "pruner").glob("*.yaml"))
SCOPES = ("global", "layerwise", "er", "channels", "deviation", "n_of_m", "rows", "blocks")


# in rounds, by step, at once, given, while it trains
EACH_KIND = {"imp", "imp_linear", "one_shot", "snip", "given", "rigl", "concrete"}


@pytest.mark.parametrize("pruner", mostly_slow(PRUNERS, EACH_KIND))
def test_smoke_scale_takes_every_pruner_and_every_sparsity(pruner: str) -> None:
    config = composed(f"pruner={pruner}", *NEEDED.get(f"pruner={pruner}", []), "+scale=smoke")
    scopes = SCOPES if pruner in ("imp", "one_shot") else (None,)
    for sparsity in (None, 0.75):
        for scope in () if pruner in ("given", "ks_lottery") else scopes:
            small = copy.deepcopy(config)
            small.pruner.sparsity = sparsity
            if scope is not None:
                small.pruner.scope = scope
            plain = resolve(small)
            check_targets(plain)
            search, masking = (make(plain["pruner"][name]) for name in ("search", "masking"))
            assert search.num_rounds == (3 if pruner in IN_ROUNDS else search.num_rounds) <= 3
            parts = [part for part in (search, masking) if hasattr(part, "schedule")]
            ends = [part.schedule()[-1] for part in parts if part.schedule is not None]
            removed = (
                0.4 if pruner == "imp_linear" else 0.36
            )  # twice a fifth of all, or of the rest
            assert ends == pytest.approx([1 - (sparsity or removed)] * len(ends))
    assert pruner != "one_shot" or search.num_rounds == 2


STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))


@pytest.mark.parametrize("study", mostly_slow(STUDIES, {"transfer", "digits_forgetting"}))
def test_smoke_scale_takes_every_study(study: str) -> None:
    own = ["+scale=smoke", *NEEDED.get(f"+study={study}", [])]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        config = compose("config", overrides=[f"+study={study}", *own])
        held = set_by_scale(own, GlobalHydra.instance().config_loader())
        points = read_study(config.study).points(own, held)
        first = {point.stage: point for point in reversed(points)}
        for point in first.values():
            words = point.spelt(dict.fromkeys(point.needs, "outputs/earlier"))
            plain = resolve(compose("config", overrides=words))
            assert plain["train"]["shrink_to"] == "20it"
            assert plain["replicates"] == 1
            assert plain["pruner"]["rounds"] == 2


def test_the_command_line_holds_over_smoke_scale() -> None:
    plain = resolved("+experiment=digits_imp", "train.shrink_to=5it", "+scale=smoke")
    assert plain["train"]["shrink_to"] == "5it"


def test_every_option_is_given_wrong_values_or_is_left_out_with_a_reason(monkeypatch) -> None:
    monkeypatch.syspath_prepend(CONF.parent / "scripts")
    from wrong_settings import LEFT_OUT, PARTS_OF_OTHERS, SETTINGS

    plans = ("experiment", "study", "sweep", "hydra", "scale", "skeleton", "config")
    options = {path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml")}
    options = {one for one in options if not one.startswith(plans) and not one.endswith("/none")}
    known = {*SETTINGS, *PARTS_OF_OTHERS}.union(*LEFT_OUT.values())
    assert options <= known


def test_no_two_parts_of_a_package_share_a_name_by_which_the_store_knows_them() -> None:
    parts: dict[tuple[str, str], Any] = {}
    for target in re.findall(r"_target_: (lth_runner\.\S+)", "\n".join(map(Path.read_text, FILES))):
        part = get_method(target)
        package = ".".join(part.__module__.split(".")[:2])
        assert parts.setdefault((package, part.__qualname__), part) is part, target
