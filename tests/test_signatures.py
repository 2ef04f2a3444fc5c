"""Every way in which a config can be wrong ends in one message, before anything is trained."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from command import SMALL as RUN
from command import lth_run, no_training, parts_of
from lth_runner.cli.messages import explain, explain_bug
from lth_runner.cli.signatures import check_targets, without_what_data_lack
from lth_runner.parts.task import pick_device
from lth_runner.values.errors import UserError
from second_proofs import mostly_slow

CONF = Path(__file__).parents[1] / "conf"
SMALL = ["dataset=synthetic", "dataset.num_train=200", "device=cpu", "replicates=1"]
# whatever the defaults are at the moment
SMALL += ["model=mlp", "train=sgd", "train.length=30ep"]


def composed(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*SMALL, *overrides])


def told(*overrides):
    """What a user is told of a command that cannot run."""
    with pytest.raises(Exception) as caught:  # Hydra has many; each must explain
        parts_of(composed(*overrides))
    assert not isinstance(caught.value, (KeyError, TypeError, AttributeError)), repr(caught.value)
    message = explain(caught.value, CONF)
    assert "Traceback" not in message
    return message


# --- signatures


KEYS = {"name": "resnet18", "shape": [3, 32, 32], "num_classes": 10}


def part(**keys):
    return {"_target_": "lth_runner.schedule.Geometric", **keys}


def test_a_misspelt_option_names_the_part_and_the_nearest():
    with pytest.raises(
        UserError,
        match=r"pruner\.schedule\.sparsty is not an option of lth_runner\.schedule\.Geometric: "
        r"did you mean sparsity",
    ):
        check_targets({"pruner": {"schedule": part(sparsty=0.9)}})


def test_a_part_that_takes_nothing_is_told_as_such():
    bare = {"_target_": "lth_runner.training.Constant", "shape": [1, 8, 8]}
    with pytest.raises(UserError, match=r"it takes none: let it take shape, or .* with ~model\.sh"):
        check_targets({"model": bare})


def test_parts_are_checked_inside_lists_and_other_parts():
    nested = {
        "_target_": "lth_runner.training.MultiStep",
        "drops": ["1ep", part(rat=0.2)],
    }
    with pytest.raises(UserError, match=r"train\.drops\[1\]\.rat is not an option.*rate"):
        check_targets({"train": nested})


def test_what_is_required_must_be_set():
    recipe = {"_target_": "lth_runner.training.Recipe", "length": "1ep", "batch_size": "???"}
    with pytest.raises(
        UserError, match=r"train \(lth_runner\.training\.Recipe\) needs batch_size, optimizer"
    ):
        check_targets({"train": recipe})


def test_a_partial_may_leave_the_rest_for_later():
    check_targets({"o": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}})
    with pytest.raises(UserError, match=r"o\.momentun.*did you mean momentum"):
        check_targets({"o": {"_target_": "torch.optim.SGD", "_partial_": True, "momentun": 0.9}})


def test_any_keyword_passes_where_the_target_takes_any():
    check_targets(
        {"_target_": "lth_runner.problem.models.torchvision_classifier", **KEYS, "anything": 1}
    )
    with pytest.raises(UserError, match=r"m \(lth_runner.*needs shape, num_classes, name"):
        check_targets(
            {"m": {"_target_": "lth_runner.problem.models.torchvision_classifier", "any": 1}}
        )


@pytest.mark.parametrize(
    "target",
    ["nowhere.Net", "lth_runner.problem.models.nothing", "justaname", "lth_runner.problem.models"],
)
def test_what_cannot_be_imported_is_told_with_its_key(target):
    with pytest.raises(UserError, match=rf"model\._target_={target} cannot be imported"):
        check_targets({"model": {"_target_": target}})


@pytest.mark.parametrize("target", [None, "???"])
def test_a_target_must_be_given(target):
    with pytest.raises(UserError, match=r"model\._target_ is not set"):
        check_targets({"model": {"_target_": target}})


@pytest.mark.parametrize("value", [0, False, 2024])
def test_a_number_is_no_text_and_0_does_not_mean_null(value):
    texts = {"_target_": "lth_runner.problem.data.text_files", "val": value, "_partial_": True}
    with pytest.raises(UserError, match=rf"val={value} must be a text; .*: 'd\.val=\"{value}\"'"):
        check_targets({"d": texts})
    with pytest.raises(UserError, match="val='' must be a text that is not empty, or null"):
        check_targets({"d": {**texts, "val": ""}})
    check_targets({"d": {**texts, "val": "2024"}})
    check_targets({"d": {**texts, "val": None}})


# --- the config as a whole


def test_the_default_config_builds_with_one_override():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parts_of(compose("config", ["device=cpu"]))


def test_a_config_becomes_the_parts_that_it_names():
    built = parts_of(composed("pruner.sparsity=0.95"))
    assert built.experiment.search.num_rounds == 15
    assert [task.seed for task in built.experiment.tasks] == [0]
    assert set(built.experiment.controls) == {"reinit", "shuffle"}


PRUNERS = {path.stem for path in (CONF / "pruner").glob("*.yaml")} - {
    "given",
    "ks_lottery",
    "partial_lora",
}  # no scope


GAUSSIAN = ("lexicographic", "mean_magnitude", "mean_square", "signal_to_noise")
# magnitude, gradients, whole networks, by step, a moving mask
EACH_KIND = {"imp", "snip", "synflow", "gradual", "rigl", "sr_ste", "sparsegpt", "early_bird_stop"}


@pytest.mark.parametrize("pruner", mostly_slow(sorted(PRUNERS), EACH_KIND))
def test_every_pruner_builds_in_every_scope_and_takes_a_sparsity(pruner):
    needed = {
        "obd": ["pruner.search.score.num_batches=1"],
        "early_bird": ["model=mlp", "model.norm=batch"],
        "early_bird_channels": ["model=mlp", "model.norm=batch"],
        "early_bird_stop": ["model=mlp", "model.norm=batch"],
        "sparsegpt": ["control=reinit"],
        **{name: ["coordinates=gaussian"] for name in GAUSSIAN},
    }
    chosen = composed(f"pruner={pruner}", "pruner.sparsity=0.95", *needed.get(pruner, []))
    for scope, sparsity in (("global", 0.95), ("layerwise", 0.5)):
        chosen.pruner.scope, chosen.pruner.sparsity = scope, sparsity
        if pruner == "sr_ste":  # N of every M, whatever is asked for
            with pytest.raises(UserError, match=r"set pruner\.scope=n_of_m"):
                parts_of(chosen)
        else:
            parts_of(chosen)


WRONG = {
    "pruner.scope=globl": r"pruner\.scope='globl': did you mean global",
    "pruner.scope=null": r"pruner\.scope=None.*global, layerwise",
    "+pruner.rates.output=0.1": r"pruner\.rates are rates by layer.*scope=layerwise",
    "pruner.densities={output:0.5}": r"pruner\.densities are densities.*scope=given",
    "pruner.scope=given": r"pruner\.scope=given needs densities by layer: set .*pruner\.densities",
    "+foo=1": r"unknown key 'foo'.*accepted.*pruner",
    "+prunner.rate=1": r"unknown key 'prunner'.*did you mean pruner",
    "+pruner.spars=1": r"pruner\.spars is used by nothing.*sparsity",
    "pruner.sparsity=95": r"pruner\.sparsity=95.*0\.95",
    "pruner.rate=null": r"set two of pruner\.sparsity",
    "pruner.rounds=3": r"reach sparsity 0\.488.*allow \d+ rounds \(pruner\.rounds=null.*smoke",
    "pruner.search.score._target_=lth_runner.score.No": r"score\._target_.*cannot be imported",
    "+model.widht=3": r"model\.widht is not an option of lth_runner\.problem\.models\.mlp.*widths",
    "model.num_classes=5": r"shape \(5,\).*10 classes",
    "model=custom": r"model\._target_",
    "+train.optimizer.momentun=0": r"train\.optimizer\.momentun.*did you mean momentum",
    "train.length=abc": r"'abc' is not a duration",
    "train.length=0ep": r"train\.length=0ep",
    "train.warmup=99ep": r"train\.warmup=99ep.*past the end",
    "train.batch_size=0": r"train\.batch_size=0 does",
    "rewind.step=31ep": r"rewind\.step=31ep.*past the end",
    "rewind.weights=keeep": r"rewind\.weights='keeep': did you mean keep",
    "seed=-1": r"seed=-1",
    "report.tolerance=-1": r"report\.tolerance=-1 must be a difference of the headline .* 2%",
    "report.tolerance=1": r"report\.tolerance=1 must be .* accuracy, from 0 to below 1",
    "report.tolerance=100%": r"report\.tolerance='100%' must be",
    "seed=1.5": r"seed=1\.5",
    "replicates=1000000000": r"replicates=1000000000: give at most 1000",
    "pruner.rounds=100000000": r"pruner\.rounds=100000000: give at most 10000",
    "pruner.rate=1e-8": r"pruner\.rate=1e-08 would take .*rounds.*may be 10000: raise",
    "pruner.sparsity=1e-30": r"all of \d+ weights would stay.*raise pruner\.sparsity",
    "train.length=1000000000000000it": r"train\.length=.*is 1e\+15 steps: give at most",
    "train.shrink_to=0it": r"train\.shrink_to=0it leaves no step: give 1it or more, or null",
    "dataset.num_classes=1": r"num_classes=1: with fewer than two classes .*nothing to learn",
    "dataset.split_seed=-1": r"dataset\.split_seed=-1 must be a whole number of at least 0",
    "dataset.seed=-1": r"dataset\.seed=-1 must be a whole number of at least 0",
    "dataset.seed=100000000000000000000": r"dataset\.seed=1e\+20 is too large: give at most",
    "device=cpu:": r"device='cpu:': accepted: auto, cpu, cuda",
    "device=cpu:7": r"device='cpu:7': accepted: auto, cpu, cuda",
    "threads=1000": r"threads=1000: .*cores: give at most \d+, or auto",
    "+paths.foo=1": r"paths\.foo is used by nothing: accepted: data, outputs",
    "+store.foo=1": r"store\.foo is used by nothing: accepted: keep",
    "+record.foo=1": r"record\.foo belongs to an option of record that is not chosen here",
    "+report.foo=1": r"report\.foo is used by nothing: accepted: paired, published, samples",
    "+rewind.foo=1": r"rewind\.foo is used by nothing: accepted: bn",
    "pruner.exclude=[1]": r"pruner\.exclude: '1' matches no tensor",
    "pruner.exclude=[null]": r"pruner\.exclude\[0\]=None must be a text",
    "pruner.masking=null": r"pruner\.masking=None is no part",
    "pruner.budgets.erk=1": r"pruner\.budgets\.erk=1 is no part",
    "model.widths=[a]": r"model\.widths\[0\]='a' must be a whole number",
    "train.optimizer.lr=inf": r"train\.optimizer\.lr=inf must be a finite number",
    "control=null": r"a group cannot be null: choose one of its options",
    "train.optimizer=[1]": r"^train\.optimizer=\[1\]: a list cannot take the place of a mapping",
    "probe=retention": r"^probe\.retention\.\w+ is to be that of origin\.\w+, and the origin that",
    "train.optimizer._partial_=1": r"train\.optimizer\._partial_=1 must be true or false",
    "+train.optimizer._args_=1": r"train\.optimizer\._args_=1 must be a list",
    "+train.optimizer._convert_=x": r"train\.optimizer\._convert_='x' must be none, partial, obj",
    "lr=0.1": r"unknown key 'lr': did you mean train\.optimizer\.lr",
    "train.lr=0.1": r"unknown key 'train\.lr': did you mean train\.optimizer\.lr",
    "origin.qqqq=1": r"^unknown key 'origin\.qqqq': did you mean origin\.",
    "batch_size=3": r"unknown key 'batch_size': did you mean train\.batch_size",
    "pruner.sparsity=0,9": r"a point for a comma in a number \(pruner\.sparsity=0\.9\), -m for",
    "model.widths=8,9": r"-m for a run of each .*or brackets for a list \('model\.widths=\[8,9",
    "max_samples=[1]": r"max_samples=\[1\] must be a whole number of at least 1, or null",
    "train.optimizer.lr=nan": r"train\.optimizer\.lr=nan must be a finite number",
    "train.clip_norm=inf": r"train\.clip_norm=inf must be a finite number",
    "pruner.sparsity=nan": r"pruner\.sparsity=nan must be a finite number",
    "model.norm=[batch]": r"model\.norm=\['batch'\] must be one text and no list or mapping",
    "rewind.weights={a:1}": r"rewind\.weights={'a': 1} must be one text .*: rewind, keep, reinit",
    "pruner.scope=[global]": r"pruner\.scope=\['global'\]: did you mean global\?",
    "pruner.search=null": r"pruner\.search=None is no part, .* choose an option of pruner",
    "pruner.search.score=null": r"pruner\.search\.score=null must have a value",
    "pruner.search.rewind=-1": r"rewind=-1 must be a part, a mapping with a _target_",
    "pruner.search.rewind={a:1}": r"rewind={'a': 1} must be a part, a mapping with a _target_",
    "train.optimizer=adam": r"train\.optimizer='adam' must be a part, a mapping with a _target_",
    "train=null": r"a group cannot be null: .* \(group=option\), none",
    "report=null": r"report=None is no mapping of keys: choose an option of report",
    "record.wandb=null": r"record\.wandb belongs to an option of record that is not chosen here",
    "record.wandb.group=[1]": r"record\.wandb\.group=\[1\] must be one text and no list",
    "model.widths=[1000000000000000000000000]": r"model\.widths\[0\]=1e\+24 is too large",
    "model.widths=[100000000]": r"the model has [\d,]{13} parameters, .* of [\d,.]+ GB of memory, "
    r"and this machine has [\d,.]+ GB",
    "model.widths=[1000000000000000000]": "the model is larger than any machine .*give smaller",
    "dataset.num_train=1000000000000": r"dataset\.num_train=1000000000000 .* 768,\d{3}\.\d GB of "
    r"memory, and this machine has [\d,.]+ GB",
    "train.optimizer.lr=1e300": r"train\.optimizer\.lr=1e\+300 is too large: .*single precision",
    "train.optimizer.lr=1e-300": r"train\.optimizer\.lr=1e-300 is too close to 0: .*single prec",
    "train.optimizer.lr=true": r"train\.optimizer\.lr=True must be a number",
    "train.optimizer.weight_decay=[]": r"train\.optimizer\.weight_decay=\[\] must be a number",
    "train.length=[]": r"train\.length=\[\] must be one duration and no list: 500it",
    "train.eval_every=[50%]": r"train\.eval_every=\['50%'\] must be one duration",
    "train.warmup={a:1}": r"train\.warmup=\{'a': 1\} is not a duration",
    "replicates=0": r"replicates=0",
    "device=cud": r"device='cud': accepted: auto, cpu, cuda",
    "max_samples=0": r"max_samples=0",
    "threads=100000": r"threads=100000: .*cores: give at most \d+, or auto",
    "paths.outputs=null": r"paths\.outputs=None must be the path of a folder",
    "paths.outputs=": r"paths\.outputs='' must be the path of a folder",
    "name=null": r"name=None names a folder",
    "model.widths=300": r"model\.widths=300 must be a list: write 'model\.widths=\[300\]'",
    "rewind.only=": r"rewind\.only='' must be a list: write 'rewind\.only=\[\]'",
    "train.snapshots=5it": r"train\.snapshots='5it' must be a list",
    "pruner={scope:layerwise,rates:0.1}": r"pruner\.rates=0\.1 must be a mapping, such as",
    "dataset.seed=${nothing}": r"cannot be resolved",
    "model=transformer": r"model\.vocabulary is to be that of dataset\.vocabulary.*has no vocab",
    # told by Hydra, put in our words
    "pruner.sparsty=0.9": r"unknown key 'pruner\.sparsty': did you mean pruner\.sparsity",
    "modl=mlp": r"unknown key 'modl': did you mean model",
    "model=resnet21": r"there is no model=resnet21: did you mean .*resnet20",
    "rewind=nowhere": r"there is no rewind=nowhere.*accepted:.*finetune",
    "+seed=1": r"seed exists already: leave the \+ away",
    "model.widths=[8": r"quote lists",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_mistake_is_told_by_its_key_and_what_is_accepted(override):
    message = told(override)
    assert re.search(WRONG[override], message, re.DOTALL), message


# --- what would otherwise come out only after the dense network was trained


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["pruner.exclude=[outptu]"], "pruner.exclude"),
        (["pruner.exclude=['*']"], "pruner.exclude"),
        (
            ["pruner.exclude=[linear1]"],
            "cannot be had",
        ),  # a fifth of the weights, more than are kept
        (["pruner.scope=layerwise", "+pruner.rates.outptu=0.1"], "pruner.rates"),
        (
            ["pruner.scope=layerwise", "pruner.budgets.layerwise.rate=0"],
            "pruner.budgets.layerwise.rate=0 is outside (0, 1)",
        ),
        (["probe.accuracy.splits=[]"], "splits=[] measures no network"),
        (["rewind.only=[outptu]"], "rewind.only"),
        (["rewind=partial"], "rewind.only"),
        (["pruner.sparsity=null", "pruner.rounds=2.5"], "pruner.rounds"),
        (["train.snapshots=[soon]"], "duration"),
        (["train.snapshots=[99ep]"], "past the end"),
        (["train.optimizer.lr=-1"], "lr"),
        (["train.checkpoint_minutes=-1"], "train.checkpoint_minutes=-1 must be above 0"),
        (["dataset.augment_crop=8"], "dataset.augment_crop=8 would crop some images to"),
        (["pruner.sparsity=null", "pruner.rounds=10000"], "weights would be left: lower"),
        (["pruner=one_shot", "pruner.sparsity=0.9999999"], "at sparsity 0.9999999, where"),
        (["pruner=snip", "pruner.sparsity=0.9999999"], "weights would be left: lower"),
        (["train.learning_rate=cosine"], "learning_rate"),
        (["train/learning_rate=multistep", "train.learning_rate.drops=[10it,5it]"], "in order"),
        (["train/learning_rate=multistep", "train.learning_rate.drops=[9it,9it]"], "in order"),
        (["train/learning_rate=multistep", "train.learning_rate.drops=[50%,1it]"], "in order"),
        (["train/learning_rate=multistep", "train.learning_rate.factor=0"], "must be above 0"),
        (
            ["train/learning_rate=cosine", "train.learning_rate.final=-1"],
            "must be at least 0",
        ),
        (["train/learning_rate=linear", "train.learning_rate.final=-2"], "must be at least 0"),
        (["train/learning_rate=linear", "train.learning_rate.final=1e9"], "at most 1000"),
        (["train/learning_rate=multistep", "train.learning_rate.factor=1e9"], "at most 1000"),
        (["train.optimizer.lr=0"], "train.optimizer.lr=0 moves no weight"),
        (["train=adam", "train.optimizer.betas=[0.9]"], "betas=[0.9] must be a list of 2 values"),
        (["train=adam", "train.optimizer.betas=[0.9,a]"], "betas[1]='a' must be a number"),
        (["model.norm=batch", "train.batch_size=1"], "give train.batch_size=2 or more"),
        (["pruner.sparsity=null", "pruner.rounds=2", "pruner.rate=1e-30"], "weights would stay"),
        (["pruner=gradual", "pruner.sparsity=1e-9"], "weights would stay"),
        (["pruner=snip", "pruner.iterations=100000000"], "give at most 100000"),
        (["control=noise", "control.noise.size=1e4"], "control.noise.size=10000.0 must be above 0"),
        (["control=signs", "control.signs.magnitude=1e4"], "magnitude=10000.0 must be above 0 and"),
        (
            ["probe=capacity", "probe.capacity.bits_per_weight=65"],
            "=65: give a number from 0 to 64",
        ),
        (["probe=supermask", "probe.supermask.num_draws=1001"], "from 1 to 1000"),
        (["probe=connectivity", "probe.instability.num_points=1001"], "at least 2, at most 1000"),
        (["probe=connectivity", "probe.instability.rounds=[]"], "rounds=[] looks at no round"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_told_before_anything_is_trained(overrides, key):
    assert key in told(*overrides)


@pytest.mark.parametrize("key", ["seed", "pruner", "model"])
def test_a_key_taken_away_is_told(key):
    with pytest.raises(UserError, match=key):
        parts_of(composed(f"~{key}"))


def test_rates_by_layer_can_be_given_on_the_command_line():
    built = parts_of(composed("pruner.scope=layerwise", "pruner.rates={output:0.1}"))
    assert built.experiment.search.allocate.rates == {"output": 0.1}


def test_densities_by_layer_can_be_given_on_the_command_line():
    given = "pruner.densities={*:0.02,output:0.5}"
    built = parts_of(composed("pruner=snip", "pruner.scope=given", given, "pruner.sparsity=0.97"))
    assert built.experiment.search.allocate.densities == {"*": 0.02, "output": 0.5}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["pruner=edge_popup", "rewind=step"], ["rewind.step=500it"]),
        (["pruner=gradual", "rewind=renda_lrr"], ["rewind.weights=keep", "rewind.bn=keep"]),
        (["pruner=gradual", "rewind=renda_lrr", "pruner.retrain=true", "control=none"], []),
        (["pruner=continuous", "rewind=step", "pruner.retrain=false"], ["rewind.step=500it"]),
        (["pruner=gradual", "rewind=finetune", "train/learning_rate=cosine"], ["rewind"] * 3),
        (
            ["pruner=han2015", "rewind=renda_lrr", "rewind.step=3it"],
            ["rewind.weights", "rewind.bn"],
        ),
        (["pruner=imp", "rewind=renda_lrr"], []),
        (["pruner=edge_popup"], []),
    ],
)
def test_a_rewinding_that_a_pruner_does_not_do_is_told(overrides, named, caplog):
    parts_of(composed(*overrides))
    told = [message for message in caplog.messages if "does not rewind that way" in message]
    assert len(told) == bool(named)
    assert all(key in told[0] for key in named)
    assert not told or told[0].count("rewind.") == len(named)


@pytest.mark.parametrize("key", ["probe.early_gradients.num_steps", "control.noise.size"])
def test_keys_of_an_option_that_is_not_chosen_are_told_before_anything_is_trained(key):
    group = key.split(".")[0]
    assert f"an option of {group} that is not chosen" in told(f"{group}=none", f"+{key}=5")


# --- identity of a run


def test_what_cannot_change_a_result_does_not_rename_the_run():
    own = parts_of(composed()).run_id
    for same in ("paths.outputs=/tmp/x", "probe=none", "record=local", "report.tolerance=0.1"):
        assert parts_of(composed(same)).run_id == own, same
    for same in ("train.checkpoint_minutes=9", "train.snapshots=[10it]", "paths.data=/tmp/y"):
        assert parts_of(composed(same)).run_id == own, same
    others = ("seed=1", "pruner.rate=0.3", "control=none", "model.widths=[9]", "dataset.noise=2")
    assert len({own, *(parts_of(composed(other)).run_id for other in others)}) == 1 + len(others)


# --- devices and files


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(UserError, match=rf"device={name} was asked for.*device=cpu"):
            pick_device(name)


def test_a_device_number_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert str(pick_device("cuda:1")) == "cuda:1"
    with pytest.raises(UserError, match="there are 2 CUDA devices"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOSPC, r"no space left to write /somewhere.*paths\.outputs"),
        (errno.EACCES, r"/somewhere cannot be written.*paths\.outputs"),
        (errno.EEXIST, r"/somewhere cannot be written.*paths\.outputs"),  # a link to nowhere
        (errno.EIO, "/somewhere: "),
    ],
)
def test_a_failing_disk_is_told_with_its_file(number, why):
    message = explain(OSError(number, os.strerror(number), "/somewhere"), CONF)
    assert re.search(why, message)


def test_a_disk_that_takes_not_one_training_is_told_before_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr("lth_runner.cli.expected.shutil.disk_usage", lambda place: full)
    with no_training():
        said = lth_run(*RUN, "record=local", f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "the end of one training takes" in said.err
    assert "100 B are free: free some, or choose another disk with paths.outputs" in said.err


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (RuntimeError("can't allocate memory: you tried to allocate 8000 bytes. Code 12"), "8000 "),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU"), "2.00 GiB"),
        (MemoryError("Unable to allocate 7 GiB for an array"), "7 GiB"),
        (MemoryError(), "."),
        (RuntimeError("mmap failed (os error 12)"), ""),
    ],
)
def test_memory_that_is_not_there_is_no_bug(error: Exception, asked: str) -> None:
    message = explain_bug(error)
    assert re.match(rf"out of memory.*{re.escape(asked)}.*train\.micro_batch", message), message
    assert "goes on from there" in message
    assert "bug" not in message


def test_a_value_that_follows_one_that_is_null_is_asked_for_by_its_own_key(tmp_path: Path) -> None:
    words = ("dataset=diabetes", "objective=regression", "model=mlp")
    said = lth_run(*words, f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "model.num_classes follows dataset.num_classes, which is null here" in said.err
    assert "set model.num_classes" in said.err


def test_what_the_data_lack_is_not_given_to_a_model_that_does_not_take_it() -> None:
    bare = {"_target_": "torch.nn.Identity", "shape": None}
    assert without_what_data_lack(bare) == bare  # it takes any keyword
    linear = {"_target_": "torch.nn.Flatten", "shape": None, "num_classes": 3}
    assert without_what_data_lack(linear) == {"_target_": "torch.nn.Flatten", "num_classes": 3}
    needed = {"_target_": "lth_runner.problem.models.mlp", "shape": [4], "num_classes": None}
    assert without_what_data_lack(needed) == needed


def test_a_switch_of_the_report_is_true_or_false():
    assert "report.paired='often': give true or false" in told("report.paired=often")
    assert "report.samples='drwan': did you mean drawn?" in told("report.samples=drwan")
