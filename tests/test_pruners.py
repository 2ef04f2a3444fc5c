"""Every shipped pruner, from its config to its rows, on digits in twenty steps a training."""

from __future__ import annotations

import functools
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from command import parts_of, without_pictures
from lth_runner.allocate import count
from lth_runner.cli.check import resolve
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.launch import describe, execute
from lth_runner.parts.make import make
from lth_runner.search import AtInit, Iterative
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from second_proofs import mostly_slow

PRUNERS = sorted(path.stem for path in (conf_dir() / "pruner").glob("*.yaml"))
OURS = {
    "imp", "one_shot", "random", "han2015", "obd", "magnitude_at_init", "snip", "iter_snip",
    "force", "grasp", "synflow", "prospr", "random_erk", "smart_ratio",
    "wanda",
}  # fmt: skip
NEEDED = {"given": ["pruner.ticket=outputs/first"]}
SCOPES = ("global", "layerwise", "er", "erk", "smart_ratio", "deviation")
SMALL = ["max_samples=256", "train.batch_size=32", "replicates=1", "record=local", "probe=none"]
ON_CPU = ["device=cpu", "threads=1"]  # tests run side by side: more would wait for each other


def composed(*overrides: str) -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("config", overrides=list(overrides))


def built(*overrides: str) -> Any:
    return parts_of(composed(*SMALL, *ON_CPU, *overrides))


@functools.cache
def search_of(*overrides: str) -> Any:
    return make(resolve(composed(*overrides))["pruner"]["search"])


def run(folder: Path, *overrides: str) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    try:
        config = composed("+scale=smoke", "record=local", "probe=none", *ON_CPU,
                          f"paths.outputs={folder}", *overrides)  # fmt: skip
        with without_pictures():
            execute(config, "lth-run")
    finally:
        torch.set_num_threads(threads)
    last = max((folder / "digits_imp").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(line) for line in (last / "rounds.jsonl").read_text().splitlines()]


def test_no_pruner_is_missing() -> None:
    assert set(PRUNERS) >= OURS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")  # one Store: its dense training is for all


RUN = {"imp", "obd", "snip", "synflow"}


@pytest.mark.parametrize("pruner", mostly_slow(sorted(OURS), RUN))
def test_a_pruner_runs_to_the_same_density_over_one_dense_training(
    pruner: str, folder: Path
) -> None:
    rows = run(folder, f"pruner={pruner}", "control=none")
    final = rows[-1]
    assert (rows[0]["round"], rows[0]["density"]) == (0, 1.0)
    assert final["num_kept"] == count(0.64, final["num_prunable"])
    between = [0.8] if pruner in ("imp", "random", "han2015", "obd") else []
    assert [row["density"] for row in rows[1:-1]] == pytest.approx(between, abs=1e-4)
    keys = [row["training_key"] for row in rows]
    assert len(set(keys)) == len(keys)
    dense = folder / "store" / "entries"
    facts = [json.loads((p / "training.json").read_text()) for p in dense.iterdir()]
    assert sum(p.name == keys[0] for p in dense.iterdir()) == 1
    assert all(not fact["diverged"] for fact in facts)


def test_an_early_bird_runs_where_there_are_norm_layers(folder: Path) -> None:
    rows = run(folder, "pruner=early_bird", "control=none", "model=mlp", "model.norm=batch")
    assert [row["num_kept"] for row in rows][1:] == [count(0.64, rows[0]["num_prunable"])]
    assert 0 < rows[1]["start_step"] < 20
    with pytest.raises(UserError, match="norm"):
        built("pruner=early_bird")


def test_gradual_pruning_is_one_training(folder: Path) -> None:
    (row,) = run(folder, "pruner=gradual", "control=none")
    assert row["num_kept"] == count(0.64, row["num_prunable"])


NORMS = ["model=mlp", "model.norm=batch", "model.widths=[32,16]"]  # early birds look at them
QUICK = {"snip", "gradual", "continuous"}
OPTIONS = {
    "early_bird": ["pruner.distance=1", "pruner.window=2"],
    "early_bird_channels": ["pruner.distance=1", "pruner.window=2"],
    "early_bird_stop": ["pruner.distance=1", "pruner.every=10%"],
    "continuous": ["pruner.sparsity=0.5", "pruner.score_lr=0.1"],
    "sparsegpt": ["control.shuffle.weights=fresh"],
    **{
        name: ["coordinates=gaussian"]
        for name in ("mean_magnitude", "signal_to_noise", "mean_square", "lexicographic")
    },
    "partial_lora": [
        "coordinates=low_rank",
        "coordinates.whole=[output]",
        "coordinates.targets=[linear1,linear2]",
    ],
}


