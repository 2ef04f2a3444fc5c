"""What pages say at a glance, and that they say it of any measure."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from lth_runner.cli.report import main
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.rows import find_runs
from lth_runner.runs.evidence.settings import labels, natural, seed_groups, sorted_by_settings
from lth_runner.runs.evidence.sweep import find_sweeps
from lth_runner.runs.pages.wording import axis
from lth_runner.runs.report import FinishedRun, write
from lth_runner.runs.report.compare import compare
from lth_runner.runs.report.curve import drawn_curve
from lth_runner.runs.report.headline import headline
from lth_runner.runs.report.instruments import DEFAULT, panels
from lth_runner.runs.report.panels import difference_panel, learning_panels
from lth_runner.runs.report.sweep_figures import outcome_figure
from lth_runner.runs.report.sweep_page import write_sweep
from lth_runner.runs.report.table import round_table
from lth_runner.values.errors import UserError

MATTHEWS = {"name": "matthews", "better": "higher", "unit": "", "scale": 1.0, "chance": 0.0}
PERPLEXITY = {"name": "perplexity", "better": "lower", "unit": "", "scale": 1, "chance": 256}
R2 = {"name": "r2", "better": "higher", "unit": "", "scale": 1, "chance": 0.0}


def row(round, arm, seed, value, *, field="test_accuracy", density=None, **extra):
    density = 0.5**round if density is None else density
    return {"round": round, "arm": arm, "seed": seed, "density": density, "sparsity": 1 - density,
            field: value, "steps": 10, **extra}  # fmt: skip


def run_of(folder, rows, *, measure=None, problem=None, state="done", command=None, **config):
    folder.mkdir(parents=True)
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    (folder / "config.yaml").write_text(json.dumps({"name": "toy"} | config))
    (folder / "status.json").write_text(json.dumps({"state": state, "command": command}))
    if measure is not None:
        facts = {"objective": "Any", "measures": [measure]} | (problem or {})
        (folder / "problem.json").write_text(json.dumps(facts))
    return FinishedRun.load(folder)


def perplexities(folder, ticket=12.2, control=14.0, dense=12.0, **config):
    rows = []
    for seed in range(3):
        noise, field = 0.01 * seed, "test_perplexity"
        rows.append(row(0, "ticket", seed, dense + noise, field=field))
        rows.append(row(1, "ticket", seed, ticket + 2 * noise, field=field))
        rows.append(row(1, "reinit", seed, control + 3 * noise, field=field))
    return run_of(folder, rows, measure=PERPLEXITY, report={"tolerance": "2%"}, **config)


# --- any measure


def test_what_is_better_when_lower_matches_from_above_and_beats_by_being_lower(tmp_path):
    run = perplexities(tmp_path / "run", ticket=12.1)
    verdict = judge(run)
    ticket, control = verdict.at("ticket", 1), verdict.at("reinit", 1)
    assert verdict.tolerance == pytest.approx(0.02 * 12.01)
    assert ticket.against_dense.difference == pytest.approx(-0.11)  # a gain: negative is worse
    assert (ticket.matches, control.matches, control.ticket_is_better) == ("shown", "refuted", True)
    said = headline(verdict)
    assert "12.12 ± 0.02 against 12.01 ± 0.01 perplexity, n = 3" in said.sentence
    assert "worse than the ticket: its re-initialisation" in said.text
    assert "%" not in said.sentence.replace("50 %", "")
    assert round_table(run, verdict)[1][1][-1] == "shown > control"


def test_a_ticket_that_is_lower_by_far_never_fails_to_match(tmp_path):
    verdict = judge(perplexities(tmp_path / "run", ticket=3.0, control=3.0))
    assert verdict.at("ticket", 1).matches == "shown"
    assert verdict.at("ticket", 1).against_dense.p_above(-0.24) < 0.001


@pytest.mark.parametrize(("dense", "at_chance"), [(244.0, True), (240.0, False)])
def test_chance_is_the_objective_s_own(tmp_path, dense, at_chance):
    assert judge(perplexities(tmp_path / "run", dense=dense)).at_chance is at_chance


def test_axis_and_page_are_of_the_measure(tmp_path):
    run = perplexities(tmp_path / "run")
    axes = drawn_curve([run]).axes[0]
    assert axes.get_ylabel() == axis(run.measure) == "test perplexity (lower is better)"
    assert max(axes.lines[0].get_ydata()) < 20  # not times 100
    write(run.folder)
    page = (run.folder / "report.html").read_text()
    assert "ccuracy" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_a_folder_without_a_problem_is_of_accuracy_with_the_chance_of_its_classes(tmp_path):
    run = run_of(tmp_path / "run", [row(0, "ticket", 0, 0.9)], dataset={"num_classes": 4})
    assert (run.measure.name, run.measure.chance, run.outcome) == (
        "accuracy",
        0.25,
        "test_accuracy",
    )
    assert run.tolerance.of(0.9) == 0.005


@pytest.mark.parametrize("tolerance", ["100%", "two", -1, "-2%"])
def test_a_tolerance_that_is_neither_amount_nor_share_is_refused(tmp_path, tolerance):
    run = run_of(tmp_path / "run", [], measure=R2, report={"tolerance": tolerance})
    with pytest.raises(UserError, match=r"report\.tolerance"):
        judge(run)


def test_a_mask_over_little_of_a_network_is_told_by_its_share_of_all(tmp_path):
    facts = {"num_parameters": 1000, "num_prunable": 10}
    rows = [row(r, "ticket", 0, 0.5, field="test_r2", **facts) for r in range(2)]
    run = run_of(tmp_path / "run", rows, measure=R2)
    said = headline(judge(run))
    assert (said.number, said.about.split(" removed")[0]) == (
        "0.5 %", "of all parameters (50 % of the covered weights)",
    )  # fmt: skip
    write(run.folder)
    page = (run.folder / "report.html").read_text()
    assert "a mask covers 1 % of all parameters, the sparsest removes 0.5 % of all" in page


# --- at a glance


def chain(arms=("ticket",), num=15, seeds=2, fall=0.002, **extra):
    return [row(r, arm, s, 0.95 - fall * r - 0.001 * s, density=0.8**r, **extra)
            for r in range(num) for arm in (arms if r else arms[:1])
            for s in range(seeds)]  # fmt: skip


def test_a_long_table_folds_with_first_last_and_match_in_view(tmp_path):
    run = run_of(tmp_path / "run", chain(num=20))
    write(run.folder)
    page = (tmp_path / "run" / "report.html").read_text()
    rounds = page[page.index("<h2>Rounds") : page.index("<h2>", page.index("<h2>Rounds") + 1)]
    short, folded = rounds.split("<details>")
    shown = re.findall(r"<tr><td>(\d+)</td>", short)
    assert shown[0] == "0"
    assert shown[-1] == "19"
    assert str(judge(run).marked().round) in shown
    assert len(shown) < 8
    assert len(re.findall(r"<tr><td>\d+</td>", folded)) == 20
    assert "all 20 rows" in folded


def test_ticks_stand_apart_and_the_last_is_labelled(tmp_path):
    figure = drawn_curve([run_of(tmp_path / "run", chain(num=19))])
    axes = figure.axes[0]
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
    boxes.sort(key=lambda box: box.x0)
    assert all(a.x1 + 4 < b.x0 for a, b in pairwise(boxes))
    assert {label.get_text() for label in axes.get_xticklabels()} >= {"100", f"{80 * 0.8**17:.3g}"}


def test_no_loss_is_clipped_from_the_difference_to_dense(tmp_path):
    rows = chain(num=4)
    rows += [row(r, "shuffle", s, 0.9 - 0.25 * r + 0.01 * s, density=0.8**r)
             for r in range(1, 4) for s in range(2)]  # fmt: skip
    run = run_of(tmp_path / "run", rows)
    axes = difference_panel(run, judge(run)).figure.axes[0]
    low, high = axes.get_ylim()
    heights = [y for line in axes.lines for y in line.get_ydata()]
    assert low < min(heights) < -70
    assert max(heights) < high
    assert len([tick for tick in axes.get_yticks() if -1.5 <= tick <= 1.5]) >= 5


@pytest.mark.parametrize(("overlap", "shown"), [(0.8, False), (0.7, True)])
def test_the_overlap_of_nested_masks_is_not_drawn(tmp_path, overlap, shown):
    rows = [one | ({"mask_overlap_previous": overlap} if one["round"] else {}) for one in chain()]
    run = run_of(tmp_path / "run", rows)
    assert ("overlap" in [p.key for p in panels(DEFAULT, run, judge(run))]) is shown


def test_a_single_round_is_told_in_numbers_and_not_drawn(tmp_path):
    extra = {"sign_preservation": 0.75, "layer_density": {"a": 1.0}}
    run = run_of(tmp_path / "run", chain(num=1, **extra), state="interrupted")
    assert drawn_curve([run]) is None
    picture, page = write(run.folder)
    text = page.read_text()
    assert picture.stat().st_size > 1000
    assert "<svg" not in text
    assert "<td>Sign preservation</td><td>ticket, its survivors</td><td>0.75</td>" in text


# --- several runs


def test_runs_are_sorted_by_their_numbers_and_seeds_are_one(tmp_path):
    runs = [
        run_of(tmp_path / f"{10 - i}{seed}", chain(num=3, seeds=1) if not seed else
               [one | {"seed": seed} for one in chain(num=3, seeds=1)],
               train={"optimizer": {"learning_rate": rate}}, seed=seed)
        for i, rate in enumerate((0.1, 0.02, 0.003))
        for seed in (0, 1)
    ]  # fmt: skip
    ordered = sorted_by_settings(runs)
    rates = [run.config["train"]["optimizer"]["learning_rate"] for run in ordered]
    assert rates == [0.003, 0.003, 0.02, 0.02, 0.1, 0.1]
    groups = seed_groups(ordered)
    assert [len(group) for group in groups] == [2, 2, 2]
    assert labels([group[0] for group in groups]) == [
        f"learning_rate={rate}" for rate in (0.003, 0.02, 0.1)
    ]
    text, files = compare(runs, tmp_path)
    assert [line.split()[:2] for line in text.splitlines()[2:]] == [
        [f"learning_rate={rate}", "2"] for rate in (0.003, 0.02, 0.1)
    ]
    assert files[2].read_text().count("\n") == 1 + 6


def test_runs_that_are_one_are_not_called_by_the_seed_of_the_first(tmp_path):
    runs = [
        run_of(tmp_path / f"{rate}-{seed}", [one | {"seed": seed} for one in chain(num=3, seeds=1)],
               train={"lr": rate}, seed=seed, replicates=1)
        for rate, seed in ((0.1, 0), (0.1, 1), (0.2, 5))
    ]  # fmt: skip
    table, _ = compare(runs, tmp_path)
    names = [line.split("  ")[0] for line in table.splitlines()[2:]]
    assert names == ["train.lr=0.1", "train.lr=0.2, seed=5"]


def test_durations_and_texts_sort_by_the_numbers_in_them():
    assert sorted(["10it", "2it", "100it"], key=natural) == ["2it", "10it", "100it"]
    assert sorted(["a10", None, "a9", 3], key=natural) == [None, 3, "a9", "a10"]


def swept(tmp_path, ways):
    for sparsity, way in ways.items():
        rows = [row(r, "ticket", s, 0.9 - 0.02 * r + s / 1e3, density=kept)
                for r, kept in enumerate((1.0, *way, 1 - sparsity)) for s in range(2)]  # fmt: skip
        run_of(tmp_path / str(sparsity), rows, pruner={"sparsity": sparsity})
    [sweep] = find_sweeps([FinishedRun.load(folder) for folder in find_runs([tmp_path])])
    return sweep


def test_points_that_share_no_tickets_are_not_joined_and_a_warning_says_so(tmp_path):
    sweep = swept(tmp_path, {0.5: (0.71,), 0.9: (0.32,)})
    assert not sweep.settings[0].is_chain
    line = outcome_figure(sweep).axes[0].lines[0]
    assert line.get_linestyle() == "None"
    assert list(line.get_xdata()) == pytest.approx([50, 10])  # last tickets alone
    page = write_sweep(sweep, tmp_path)[0].read_text()
    assert "share no tickets on the way" in page


def test_a_chain_of_rounds_is_joined_without_a_warning(tmp_path):
    sweep = swept(tmp_path, {0.5: (0.8, 0.64), 0.7: (0.8, 0.64, 0.512)})
    assert sweep.settings[0].is_chain
    assert list(outcome_figure(sweep).axes[0].lines[0].get_xdata()) == pytest.approx(
        [100, 80, 64, 51.2, 50, 30]
    )
    assert "share no tickets" not in write_sweep(sweep, tmp_path)[0].read_text()


def test_a_model_that_is_not_to_be_trusted_is_not_drawn(tmp_path):
    for step in (5, 50):
        run_of(tmp_path / str(step), chain(num=4), rewind={"step": f"{step}it"},
               pruner={"sparsity": 0.488})  # fmt: skip
    [sweep] = find_sweeps([FinishedRun.load(folder) for folder in find_runs([tmp_path])])
    files = [path.name for path in write_sweep(sweep, tmp_path)]
    assert not sweep.fit.trusted
    assert "sweep-tradeoff.png" not in files
    assert "sweep-tradeoff.csv" in files
    page = (tmp_path / "sweep.html").read_text()
    assert "<summary>The trade-off of rewind step and sparsity: no model to rely on" in page
    assert "Do not trust this fit: fewer than 3 rewind steps (2)" in page


def test_a_refused_point_is_named_with_what_was_told(tmp_path, capsys):
    said = {p: f"lth-run name=toy pruner={p} pruner.sparsity=0.5" for p in ("imp", "snip", "force")}
    for pruner in ("imp", "snip"):
        node = {"sparsity": 0.5, "search": {"score": {"_target_": f"x.{pruner}"}}}
        run_of(tmp_path / "toy" / pruner, chain(num=2), command=said[pruner], pruner=node)
    folder = tmp_path / "sweeps" / "now"
    folder.mkdir(parents=True)
    lines = [{"command": one, "name": None} for one in said.values()]
    (folder / "points.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines))
    failed = {"command": said["force"], "error": "force needs rounds", "status": 2}
    again = {"command": said["snip"], "error": "mended since", "status": 2}
    (folder / "failures.jsonl").write_text(f"{json.dumps(failed)}\n{json.dumps(again)}\n")
    assert main([str(tmp_path / "toy")]) == 0
    assert "No run of pruner=force: force needs rounds." in " ".join(
        capsys.readouterr().out.split()
    )
    page = (tmp_path / "toy" / "pruners.html").read_text()
    assert "No run of pruner=force: force needs rounds." in page
    assert "mended since" not in page


def test_a_learning_curve_leaves_out_steps_at_which_not_all_seeds_were_measured(tmp_path):
    rows = [row(0, "ticket", seed, 0.9) for seed in range(2)]
    folder = run_of(tmp_path / "run", rows).folder
    figures = {0: {10: 0.5, 20: 0.7, 30: 0.8, 40: 0.75}, 1: {10: 0.7, 20: 0.9, 40: 0.85}}
    metrics = [
        {"round": 0, "arm": "ticket", "seed": seed, "step": step, "val_accuracy": 0.5}
        | ({"test_accuracy": figures[seed][step]} if step in figures[seed] else {})
        for seed in figures for step in (10, 20, 30, 40)
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in metrics))
    run = FinishedRun.load(folder)
    test, val = (panel.figure.axes[0].get_lines()[0] for panel in learning_panels(run, judge(run)))
    assert list(test.get_xdata()) == [10, 20, 40]
    assert list(test.get_ydata()) == pytest.approx([60, 80, 80])
    assert list(val.get_xdata()) == [10, 20, 30, 40]


@pytest.mark.filterwarnings("error::UserWarning")  # matplotlib's, of limits that coincide
def test_a_measure_that_stays_at_nothing_has_axes_all_the_same(tmp_path):
    rows = [row(number, "ticket", 0, 0.9, density=0.5**number) for number in range(2)]
    told = {f"{split}_matthews": 0.0 for split in ("test", "val")}
    folder = run_of(tmp_path / "run", [one | told for one in rows]).folder
    metrics = [{"round": 0, "arm": "ticket", "seed": 0, "step": step} | told for step in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in metrics))
    (folder / "problem.json").write_text(json.dumps({"measures": [MATTHEWS]}))
    run = FinishedRun.load(folder)
    figures = [panel.figure for panel in learning_panels(run, judge(run))] + [drawn_curve([run])]
    for figure in figures:
        low, high = figure.axes[0].get_ylim()
        assert low < 0 < high
