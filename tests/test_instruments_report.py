"""What probes measured, on the page and in words: panels, correlations, overlaps, grids."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lth_runner.runs.evidence.correlations import Point, correlations, ranks, spearman, within
from lth_runner.runs.evidence.grid import grid_of
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.overlap import seed_overlaps
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.report import FinishedRun, write
from lth_runner.runs.report.compare import compare
from lth_runner.runs.report.instruments import INSTRUMENTS, panels
from lth_runner.runs.report.learning import learning_sentence
from lth_runner.runs.report.run_text import table
from lth_runner.values import state as states

PROBE_DOCS = (Path(__file__).parents[1] / "docs").glob("*.md")
PAIR = (0, 1)
LISTS = {"trajectory_steps": [1, 2, 4]}
DEFAULT = {"density", "jaccard_chance", "test_accuracy"}  # of rows without any other probe


def row(round, arm, seed, accuracy, **extra):
    density = 0.5**round
    return {"round": round, "arm": arm, "seed": seed, "density": density, "sparsity": 1 - density,
            "test_accuracy": accuracy, **extra}  # fmt: skip


def run_of(folder: Path, rows, **config) -> FinishedRun:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    (folder / "config.yaml").write_text(json.dumps({"name": "toy"} | config))
    (folder / "status.json").write_text(json.dumps({"state": "done"}))
    return FinishedRun.load(folder)


def grown(tmp_path: Path, value, *fields: str, **config) -> FinishedRun:
    rows = [
        row(r, arm, s, 0.9 - 0.01 * r + 0.001 * s, **dict.fromkeys(fields, value(r, s)), **LISTS)
        for r in range(3)
        for arm in (("ticket", "reinit") if r else ("ticket",))
        for s in range(2)
    ]
    return run_of(tmp_path, rows, **config)


def fields_of(instrument) -> set[str]:
    return {one.field.format(measure="accuracy") for one in instrument.fields}


# --- panels


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda one: one.key)
def test_a_panel_appears_where_its_field_was_recorded_and_only_there(instrument, tmp_path):
    first = instrument.fields[0].field.format(measure="accuracy")
    value = {"curve": [0.1, 0.3, 0.2], "layer": {"a": 0.1, "b": 0.2}, "step": {"0": 0.1, "9": 0.0},
             "bin": {"0.25": 0.1, "0.75": 0.6}}  # fmt: skip
    value["matrix"] = value["layer"]
    made = value.get(first.rsplit("_", 1)[-1], 0.3)
    fields = fields_of(instrument) - DEFAULT
    run = grown(tmp_path / "with", lambda r, s: made, *fields)
    panel = next(p for p in panels(INSTRUMENTS, run, judge(run)) if p.key == instrument.key)
    assert panel.figure.axes[0].lines
    bare = grown(tmp_path / "without", lambda r, s: None, first)
    assert panels(INSTRUMENTS, bare, judge(bare)) == []


def test_every_field_that_is_drawn_is_one_that_the_documents_name():
    named = "".join(path.read_text() for path in PROBE_DOCS)
    drawn = set().union(*map(fields_of, INSTRUMENTS))
    missing = {field for field in drawn if field not in named and not field.startswith("start_end")}
    # the documents name the other splits as "likewise": these alone are not spelt out
    assert missing <= {"error_test_recomputed_curve", "start_end_error_test_curve"}


def test_keys_of_panels_differ():
    keys = [one.key for one in INSTRUMENTS]
    assert len(set(keys)) == len(keys)


def test_a_line_is_the_mean_over_seeds_at_each_density(tmp_path):
    run = grown(tmp_path, lambda r, s: r + s, "gradient_energy")
    (panel,) = panels(INSTRUMENTS, run, judge(run))
    first = panel.figure.axes[0].lines[0]
    assert list(first.get_xdata()) == pytest.approx([100, 50, 25])
    assert list(first.get_ydata()) == pytest.approx([0.5, 1.5, 2.5])


def test_densities_by_name_are_drawn_over_the_density_of_all(tmp_path):
    run = grown(tmp_path, lambda r, s: {"query": 0.5**r * (1 + s), "key": 0.0}, "density_by_matrix")
    (panel,) = panels(INSTRUMENTS, run, judge(run))
    query, key = panel.figure.axes[0].lines[:2]
    assert list(query.get_xdata()) == pytest.approx([100, 50, 25])
    assert list(query.get_ydata()) == pytest.approx([1.5] * 3)
    assert list(key.get_ydata()) == [0] * 3


def test_barriers_are_drawn_in_points_beside_the_tolerance_of_the_config(tmp_path):
    probe = {"instability": {"tolerance": 0.05}}
    run = grown(tmp_path, lambda r, s: 0.1, "barrier_test", probe=probe)
    (panel,) = panels(INSTRUMENTS, run, judge(run))
    heights = [line.get_ydata()[0] for line in panel.figure.axes[0].lines]
    assert heights == pytest.approx([10, 10, 5])  # ticket, reinit, the level


def test_instability_by_step_is_drawn_by_number_not_by_text(tmp_path):
    steps = {"0": 0.3, "100": 0.1, "20": 0.2}
    run = grown(tmp_path, lambda r, s: steps, "instability_by_step")
    (panel,) = panels(INSTRUMENTS, run, judge(run))
    assert list(panel.figure.axes[0].lines[0].get_xdata()) == [0, 20, 100]


@pytest.mark.parametrize(("flag", "said"), [(1, "counting bound is vacuous in every row"), (0, "")])
def test_a_vacuous_bound_is_said_to_be_so(tmp_path, flag, said):
    run = grown(tmp_path, lambda r, s: flag, "mdl_bound_vacuous")
    run = replace(run, rows=tuple({**row, "mdl_bound": 0.9} for row in run.rows))
    panel = next((p for p in panels(INSTRUMENTS, run, judge(run)) if p.key == "bounds"), None)
    assert panel is not None
    assert said in panel.reading
    assert ("vacuous in" in panel.reading) == bool(said)


# --- correlations


def test_ties_share_the_mean_of_their_ranks():
    assert ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1, 3.5, 2]


def test_spearman_worked_by_hand():
    # ranks 1 2 3 4 5 and 2 1 4 3 5: differences 1 1 1 1 0, rho = 1 - 6 * 4 / (5 * 24) = 0.8
    assert spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50]) == pytest.approx(0.8)
    assert spearman([1, 1, 1], [1, 2, 3]) is None


def drawn(rng, *, seeds, arms, of_seed):
    """Two quantities that have nothing to do with each other but seeds, rounds and arms."""
    own = {seed: (rng.gauss(0, of_seed), rng.gauss(0, of_seed)) for seed in range(seeds)}
    return [
        Point(f"{round} {arm}", seed, own[seed][0] + rng.gauss(0, 1) + 3 * arm + round,
              own[seed][1] + rng.gauss(0, 1) + 3 * arm + round)
        for arm in range(arms) for round in range(15) for seed in range(seeds)
    ]  # fmt: skip


@pytest.mark.parametrize(("seeds", "arms", "of_seed"), [(3, 1, 0), (3, 3, 1), (10, 1, 1)])
def test_what_seeds_rounds_and_arms_make_is_told_no_oftener_than_chance(seeds, arms, of_seed):
    rng, num = random.Random(0), 120
    found = [within(drawn(rng, seeds=seeds, arms=arms, of_seed=of_seed)) for _ in range(num)]
    assert (
        sum(one.p is not None and one.p < 0.05 for one in found) <= 12
    )  # 6 expected; more than 12: p = 0.005


def test_a_relation_within_rounds_and_arms_is_told():
    rng = random.Random(1)
    points = drawn(rng, seeds=7, arms=2, of_seed=1)
    linked = [point._replace(y=point.y + 2 * point.x) for point in points]
    found = within(linked)
    assert found.n == 7
    assert found.p < 0.05
    assert 0.5 < found.low < found.r < found.high < 1


def test_a_quantity_that_density_settles_has_no_correlation_within_a_round(tmp_path):
    run = grown(tmp_path, lambda r, s: float(r), "chi")
    found = {one.field: one for one in correlations(run)}
    assert found["chi"].raw < -0.9
    assert found["chi"].within is None


def test_default_probes_alone_have_no_table_and_others_have_one_in_text_too(tmp_path):
    plain = grown(tmp_path / "plain", lambda r, s: 0.1 * r + 0.01 * s, "jaccard_z")
    assert correlations(plain) == ()
    assert "Spearman" not in table(plain)
    more = grown(tmp_path / "more", lambda r, s: 0.1 * r + 0.01 * s, "jaccard_z", "chi")
    assert {one.field for one in correlations(more)} == {"chi", "jaccard_z", "density"}
    text = table(more)
    assert "Spearman" in text
    assert max(map(len, text.splitlines())) <= 100
    write(more.folder)
    assert "What goes with accuracy" in (more.folder / "report.html").read_text()


# --- learning faster


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((60, 61, 62), "The ticket learns faster: its lowest validation loss comes at step 61"),
        ((160, 161, 163), "The ticket learns more slowly"),
        ((60, 140, 101), "learns faster is not shown"),
    ],
)
def test_sentence_says_whether_the_ticket_learns_faster(tmp_path, steps, words):
    rows = [row(0, TICKET, s, 0.9, best_val_step=100 + s % 2) for s in range(3)]
    rows += [row(1, TICKET, s, 0.9, best_val_step=step) for s, step in enumerate(steps)]
    run = run_of(tmp_path, rows)
    assert words in learning_sentence(run, judge(run))


def test_one_replicate_and_no_match_say_nothing_of_speed(tmp_path):
    rows = [row(0, TICKET, 0, 0.9, best_val_step=9), row(1, TICKET, 0, 0.9, best_val_step=5)]
    run = run_of(tmp_path / "one", rows)
    assert "these replicates cannot say" in learning_sentence(run, judge(run))
    rows[1]["test_accuracy"] = 0.5
    run = run_of(tmp_path / "none", rows)
    assert learning_sentence(run, judge(run)) == ""


# --- overlap between seeds


def save_ticket(folder: Path, name: str, kept: dict[str, list[int]]) -> None:
    (folder / "tickets").mkdir(exist_ok=True)
    masks = {f"mask.{layer}": torch.tensor(bits).bool() for layer, bits in kept.items()}
    states.save(folder / "tickets" / name, masks | {"weights.a": torch.ones(4)}, {"format": "1"})


def test_overlap_between_seeds_and_its_chance_worked_by_hand(tmp_path):
    run = run_of(tmp_path, [row(0, TICKET, 0, 0.9)])
    save_ticket(tmp_path, "round-02.safetensors", {"a": [1, 1, 0, 0], "b": [1, 1, 1, 0]})
    save_ticket(tmp_path, "round-02-seed-1.safetensors", {"a": [1, 0, 1, 0], "b": [1, 1, 1, 0]})
    save_ticket(tmp_path, "round-01.safetensors", {"a": [1, 1, 0, 0]})  # of one seed alone
    (found,) = seed_overlaps(run)
    # shared 1 + 3, in either 3 + 3. Chance: a .5 * .5 * 4 = 1 of .75 * 4 = 3; b .75^2 * 4 = 2.25
    # of .9375 * 4 = 3.75; in one: d = 5 / 8, d / (2 - d)
    assert (found.of, found.num_seeds, found.jaccard) == ("2", 2, pytest.approx(4 / 6))
    assert found.shuffled == pytest.approx(3.25 / 6.75)
    assert found.random == pytest.approx(0.625 / 1.375)
    assert "overlap by 0.6667" in " ".join(table(run).split())


def test_dense_rounds_and_torn_tickets_are_left_out(tmp_path):
    run = run_of(tmp_path, [row(0, TICKET, 0, 0.9)])
    for name in ("round-00.safetensors", "round-00-seed-1.safetensors"):
        save_ticket(tmp_path, name, {"a": [1, 1]})
    for name in ("round-01.safetensors", "round-01-seed-1.safetensors"):
        (tmp_path / "tickets" / name).write_bytes(b"torn")
    assert seed_overlaps(run) == ()


# --- two settings against each other


def points(tmp_path: Path, norms=("batch", "none"), sizes=(15, 240)) -> list[FinishedRun]:
    return [
        run_of(
            tmp_path / f"{norm}{size}",
            [row(r, TICKET, s, 0.9 - r / 10 - (norm == "none") / 8) for r in PAIR for s in PAIR],
            model={"norm": norm}, train={"batch_size": size},
        )
        for norm in norms
        for size in sizes
    ]  # fmt: skip


def test_runs_by_normaliser_and_batch_size_are_one_grid(tmp_path):
    text, files = compare(points(tmp_path), tmp_path)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "model.norm batch_size=15 batch_size=240" in lines
    assert any(line.startswith("none 67.50 ± 0.00 / 77.50 ± 0.00") for line in lines)
    assert "model.norm by train.batch_size" in files[0].read_text()


def test_a_grid_needs_two_settings_and_four_runs(tmp_path):
    runs = points(tmp_path)
    found = {"model.norm": ["a", "a", "b", "b"], "train.batch_size": [1, 2, 1, 2]}
    assert grid_of(runs, found) is not None
    assert grid_of(runs, found | {"train.length": [1, 2, 3, 4]}) is None
    assert grid_of(runs, {"model.norm": ["a", "a", "b", "b"], "seed": [1, 2, 1, 2]}) is None
    assert (
        grid_of(runs, {"model.norm": ["a", "a", "b", "b"], "train.batch_size": [1, 1, 1, 2]})
        is None
    )
    assert grid_of(runs[:3], {key: values[:3] for key, values in found.items()}) is None