@pytest.mark.parametrize(
    "pruner",
    mostly_slow([p for p in PRUNERS if p != "ks_lottery"], QUICK),  # which wants tokens
)
def test_the_sanity_arms_run_beside_any_pruner(pruner: str, folder: Path) -> None:
    """All of them, but invert where there is no score; twins only where no label is read."""
    chosen = composed(f"pruner={pruner}", *NEEDED.get(pruner, [])).pruner
    options = list(OPTIONS.get(pruner, []))
    if chosen.get("retrain") is False:  # else there is no ticket to stand beside
        options.append("pruner.retrain=true")
    if pruner == "given":
        task = built(*NORMS).task
        Mask({n: torch.rand(k.shape) < 0.5 for n, k in task.dense().items()}).save(folder / "given")
        options = [f"pruner.ticket={folder}/given"]
    rows = run(folder, f"pruner={pruner}", "control=sanity", *NORMS, *options)
    last = {row["arm"]: row for row in rows if row["round"] == rows[-1]["round"]}
    arms = {"ticket", "shuffle", "reinit", "invert", "random_data"}
    assert last.keys() == arms - (set() if "score" in chosen.search else {"invert"})
    assert not any(row["diverged"] for row in rows)
    keys = {arm: row["training_key"] for arm, row in last.items()}
    is_blind = "\n# Labels: no" in (conf_dir() / f"pruner/{pruner}.yaml").read_text()
    assert (keys["random_data"] == keys["ticket"]) == is_blind
    assert len(set(keys.values())) == len(keys) - is_blind


@pytest.mark.parametrize(("control", "num"), [("none", 3), ("[reinit]", 5), ("[random_data]", 7)])
def test_a_run_counts_what_its_controls_train_beside_its_rounds(control: str, num: int) -> None:
    rounds = ["pruner.sparsity=null", "pruner.rounds=2"]
    described = describe(built("pruner=imp", *rounds, f"control={control}"), "lth-run", {})
    assert described.num_trainings == num


def test_a_ticket_may_be_the_only_training(folder: Path) -> None:
    rows = run(folder, "pruner=snip", "pruner.dense=false", "control=[invert]")
    assert [(row["round"], row["arm"]) for row in rows] == [(0, "ticket"), (0, "invert")]
    assert {round(row["density"], 3) for row in rows} == {0.64}


@pytest.mark.parametrize("pruner", sorted(OURS - {"force"}))
def test_masks_are_nested_from_sparsity_to_sparsity_or_round_to_round(pruner: str) -> None:
    """Between rounds by construction; at init, along the schedule."""
    search = search_of(f"pruner={pruner}", "pruner.sparsity=0.9")
    assert isinstance(search, (Iterative, AtInit))
    assert isinstance(search, Iterative) or not search.regrow
    densities = search.schedule()
    assert all(after < before for before, after in pairwise((1.0, *densities)))
    assert densities[-1] == 1 - 0.9


def test_force_alone_says_that_it_may_regrow() -> None:
    searches = {p: search_of(f"pruner={p}", "pruner.sparsity=0.9") for p in OURS}
    assert {p for p, search in searches.items() if getattr(search, "regrow", False)} == {"force"}


@pytest.mark.parametrize("pruner", mostly_slow(["snip", "random_erk"], ["snip"]))
@pytest.mark.parametrize("scope", SCOPES)
def test_any_budget_goes_with_any_score(pruner: str, scope: str) -> None:
    experiment = built(
        f"pruner={pruner}", f"pruner.scope={scope}", "pruner.sparsity=0.8", "pruner.dense=false",
        "pruner.iterations=3",
    ).experiment  # fmt: skip
    (task,) = experiment.tasks
    ticket = experiment.search.propose(task, [])
    assert ticket.mask.num_kept == count(0.2, ticket.mask.num_prunable)


def test_as_many_weights_go_in_each_round_of_imp_linear(folder: Path) -> None:
    rows = run(folder, "pruner=imp_linear", "control=none")
    num = rows[0]["num_prunable"]
    assert [row["num_kept"] for row in rows] == [num, count(0.8, num), count(0.6, num)]


def test_scores_lead_to_different_masks() -> None:
    masks: dict[Mask, str] = {}
    for pruner in sorted(OURS - {"imp", "one_shot", "random", "han2015", "obd"}):
        few = "pruner.iterations=2"
        experiment = built(f"pruner={pruner}", "pruner.dense=false", few).experiment
        masks[experiment.search.propose(experiment.tasks[0], []).mask] = pruner
    assert len(masks) == 10


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["pruner=snip", "pruner.rounds=5", "pruner.rate=null"], r"pruner\.rounds=5 has no use"),
        (["pruner=synflow", "pruner.iterations=0"], r"pruner\.iterations=0"),
        (["pruner=synflow", "pruner.shape=linaer"], r"linear"),
        (["pruner=snip", "pruner.scope=erkk"], r"erk"),
        (["pruner=snip", "pruner.scope=uniform"], r"the first, is one"),
        (["pruner=imp", "pruner.scope=uniform"], r"the first, is one"),
        (["pruner=smart_ratio", "pruner.sparsity=0.999"], r"linear layers alone keep 300"),
        (["pruner=snip", "pruner.dense=false", "rewind=finetune"], r"needs the dense training"),
        (["pruner=imp", "pruner.iterations=5"], r"pruner\.iterations"),
    ],
)
def test_what_a_pruner_cannot_do_is_refused_before_any_training(
    overrides: list[str], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        built(*[o if "iterations=5" not in o else f"+{o}" for o in overrides])


def test_the_sweep_names_shipped_pruners() -> None:
    sweep = yaml.safe_load((conf_dir() / "sweep" / "pruners.yaml").read_text())
    params = sweep["hydra"]["sweeper"]["params"]
    assert set(params["pruner"].split(",")) == OURS | {"gradual"}
