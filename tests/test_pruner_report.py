"""Sanity verdicts worked by hand, and pruners side by side from the files of their runs."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from command import SMALL, lth_run, rows, status_of
from lth_runner.cli.report import main
from lth_runner.cli.sweep import ROOT_CHOICES, ROOT_NAME, run_name
from lth_runner.runs.comparisons import compare_runs
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.pruners import find_pruners
from lth_runner.runs.evidence.rows import find_runs
from lth_runner.runs.evidence.sanity import checks
from lth_runner.runs.evidence.settings import labels
from lth_runner.runs.report import FinishedRun
from lth_runner.runs.report.headline import headline
from lth_runner.runs.report.pruner_page import best
from lth_runner.runs.report.run_text import table
from lth_runner.runs.report.sanity_text import sentence, sentences


def row(round, arm, seed, accuracy, *, density, **extra):
    return {
        "round": round, "arm": arm, "seed": seed, "density": density, "sparsity": 1 - density,
        "test_accuracy": accuracy, "steps": 100, "start_step": 0, "seconds": 10.0,
        "search_seconds": 0.5, "training_key": f"{arm}{round}{seed}{density}{accuracy}",
        "reused": True, "diverged": False,
        "layer_density": {"a.weight": density, "b.weight": density / 2}, **extra,
    }  # fmt: skip


def save(folder: Path, found, *, pruner="snip", node=None, **config) -> FinishedRun:
    folder.mkdir(parents=True)
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in found))
    static = {"_target_": "x.Static"}
    node = {"masking": static, "sparsity": 0.9, "search": {"_target_": "x.It"}} | (node or {})
    whole = {"name": "toy", "report": {"tolerance": 0.005}, "dataset": {"num_classes": 10}}
    text = json.dumps(whole | {"pruner": node} | config)
    (folder / "config.yaml").write_text(text)
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    (folder / "environment.json").write_text(json.dumps({"choices": {"pruner": pruner}}))
    return FinishedRun.load(folder)


def checked(
    tmp_path,
    costs,
    *,
    control="shuffle",
    ticket=0.95,
    same=False,
    density=0.05,
    config=None,
    diverged=(),
):
    """One check: the ticket at an accuracy, the control so much below for each seed."""
    found = []
    for seed, cost in enumerate([*costs, *diverged]):
        lost = seed >= len(costs)
        found += [
            row(0, "ticket", seed, 0.97, density=1.0),
            row(1, "ticket", seed, ticket, density=0.05, training_key=f"t{seed}"),
            row(1, control, seed, None if lost else ticket - cost, density=density, diverged=lost,
                training_key=f"{'t' if same else 'c'}{seed}"),
        ]  # fmt: skip
    run = save(tmp_path / "run", found, **(config or {}))
    [check] = checks(run, judge(run))
    return check


# --- sanity verdicts


def test_a_cost_worked_by_hand_is_shown(tmp_path):
    # the control varies by s = .2 points, so the ticket is taken to: mean 4.2, half = 4.302653 *
    # .2 * sqrt(2 / 3) = .7026
    check = checked(tmp_path, [0.040, 0.042, 0.044])
    assert check.mark == "shown"
    assert sentence(check) == (
        "snip: shuffling its masks within layers costs 4.2 points [3.5, 4.9] at 95 % sparsity: "
        "shown, its masks carry information beyond the layer densities (n = 3)."
    )


@pytest.mark.parametrize(
    ("costs", "mark", "words"),
    [
        # mean .1, s = .1 points, half = .3513: the upper end .45 is within half a point
        ([0.0, 0.001, 0.002], "refuted", "a cost of more than 0.5 points is refuted (n = 3)"),
        # mean .1, s = 1 point, half = 3.513: 3.6 is not excluded, though none was seen
        ([-0.009, 0.001, 0.011], "undecided", "costs 0.1 points [−3.4, 3.6]"),
        # mean 3, s = 3 points: zero lies in the interval, but who says there is none? 17 seeds:
        # 2 (t_.975 + t_.8)^2 of 32 degrees of freedom = 2 (2.037 + .853)^2 = 16.7
        ([0.0, 0.03, 0.06], "undecided", "about 17 seeds would show it, were the difference"),
        ([-0.04, -0.041, -0.042], "refuted", "costs −4.1 points [−4.5, −3.7]"),
        # what controls do better, no more of them show to cost
        ([-0.03, 0.001, 0.02], "undecided", "no number of seeds up to 1000 would show it"),
        ([0.03], "undecided", "one seed does not tell how much seeds differ"),
        ([-0.003, -0.003], "undecided", "2 seeds that all give the same to the digit"),
        ([0.0, 0.0, 0.0], "undecided", "3 seeds that all give the same to the digit"),
        ([0.03, 0.03, 0.03], "undecided", "do not tell how much seeds differ"),
    ],
)
def test_what_can_be_said_is_said_and_no_more(tmp_path, costs, mark, words):
    check = checked(tmp_path, costs)
    assert check.mark == mark
    assert words in sentence(check)


@pytest.mark.parametrize("control", ["reinit", "invert", "random_data"])
def test_every_control_names_what_it_takes_away(tmp_path, control):
    check = checked(tmp_path, [0.040, 0.042, 0.044], control=control)
    assert "shuffling" not in sentence(check)
    assert check.mark == "shown"


def test_at_chance_nothing_can_be_concluded(tmp_path):
    # ten classes: up to .1 + .05 * .9 = .145 is hardly above guessing
    check = checked(tmp_path, [0.02, 0.021, 0.022], ticket=0.14)
    assert check.mark == "at chance"
    assert "accuracy is at chance level, and nothing can be concluded" in sentence(check)


def test_a_control_alone_at_chance_is_remarked(tmp_path):
    check = checked(tmp_path, [0.85, 0.851, 0.852])
    assert check.mark == "shown"
    assert sentence(check).endswith("The control's accuracy is at chance level.")


def test_a_control_that_diverged_is_not_as_good_as_the_ticket(tmp_path):
    costs = [0.0, 0.0001, 0.0002, 0.0001]
    assert checked(tmp_path / "whole", costs).mark == "refuted"
    assert checked(tmp_path / "part", costs[:3], diverged=costs[3:]).mark == "undecided"


def test_the_best_pruner_is_not_better_where_it_diverged_and_at_chance_says_nothing(tmp_path):
    imp, snip = (chain([1.0, 0.25], fall=fall) for fall in (0.0, 0.1))
    for name, lost, said in (
        ("whole", {}, "n = 3: shown)"),
        (
            "part",
            {"diverged": True, "test_accuracy": None},
            "refuted, 1 of its trainings diverged)",
        ),
        ("chance", {"test_accuracy": 0.11}, "at chance, which says nothing)"),
    ):
        own = [dict(one) for one in imp]
        for one in own:
            if one["round"] and (one["seed"] == 0 or name == "chance"):
                one |= lost
        other = [{**one, "test_accuracy": 0.1} if name == "chance" else one for one in snip]
        save(tmp_path / name / "imp", own, pruner="imp")
        save(tmp_path / name / "snip", other, node=SNIP)
        assert said in best(compared(tmp_path / name)).text, name


def test_pruners_that_are_to_be_paired_and_share_no_seed_are_not_compared(tmp_path):
    for seed, pruner in enumerate(("snip", "grasp")):
        found = [
            row(0, "ticket", seed, 0.97, density=1.0),
            row(1, "ticket", seed, 0.9, density=0.1),
        ]
        save(tmp_path / pruner, found, pruner=pruner, node={"search": {"_target_": pruner}},
             seed=seed, report={"paired": True})  # fmt: skip
    text, _ = compare_runs([FinishedRun.load(folder) for folder in find_runs([tmp_path])], tmp_path)
    assert "at the same sparsity and of the same seed (report.paired) yet." in " ".join(
        text.split()
    )


def test_a_control_that_is_the_ticket_itself_is_no_evidence(tmp_path):
    check = checked(tmp_path, [0.0, 0.0, 0.0], control="random_data", same=True)
    assert check.mark == "the ticket itself"
    assert "what is decided before its training does not depend on it" in sentence(check)


def test_what_was_corrupted_and_another_sparsity_of_the_control_are_told(tmp_path):
    config = {"control": {"random_data": {"corrupt": "labels"}}}
    check = checked(
        tmp_path, [0.04, 0.042, 0.044], control="random_data", density=0.1, config=config
    )
    assert sentence(check) == (
        "snip: deciding by corrupted labels costs 4.2 points [3.5, 4.9] at 95 % sparsity: shown, "
        "what it reads from the data matters (n = 3). The control's sparsity is 90 %: that is part "
        "of the difference."
    )


def test_text_and_page_of_a_run_say_it(tmp_path):
    check = checked(tmp_path, [0.040, 0.042, 0.044])
    run = FinishedRun.load(tmp_path / "run")
    assert sentence(check) in " ".join(table(run).split())
    assert main([str(tmp_path / "run")]) == 0
    assert "carry information beyond" in (tmp_path / "run" / "report.html").read_text()


def test_of_several_sparsities_the_sparsest_above_chance_is_told(tmp_path):
    found = [row(0, "ticket", seed, 0.97, density=1.0) for seed in range(3)]
    for number, (density, ticket, cost) in enumerate(
        [(0.5, 0.96, 0.0), (0.1, 0.9, 0.05), (0.01, 0.1, 0.0)], 1
    ):
        for seed in range(3):
            found.append(row(number, "ticket", seed, ticket, density=density))
            found.append(row(number, "shuffle", seed, ticket - cost - seed / 1e4, density=density))
    run = save(tmp_path / "run", found)
    [told] = sentences(checks(run, judge(run)))
    assert "costs 5.0" in told
    assert "At 99 % both are at chance level" in told
    assert "A cost is shown at 1 of 3 sparsities (90 %)." in told


# --- a first training that is sparse already


def test_a_sparse_first_training_is_no_dense_network(tmp_path):
    run = save(tmp_path / "run", [row(0, "ticket", seed, 0.9, density=0.1) for seed in (0, 1)])
    verdict = judge(run)
    assert (run.dense_round, verdict.dense) == (None, None)
    assert "No dense network was trained" in headline(verdict).text
    assert "sparsity 90 % reaches 90.0 ± 0.0 %, n = 2" in headline(verdict).text
    [line] = [text.split() for text in table(run).splitlines() if text.split()[:1] == ["0"]]
    assert line[-2:] == ["no", "dense"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "trainings"),
    [
        (["pruner=snip", "pruner.dense=false"], 2),  # the ticket and its control
        (["pruner=snip"], 3),  # and the dense network
        (["pruner=gradual"], 1),
    ],
)
def test_as_many_trainings_are_announced_as_there_are(tmp_path, monkeypatch, arguments, trainings):
    import lth_runner.cli.launch as launch

    told = []
    known = launch.describe

    def watched(*given):
        told.append(known(*given))
        return told[-1]

    monkeypatch.setattr(launch, "describe", watched)
    said = lth_run(*SMALL, "record=local", *arguments, f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    [path] = tmp_path.glob("small/*/rounds.jsonl")
    assert told[0].num_trainings == len(rows(path)) == trainings
    assert all(one["search_seconds"] > 0 for one in rows(path))


# --- pruners side by side


def chain(densities, *, fall=0.0, seeds=(0, 1, 2), **extra):
    found = []
    for seed in seeds:
        for number, density in enumerate(densities):
            accuracy = 0.97 - fall * (1 - density) + 0.001 * seed
            found.append(row(number, "ticket", seed, accuracy, density=density, **extra))
            if number:
                found.append(row(number, "shuffle", seed, accuracy - 0.02, density=density))
    return found


SNIP = {"dense": True, "search": {"_target_": "x.AtInit", "score": {"_target_": "x.Snip"}}}


@pytest.fixture
def four(tmp_path) -> Path:
    """imp in rounds and snip at once, both at 75 and 87.5 %."""
    for sparsity, rounds in ((0.75, [1.0, 0.5, 0.25]), (0.875, [1.0, 0.5, 0.25, 0.125])):
        node = {"sparsity": sparsity}
        save(tmp_path / f"imp{sparsity}", chain(rounds), pruner="imp", node=node)
        save(tmp_path / f"snip{sparsity}", chain([1.0, 1 - sparsity], fall=0.1), node=SNIP | node)
    return tmp_path


def compared(folder: Path):
    [found] = find_pruners([FinishedRun.load(path) for path in find_runs([folder])])
    return found


def test_shared_trainings_are_counted_in_full_and_a_dense_network_only_compared_with_is_not(four):
    efforts = {(e.label, e.sparsity): e for e in compared(four).efforts}
    # rows say seconds=10, search_seconds=.5 and reused: imp at 87.5 % had three trainings before
    imp, snip = efforts["imp", 0.875], efforts["snip", 0.875]
    assert (imp.trainings, imp.steps, imp.seconds, imp.search) == (3, 300, 30.0, 2.0)
    assert (snip.trainings, snip.steps, snip.seconds, snip.search) == (0, 0, 0.0, 1.0)
    assert efforts["imp", 0.75].steps == 200
    assert (imp.source, snip.source) == ("trained weights", "the start")
    assert snip.total == 1.0


def test_what_was_rewound_to_a_step_needed_the_dense_training_up_to_it(tmp_path):
    rewind = {"rewind": {"step": "40it"}}
    save(tmp_path / "imp", chain([1.0, 0.25]), pruner="imp", **rewind)
    save(tmp_path / "snip", chain([1.0, 0.25]), node=SNIP, **rewind)
    later = {**SNIP, "score_step": "60it"}
    save(tmp_path / "later", chain([1.0, 0.25]), pruner="later", node=later, **rewind)
    efforts = {e.label: e for e in compared(tmp_path).efforts}
    assert (efforts["later"].source, efforts["later"].steps) == ("trained weights", 100)
    assert (efforts["snip"].steps, efforts["snip"].seconds) == (40, pytest.approx(4.0))
    assert (efforts["imp"].steps, efforts["imp"].seconds) == (100, 10.0)


def test_a_mask_found_within_a_training_needs_nothing_before_it(tmp_path):
    moved = {"masking": {"_target_": "x.Gradual"}, "search": {"_target_": "x.Learned"}}
    found = [row(0, "ticket", seed, 0.9, density=0.25) for seed in range(3)]
    save(tmp_path / "gradual", found, pruner="gradual", node=moved)
    save(tmp_path / "imp", chain([1.0, 0.25]), pruner="imp")
    both = compared(tmp_path)
    efforts = {e.label: e for e in both.efforts}
    assert (efforts["gradual"].source, efforts["gradual"].steps) == ("its own training", 0)
    [gradual] = [line for line in both.sweep.settings if line.label == "gradual"]
    assert gradual.verdict.dense.n == 3  # judged against the dense network of the others
    assert gradual.verdict.of("ticket")[0].against_dense.difference == pytest.approx(-0.071)


def test_of_two_rounds_with_the_same_mask_the_ticket_counts(tmp_path):
    twice = [row(0, "ticket", 0, 0.5, density=0.25), row(1, "ticket", 0, 0.9, density=0.25)]
    save(tmp_path / "learned", twice, pruner="learned", node={"search": {"_target_": "x.Found"}})
    save(tmp_path / "imp", chain([1.0, 0.25]), pruner="imp")
    [line] = [x for x in compared(tmp_path).sweep.settings if x.label == "learned"]
    assert [level.mean for level in line.verdict.of("ticket")] == [0.9]


def test_the_page_every_figure_and_its_numbers_are_written(four, capsys):
    assert main([str(four)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Pruners, toy: 4 runs, 2 pruners" in said
    assert re.search(
        r"imp: shuffling its masks within layers costs 2.0 points \[[\d.]+, [\d.]+\] at 87.5 %",
        said,
    )
    page = (four / "pruners.html").read_text()
    for key in ("accuracy", "difference", "layers", "effort"):
        assert (four / f"pruners-{key}.png").stat().st_size > 5000
        assert f'href="pruners-{key}.csv"' in page
    assert "Sanity checks" in page
    assert not (four / "sweep.html").exists()  # one pruner's sparsities are a line of this page
    with (four / "pruners-layers.csv").open() as opened:
        found = {(x["pruner"], x["sparsity"], x["layer"]): x for x in csv.DictReader(opened)}
    assert float(found["imp", "0.875", "b.weight"]["density"]) == pytest.approx(0.0625)


def test_of_many_groups_of_pruners_the_largest_are_drawn_and_the_others_told(tmp_path):
    found = []
    for rate, pruners in (("0.1", ("a", "b")), ("0.2", ("a", "b", "c"))):
        for pruner in pruners:
            node = {"search": {"_target_": f"x.{pruner}"}}
            run = chain((0.2,))
            where = tmp_path / "toy" / f"{pruner}{rate}"
            found.append(save(where, run, pruner=pruner, node=node, train={"lr": rate}))
    text, written = compare_runs(found, tmp_path, most=1)
    assert "2 groups of runs that are alike but for their pruner: the 1 largest are drawn" in text
    pages = [path for path in written if path.suffix == ".html" and "pruners" in path.stem]
    assert [path.name for path in pages] == ["pruners.html"]
    assert ">c<" in pages[0].read_text()


def test_runs_are_named_by_the_option_chosen_not_by_its_parts(four):
    runs = [FinishedRun.load(path) for path in find_runs([four])]
    assert set(labels(runs)) == {
        f"pruner={p}, sparsity={s}" for p in ("imp", "snip") for s in ("0.75", "0.875")
    }


def test_one_option_with_other_keys_is_two_pruners(tmp_path):
    for rate in (0.2, 0.5):
        save(tmp_path / str(rate), chain([1.0, 0.25]), pruner="imp", node={"rate": rate})
    found = {line.label for line in compared(tmp_path).sweep.settings}
    assert found == {"imp (rate=0.2)", "imp (rate=0.5)"}


@pytest.mark.slow
def test_labels_of_any_length_leave_room_for_the_pictures(tmp_path):
    for number in (0, 1):
        long = {"outside": f"outputs/{'a_long_name_' * 9}{number}", "other": f"{number} " * 60}
        save(tmp_path / str(number), chain([1.0, 0.25]), pruner="imp", node=long)
    assert main([str(tmp_path)]) == 0
    for key in ("difference", "layers", "effort"):
        assert (tmp_path / f"pruners-{key}.png").stat().st_size > 5000


def test_one_pruner_or_another_recipe_is_no_comparison(four):
    runs = [FinishedRun.load(path) for path in find_runs([four])]
    assert not find_pruners([run for run in runs if run.pruner == "imp"])
    other = [
        dataclasses.replace(run, config={**run.config, "train": {"lr": 1}})
        for run in runs
        if run.pruner == "snip"
    ]
    assert not find_pruners([*(run for run in runs if run.pruner == "imp"), *other])


# --- names


def known(*overrides, params=None, **chosen):
    """Hydra's own config of a run, as far as names go."""
    chosen = {"model": "lenet300", "dataset": "digits", "pruner": "imp"} | chosen
    node = {"runtime": {"choices": chosen}, "overrides": {"task": list(overrides)}}
    return OmegaConf.create(node | {"sweeper": {"params": params}})


