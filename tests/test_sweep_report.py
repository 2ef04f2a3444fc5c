"""The report of a sweep: tickets that obey the trade-off model, and what is read out of them."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import random
from pathlib import Path

import pytest
import torch

from lth_runner.cli.report import main
from lth_runner.runs.evidence.overlap import step_overlaps
from lth_runner.runs.evidence.rows import FinishedRun, find_runs, rewind_step
from lth_runner.runs.evidence.settings import differences
from lth_runner.runs.evidence.sweep import find_sweeps, thinned
from lth_runner.runs.report.sweep_matching import matching, matching_table
from lth_runner.runs.report.sweep_page import write_sweep
from lth_runner.runs.report.sweep_text import extent, model_sentence, text
from lth_runner.values import state as states

DENSE, TAU, LATE, EARLY = 0.92, 400.0, 0.005, 0.03
TOTAL = 10_000


def model(step, sparsity):
    return DENSE * (1 - sparsity) ** (LATE + EARLY * math.exp(-step / TAU))


def key(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def densities(sparsity, rate=0.2):
    found = [1.0]
    while found[-1] * (1 - rate) > (1 - sparsity) * (1 + 1e-9):
        found.append(found[-1] * (1 - rate))
    return [*found, 1 - sparsity]


def fake_run(
    folder: Path, *, step, sparsity, seeds=(0,), accuracy=model, noise=0.0, rounds=None,
    state="done", store=None, controls=(), text=None, config=None, status=None,
):  # fmt: skip
    """`accuracy(step, sparsity)` of the tickets; `store`: keys of trainings that need not run."""
    store = set() if store is None else store
    rows = []
    for number, density in enumerate(densities(sparsity)[: None if rounds is None else rounds + 1]):
        for arm in ("ticket", *(controls if number else ())):
            for seed in seeds:
                start = step if number else 0
                chain = densities(sparsity)[: number + 1]
                name = key(start, chain, arm, seed)
                mean = accuracy(step, 1 - density) if number else DENSE
                value = mean + random.Random(name).gauss(0, noise) - 0.02 * (arm != "ticket")
                rows.append({
                    "round": number, "arm": arm, "seed": seed, "density": density,
                    "sparsity": 1 - density, "test_accuracy": value, "start_step": start,
                    "steps": TOTAL - start, "reused": name in store, "training_key": name,
                    "diverged": False, "num_kept": round(1000 * density),
                })  # fmt: skip
                store.add(name)
    folder.mkdir(parents=True)
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    step_text = f"{step}it" if text is None else text
    settings = {
        "name": "toy", "seed": seeds[0], "replicates": len(seeds),
        "report": {"tolerance": 0.005}, "model": {"name": "net"}, "train": {"length": "20ep"},
        "pruner": {
            "sparsity": sparsity, "rate": 0.2,
            "search": {"schedule": {"sparsity": sparsity}, "rewind": {"step": step_text}},
        },
        "rewind": {"step": step_text, "lr_clock": "rewind"},
    }  # fmt: skip
    (folder / "config.yaml").write_text(json.dumps(settings | (config or {})))  # JSON is YAML
    (folder / "status.json").write_text(json.dumps({"state": state, **(status or {})}))
    return folder


def fake_sweep(root: Path, *, steps, sparsities, seeds=(0,), as_replicates=False, **options):
    """A run for each (step, sparsity, seed), or for each (step, sparsity) with replicates."""
    store = options.pop("store", set())
    groups = [tuple(seeds)] if as_replicates else [(seed,) for seed in seeds]
    return [
        fake_run(root / key(step, sparsity, group), step=step, sparsity=sparsity, seeds=group,
                 store=store, **options)
        for step in steps for sparsity in sparsities for group in groups
    ]  # fmt: skip


def load(root):
    return [FinishedRun.load(folder) for folder in find_runs([root])]


def sweep_of(root):
    (sweep,) = find_sweeps(load(root))
    return sweep


def read(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


# --- reading the runs -------------------------------------------------------------------------

STEPS, SPARSITIES = (200, 500, 1000), (0.5, 0.8)


def test_a_sweep_recovers_the_model_that_made_its_runs(tmp_path):
    fake_sweep(tmp_path, steps=(0, 200, 500, 1000), sparsities=(0.5, 0.9), seeds=(0, 1, 2),
               noise=0.001)  # fmt: skip
    sweep = sweep_of(tmp_path)
    assert sweep.fit.model.tau == pytest.approx(TAU, rel=0.1)
    assert sweep.fit.model.b_0 == pytest.approx(EARLY, rel=0.1)
    assert sweep.fit.trusted
    assert sweep.fit.num_points == 3 * (1 + 4 * 12)  # dense once a seed, 12 sparsities on the way
    assert "No reason was found to distrust" in model_sentence(sweep)
    assert "By the model a ticket loses no more than the tolerance up to s_max = " in text(
        sweep
    ).replace("\n", " ")


@pytest.mark.parametrize("as_replicates", [True, False])
def test_seeds_count_alike_as_runs_and_as_replicates(tmp_path, as_replicates):
    fake_sweep(tmp_path, steps=STEPS, sparsities=SPARSITIES, seeds=(0, 1, 2), noise=0.002,
               as_replicates=as_replicates)  # fmt: skip
    sweep = sweep_of(tmp_path)
    assert len(sweep.runs) == 6 * (1 if as_replicates else 3)
    assert (sweep.seeds, sweep.dense.n) == ((0, 1, 2), 3)
    assert [column.sparsity for column in sweep.shown] == pytest.approx(SPARSITIES)
    # .5: .8 .64 .512 .5; .8: the first three shared, .4096 .32768 .262144 .2097152 .2
    assert len(sweep.columns) == 9
    assert all(line.at(column).n == 3 for line in sweep.settings for column in sweep.columns)


def test_a_training_of_several_runs_counts_once_and_its_steps_as_reused(tmp_path):
    fake_sweep(tmp_path, steps=(500,), sparsities=SPARSITIES)
    sweep = sweep_of(tmp_path)
    rows = sweep.settings[0].run.rows
    assert len(rows) == len({row["training_key"] for row in rows}) == 1 + 9
    # asked: dense twice, 4 and 8 rounds from step 500; the .8 run finds dense and 3 rounds done
    cost = sweep.cost
    assert (cost.asked, cost.num_trainings) == (2 * 10_000 + 12 * 9_500, 14)
    assert (cost.reused, cost.num_reused) == (10_000 + 3 * 9_500, 4)
    assert cost.run == 10_000 + 9 * 9_500
    assert cost.replayed is None
    assert "134,000 asked for in 14 trainings, 95,500 run in 10, 38,500 (29 %)" in text(
        sweep
    ).replace("\n", " ")


def test_replayed_steps_are_added_where_runs_recorded_them(tmp_path):
    for step, status in ((0, {}), (500, {"steps": {"replayed": 30}})):
        fake_run(tmp_path / str(step), step=step, sparsity=0.5, status=status)
    fake_run(tmp_path / "x", step=500, sparsity=0.8, status={"steps": {"replayed": 12}})
    assert sweep_of(tmp_path).cost.replayed == 42


def test_a_sweep_of_runs_of_several_names_is_called_by_all_of_them(tmp_path):
    for name, step in (("one", 0), ("other", 500)):
        fake_run(tmp_path / name, step=step, sparsity=0.5, config={"name": name})
    assert extent(sweep_of(tmp_path)).startswith("Sweep one, other: 2 runs, 2 rewind steps, ")


def test_two_trainings_of_one_seed_are_averaged_and_count_as_one(tmp_path):
    for name, shift in (("a", 0.0), ("b", 0.02)):
        folder = fake_run(tmp_path / name, step=0, sparsity=0.5, accuracy=lambda k, s: 0.9)
        rows = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
        rows = [row | {"test_accuracy": row["test_accuracy"] + shift,
                       "training_key": row["training_key"] + name} for row in rows]  # fmt: skip
        (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    fake_run(tmp_path / "c", step=500, sparsity=0.5)
    level = sweep_of(tmp_path).settings[0].verdict.at("ticket", 1)
    assert (level.n, level.mean) == (1, pytest.approx(0.91))


def test_heat_map_cells_worked_by_hand_and_missing_ones_left_out(tmp_path):
    table = {(0, 0.5): 0.90, (0, 0.8): 0.85, (500, 0.5): 0.93}  # dense is .92
    for (step, sparsity), value in table.items():
        fake_run(tmp_path / f"{step}-{sparsity}", step=step, sparsity=sparsity,
                 accuracy=lambda k, s, v=value: v)  # fmt: skip
    sweep = sweep_of(tmp_path)
    files = write_sweep(sweep, tmp_path)
    rows = read(tmp_path / "sweep-difference.csv")
    cells = {
        (row["rewind"], round(float(row["sparsity"]), 3)): row for row in rows
        if row["asked"] == "True"
    }  # fmt: skip
    value = {key: float(row["minus_dense_points"] or "nan") for key, row in cells.items()}
    assert value["0it", 0.5] == pytest.approx(-2)
    assert value["0it", 0.8] == pytest.approx(-7)
    assert value["500it", 0.5] == pytest.approx(1)
    assert math.isnan(value["500it", 0.8])
    assert [cells[key]["matches"] for key in sorted(cells)] == [
        "undecided",
        "undecided",
        "undecided",
        "",
    ]
    assert [row["n"] for row in rows if row["rewind"] == "500it"].count("0") == 5
    assert "fewer than 3 rewind steps (2)" in model_sentence(sweep)
    assert all(file.stat().st_size > 100 for file in files)


def test_the_console_says_in_a_sentence_that_a_fit_is_not_to_be_trusted(tmp_path):
    fake_sweep(tmp_path, steps=(0, 500), sparsities=(0.5, 0.8), seeds=(0, 1), noise=0.01)
    sweep = sweep_of(tmp_path)
    found = " ".join(text(sweep).split())
    assert "is not to be trusted here: fewer than 3 rewind steps (2) (and " in found
    assert "over resampled seeds" not in found
    assert "over resampled seeds" in model_sentence(sweep)


def test_a_dense_network_at_chance_is_matched_by_nothing(tmp_path):
    for classes in (1, 2):  # of one class any guess is right: all is at chance
        folder = tmp_path / str(classes)
        fake_sweep(folder, steps=(200, 500), sparsities=(0.5,), accuracy=lambda k, s: DENSE,
                   config={"dataset": {"num_classes": classes}})  # fmt: skip
        sweep = sweep_of(folder)
        page, at_chance = write_sweep(sweep, folder)[0].read_text(), classes == 1
        assert ("so that a ticket which does as well shows nothing" in page) == at_chance
        assert ("accuracy is at chance level." in model_sentence(sweep)) == at_chance
        assert ("(1)?" in text(sweep)) != at_chance
        assert {cell for row in matching_table(sweep)[1] for cell in row[5:]} == (
            {"at chance"} if at_chance else {"50 %"}
        )


def test_sparsest_matches_over_the_seeds_and_how_far_each_is_within(tmp_path):
    reach = {0: 0.5, 1: 0.5, 2: 0.64}  # the smallest density at which a seed still matches
    for seed, density in reach.items():
        for step in (0, 500):
            limit = 1.0 if step == 0 else density
            fake_run(tmp_path / f"{step}-{seed}", step=step, sparsity=0.5, seeds=(seed,),
                     accuracy=lambda k, s, d=limit, e=seed: (
                         0.92 - 0.0002 * e - 0.03 * (1 - s < d - 1e-9)))  # fmt: skip
    sweep = sweep_of(tmp_path)
    assert tmp_path / "sweep-matching.png" in write_sweep(sweep, tmp_path)
    rows = read(tmp_path / "sweep-matching.csv")
    found = {(row["rewind"], row["seed"]): row for row in rows}
    alone = {seed: found["500it", seed]["sparsest_within_tolerance"] for seed in ("0", "1", "2")}
    assert {k: float(v) for k, v in alone.items()} == pytest.approx({"0": 0.5, "1": 0.5, "2": 0.36})
    late, early = found["500it", ""], found["0it", ""]
    assert float(late["sparsest_shown_match"]) == pytest.approx(0.36)
    assert (early["sparsest_shown_match"], early["sparsest_not_refuted"]) == ("", "")
    assert "rewound to 500it; none is at 0it." in (tmp_path / "sweep.html").read_text()


@pytest.mark.parametrize(
    ("loss", "told", "number"),
    [(0.001, "The sparsest ticket within the tolerance, 50 % removed", "50 %"),
     (0.01, "No ticket is shown to match the dense network yet.", "none")],
)  # fmt: skip
def test_what_one_seed_cannot_refute_is_undecided_and_nowhere_refuted(tmp_path, loss, told, number):
    for step in (0, 500):
        fake_run(tmp_path / str(step), step=step, sparsity=0.5, accuracy=lambda k, s: DENSE - loss)
    sweep = sweep_of(tmp_path)
    found = matching(sweep)
    assert (found.sentence[: len(told)], found.number) == (told, number)
    assert "undecided up to sparsity 50 %: one seed does not tell" in found.text
    assert "refuted" not in found.text
    _, body = matching_table(sweep)
    assert {tuple(line[1:4]) for line in body} == {
        ("none", "50 %", f"{100 * (DENSE - loss):.2f} %")
    }


def test_unfinished_runs_show_what_they_have_and_say_so(tmp_path):
    fake_run(tmp_path / "a", step=0, sparsity=0.8, state="running", rounds=2)
    fake_run(tmp_path / "b", step=500, sparsity=0.8, state="failed", rounds=0)
    sweep = sweep_of(tmp_path)
    assert [column.asked for column in sweep.columns] == [False, False, True]
    assert "(1 failed, 1 running)" in text(sweep)
    assert "so that nothing tells τ" in model_sentence(sweep)
    assert (tmp_path / "sweep-tradeoff.png") not in write_sweep(sweep, tmp_path)


def test_a_sweep_without_any_pruned_round_or_any_row_is_still_drawn(tmp_path):
    for name, rounds in (("a", 0), ("b", -1)):
        for step in (0, 500):
            fake_run(tmp_path / name / str(step), step=step, sparsity=0.8, rounds=rounds,
                     config={"pruner": {"sparsity": None, "rounds": 9}})  # fmt: skip
        sweep = sweep_of(tmp_path / name)
        assert sweep.columns == ()
        assert "Sweep toy: 2 runs" in text(sweep)
        write_sweep(sweep, tmp_path / name)


@pytest.mark.parametrize("density", [0.0, 1e-6, 1.0])
def test_a_ticket_of_no_weight_or_of_all_is_drawn(tmp_path, density):
    for step in (0, 200, 500):
        folder = fake_run(tmp_path / str(step), step=step, sparsity=0.5, seeds=(0, 1))
        found = list(map(json.loads, (folder / "rounds.jsonl").read_text().splitlines()))
        found += [
            row | {"round": 9, "density": density, "sparsity": 1 - density, "test_accuracy": 0.1}
            for row in found[-2:]
        ]
        (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found))
    write_sweep(sweep_of(tmp_path), tmp_path)


def test_a_diverged_training_does_not_match_and_enters_no_fit(tmp_path):
    for step in STEPS:
        folder = fake_run(tmp_path / str(step), step=step, sparsity=0.8, seeds=(0, 1))
        lines = (folder / "rounds.jsonl").read_text().splitlines()
        last = json.loads(lines[-1]) | {"test_accuracy": None, "diverged": True}
        (folder / "rounds.jsonl").write_text("\n".join([*lines[:-1], json.dumps(last)]) + "\n")
    sweep = sweep_of(tmp_path)
    level = sweep.settings[0].at(sweep.columns[-1])
    assert (level.n, level.num_diverged, level.matches) == (1, 1, "refuted")
    assert sweep.fit.num_points == 2 + 3 * (2 * 8 - 1)
    assert "a training diverged" in text(sweep)
    write_sweep(sweep, tmp_path)


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ("500it", {}, 500),
        (500, {}, 500),
        ("12ep", {}, 700),  # as the tickets' rows say
        ("10%", {"rewind": {"lr_clock": "restart"}}, 1000),  # of 10 000 steps
        ("2ep", {"rewind": {"lr_clock": "restart"}}, 1000),  # of 20 epochs
        ("500it", {"rewind": {"lr_clock": "restart"}}, 500),
        ("500it", {"train": {"shrink_to": "1ep"}}, 700),
        ("2ep", {"rewind": {"lr_clock": "restart"}, "train": {"length": "9it"}}, None),
        ("0ep", {"rewind": {"lr_clock": "restart"}}, 0),
    ],
)
def test_rewind_steps_are_known_from_config_or_rows(tmp_path, written, options, expected):
    rewind = {"lr_clock": "rewind", **options.get("rewind", {}), "step": written}
    train = {"length": "20ep", **options.get("train", {})}
    config = {"rewind": rewind, "train": train}
    folder = fake_run(tmp_path / "a", step=700, sparsity=0.5, config=config)
    assert rewind_step(FinishedRun.load(folder)) == expected


def test_epochs_and_steps_of_the_same_rewinding_are_one_line(tmp_path):
    fake_run(tmp_path / "a", step=500, sparsity=0.5)
    fake_run(tmp_path / "b", step=500, sparsity=0.8, text="1ep")
    fake_run(tmp_path / "c", step=1000, sparsity=0.8, text="10%")
    sweep = sweep_of(tmp_path)
    assert [line.label for line in sweep.settings] == ["500it = 1ep", "10% (step 1000)"]


def test_runs_that_differ_otherwise_form_sweeps_of_their_own(tmp_path):
    for width in (1, 2):
        config = {"model": {"width": width}}
        fake_sweep(tmp_path / str(width), steps=STEPS, sparsities=(0.5,), config=config)
    fake_run(tmp_path / "alone", step=0, sparsity=0.5, config={"model": {"width": 3}})
    incidental = {"model": {"width": 1}, "paths": {"outputs": "o"}, "control": {"x": {"a": 1}}}
    fake_run(tmp_path / "1" / "x", step=9, sparsity=0.5, config=incidental)
    assert [len(sweep.runs) for sweep in find_sweeps(load(tmp_path))] == [4, 3]


def test_seeds_alone_are_no_sweep(tmp_path):
    fake_sweep(tmp_path, steps=(0,), sparsities=(0.5,), seeds=(0, 1, 2))
    assert find_sweeps(load(tmp_path)) == ()


def test_the_strictest_tolerance_holds_for_the_whole_sweep(tmp_path):
    for step, tolerance in ((0, 0.03), (500, 0.01)):
        fake_run(tmp_path / str(step), step=step, sparsity=0.5, accuracy=lambda k, s: 0.9,
                 config={"report": {"tolerance": tolerance}})  # fmt: skip
    sweep = sweep_of(tmp_path)
    assert sweep.tolerance == 0.01
    assert not any(level.within for line in sweep.settings for level in line.verdict.levels)


def test_columns_are_thinned_evenly_and_keep_their_ends(tmp_path):
    fake_sweep(tmp_path, steps=(0, 500), sparsities=(0.99,))
    columns = sweep_of(tmp_path).columns
    assert len(columns) == 21
    few = thinned(columns, 5)
    assert [columns.index(column) for column in few] == [0, 5, 10, 15, 20]
    assert few[-1].asked


# --- what is written --------------------------------------------------------------------------


def test_command_writes_the_page_every_figure_and_its_numbers(tmp_path, capsys):
    fake_sweep(tmp_path, steps=(0, *STEPS), sparsities=SPARSITIES, seeds=(0, 1), noise=0.002,
               as_replicates=True, controls=("reinit",))  # fmt: skip
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for words in ("rewind", "80 %", "shown to match", "R² = ", "Training steps: "):
        assert words in out
    assert len(read(tmp_path / "sweep-matching.csv")) > 3
    names = ("accuracy", "difference", "matching", "tradeoff")
    for name in names:
        assert (tmp_path / f"sweep-{name}.png").read_bytes().startswith(b"\x89PNG")
        assert len(read(tmp_path / f"sweep-{name}.csv")) > 3
    page = (tmp_path / "sweep.html").read_text()
    assert page.count("<svg") == len(names)
    assert "<script" not in page
    assert 'src="' not in page
    assert "http-equiv" in page
    lines = read(tmp_path / "sweep-accuracy.csv")
    assert {line["arm"] for line in lines} == {"dense", "ticket", "reinit"}
    assert (tmp_path / "comparison.html").exists()


def test_console_fits_its_width(tmp_path):
    fake_sweep(tmp_path, steps=(0, *STEPS), sparsities=(0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98),
               seeds=(0, 1, 2), noise=0.002, as_replicates=True)  # fmt: skip
    found = text(sweep_of(tmp_path))
    assert max(map(len, found.splitlines())) <= 100
    assert found.count("rewind  ") == 3  # two blocks of accuracies, one of matching sparsities


def test_a_key_that_a_config_repeats_deeper_is_named_once(tmp_path):
    fake_sweep(tmp_path, steps=(0, 500), sparsities=(0.5,))
    assert list(differences(load(tmp_path))) == ["rewind.step"]


def test_masks_of_rewind_steps_are_compared_by_seed_at_their_sparsest_common_one(tmp_path):
    """Rewound to 0 and to 100, seeds 0 and 1; the run to 200 has no tickets left."""
    fake_sweep(tmp_path, steps=(0, 100, 200), sparsities=(0.5,), seeds=(0, 1), as_replicates=True)
    kept = {
        (0, "round-04"): [1, 1, 0, 0, 0, 0],
        (0, "round-04-seed-1"): [1, 1, 0, 0, 0, 0],
        (100, "round-04"): [1, 0, 1, 0, 0, 0],  # 1 of 3
        (100, "round-04-seed-1"): [1, 1, 0, 0, 0, 0],  # 2 of 2
        (0, "round-03"): [1, 1, 1, 0, 0, 0],  # denser: not looked at
        (100, "round-03"): [0, 0, 0, 1, 1, 1],
    }
    for run in load(tmp_path):
        (run.folder / "tickets").mkdir()
        for (step, name), bits in kept.items():
            if rewind_step(run) == step:
                mask = {"mask.a": torch.tensor(bits).bool()}
                states.save(run.folder / "tickets" / f"{name}.safetensors", mask, {})
    sweep = sweep_of(tmp_path)
    (found,) = step_overlaps(sweep.runs)
    assert (found.of, found.num_seeds) == ("0 and 100", 2)
    assert found.jaccard == pytest.approx((1 / 3 + 1) / 2)
    assert found.random == pytest.approx((1 / 3) / (2 - 1 / 3))
    page, *_ = write_sweep(sweep, tmp_path)
    assert "0 and 100" in page.read_text()