@pytest.mark.parametrize(
    ("given", "config", "name"),
    [
        ("digits_imp", known(), "digits_imp"),
        ("digits_imp", known(pruner="snip"), "lenet300_digits_snip"),
        ("digits_imp", known(dataset="own/rings"), "lenet300_own-rings_imp"),
        ("mine", known("name=mine", pruner="snip"), "mine"),
        ("digits_imp", known("name=digits_imp", pruner="snip"), "digits_imp"),
        ("digits_imp", known(experiment="digits_imp", pruner="snip"), "digits_imp"),
        ("digits_imp", known(sweep="sparsity", params={"pruner.sparsity": "0.5"}), "digits_imp"),
        ("digits_imp", known(sweep="pruners", params={"pruner": "a,b"}), "lenet300_digits_pruners"),
    ],
)
def test_a_run_without_a_name_is_named_after_what_was_chosen(given, config, name):
    assert run_name(given, config) == name


def test_the_root_config_is_what_its_name_stands_for(tmp_path):
    said = lth_run("--cfg", "all", f"paths.outputs={tmp_path}")
    whole = yaml.safe_load(said.out)
    assert whole["name"] == ROOT_NAME
    assert ROOT_CHOICES.items() <= whole["hydra"]["runtime"]["choices"].items()


def test_a_run_folder_says_what_was_chosen(tmp_path):
    arguments = [word for word in SMALL if not word.startswith("name=")]
    said = lth_run(*arguments, "record=local", "pruner=snip", f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    [folder] = (tmp_path / "mlp_synthetic_snip").iterdir()
    assert status_of(folder)["name"] == "mlp_synthetic_snip"
    assert FinishedRun.load(folder).pruner == "snip"
