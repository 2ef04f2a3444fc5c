"""The report: statistics worked by hand, files as a run leaves them, and what is written."""

from __future__ import annotations

import csv
import itertools
import json
import math
import random
import re
import struct
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lth_runner.cli.report import main
from lth_runner.runs.evidence.estimate import paired
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.rows import find_runs
from lth_runner.runs.evidence.settings import labels
from lth_runner.runs.pages.drawing import png, spread
from lth_runner.runs.pages.wording import kept, removed
from lth_runner.runs.report import FinishedRun, aggregate, write
from lth_runner.runs.report.curve import curve_figure
from lth_runner.runs.report.headline import headline
from lth_runner.runs.report.learning import learning_sentence
from lth_runner.runs.report.run_text import table
from lth_runner.runs.report.table import arms_table, round_table
from lth_runner.values.errors import UserError

CONTROLS = ("reinit", "shuffle")
LAYERS = {"fc1.weight": 235200, "fc2.weight": 30000, "fc3.weight": 1000}


def row(round, arm, seed, accuracy, *, density=None, **extra):
    density = 0.5**round if density is None else density
    return {
        "round": round, "arm": arm, "seed": seed, "density": density, "sparsity": 1 - density,
        "test_accuracy": accuracy, **extra,
    }  # fmt: skip


def save(folder: Path, rows, *, config=None, state="done", metrics=()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{json.dumps(one)}\n" for one in rows)
    (folder / "rounds.jsonl").write_text(lines)
    config = {"name": "toy", "report": {"tolerance": 0.005}} | (config or {})
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    status = {"state": state, "round": 3, "rounds": 14, "error": None}
    (folder / "status.json").write_text(json.dumps(status))
    if metrics:
        (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(m)}\n" for m in metrics))
    return folder


def fake_run(folder: Path, *, seeds=3, rounds=14, controls=CONTROLS, seed=0, config=None, **files):
    """A run as LeNet-300-100 on MNIST might leave it: dense, then rounds of 20 % each."""
    noise = random.Random(seed)
    num_prunable = sum(LAYERS.values())
    rows, metrics = [], []
    for number in range(rounds + 1):
        density = 0.8**number
        for arm in ("ticket", *(controls if number else ())):
            fall = {"ticket": 0.006, "reinit": 0.03}.get(arm, 0.02)
            loss = fall * max(0.0, number - (10 if arm == "ticket" else 3)) ** 1.5 / 6
            for replicate in range(seeds):
                accuracy = 0.972 - loss + noise.gauss(0.0015 if arm == "ticket" else 0, 0.002)
                signs = 0.5 + 0.5 * (1 - 0.75**number) if arm == "ticket" else 0.75
                rows.append({
                    "round": number, "arm": arm, "seed": replicate, "density": density,
                    "sparsity": 1 - density, "num_kept": round(num_prunable * density),
                    "num_prunable": num_prunable, "train_loss": 0.01, "train_accuracy": 0.999,
                    "val_accuracy": accuracy - 0.001, "val_loss": 0.1, "test_accuracy": accuracy,
                    "test_loss": 0.1, "sign_preservation": signs + noise.gauss(0, 0.01),
                    "sign_preservation_dense": 0.8 if arm == "ticket" else None,
                    "sign_preservation_dense_on_ticket": 0.8 + 0.01 * number,
                    "jaccard_early_gradient": 0.2 + density / 2 if number else None,
                    "jaccard_chance": density / (2 - density),
                    "jaccard_null": min(1.0, 1.15 * density / (2 - density)),
                    "mask_overlap_previous": 0.8 if number else None,
                    "best_val_step": 6000 - 250 * number + noise.randrange(600),
                    "layer_density": {
                        name: density if name != "fc3.weight" else math.sqrt(density)
                        for name in LAYERS
                    },
                    "training_key": f"{noise.getrandbits(64):016x}", "reused": replicate == 0,
                    "seconds": 31.5, "diverged": False, "steps": 12000, "start_step": 0,
                    "hessian_trace": 12.5,
                })  # fmt: skip
                for step in range(0, 12001, 500):
                    level = accuracy - 0.85 * math.exp(-step / (500 + 40 * number))
                    metrics.append({
                        "step": step, "round": number, "arm": arm, "seed": replicate,
                        "train_loss": 0.1, "learning_rate": 0.0012, "test_accuracy": level,
                        "val_accuracy": level - 0.001, "val_loss": 0.2,
                    })  # fmt: skip
    settings = {
        "name": "lenet-mnist", "seed": 0, "replicates": seeds,
        "model": {"_target_": "lth_runner.problem.models.lenet_300_100", "classes": 10},
        "dataset": {"name": "mnist"}, "rewind": {"step": 0},
        "pruner": {"sparsity": 0.95, "rate": 0.2, "scope": "layer"},
    }  # fmt: skip
    save(folder, rows, config=settings | (config or {}), metrics=metrics, **files)
    environment = {"python": "3.11.2", "device": "cpu", "git": {"hash": "0" * 40, "dirty": False}}
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


# --- statistics -----------------------------------------------------------------------------


def test_paired_statistics_of_three_seeds_worked_by_hand():
    # d = .01 .02 .03: mean .02, s = .01, standard error .01/sqrt(3) = .00577350,
    # t(.975; 2) = 4.302653, half width .0248414. With two degrees of freedom
    # P(T > t) = (1 - t / sqrt(t^2 + 2)) / 2; t = .02/.0057735 = 3.464102 gives .03708710.
    result = paired({0: 0.51, 1: 0.62, 2: 0.73}, {0: 0.5, 1: 0.6, 2: 0.7})
    assert (result.n, result.difference) == (3, pytest.approx(0.02))
    assert (result.low, result.high) == pytest.approx((-0.0048414, 0.0448414), abs=1e-7)
    assert result.p_above() == pytest.approx((1 - 12**0.5 / 14**0.5) / 2)


def test_a_limit_moves_p_and_not_the_interval():
    result = paired({0: 0.50, 1: 0.52}, {0: 0.51, 1: 0.51})
    # d = -.01, +.01: mean 0, standard error .01; t = 0 and 1 on one degree of freedom (Cauchy).
    assert result.p_above() == pytest.approx(0.5)
    assert result.p_above(-0.01) == pytest.approx(0.25)
    assert result.high == pytest.approx(0.01 * math.tan(0.475 * math.pi))


def test_pairs_are_made_by_seed_and_one_pair_has_no_p():
    result = paired({1: 0.9, 2: 0.1}, {5: 0.5, 1: 0.8})
    assert (result.n, result.low, result.high, result.p_above()) == (1, None, None, None)
    assert result.difference == pytest.approx(0.1)
    assert paired({1: 0.9}, {2: 0.9}) is None


def test_aggregate_averages_every_number_and_leaves_out_nulls_and_truth_values():
    rows = [
        {"round": 1, "arm": "ticket", "seed": 0, "density": 0.5, "probe": 1.0, "reused": True},
        {"round": 1, "arm": "ticket", "seed": 1, "density": 0.4, "probe": 4, "reused": False},
        {"round": 1, "arm": "ticket", "seed": 2, "density": 0.3, "probe": None},
        {"round": 1, "arm": "reinit", "seed": 0, "sparsity": 0.25, "probe": 7.0},
    ]
    found = aggregate(rows)
    ticket, reinit = found["ticket", 1], found["reinit", 1]
    assert (ticket.n, ticket.count["probe"], ticket.mean["probe"]) == (3, 2, 2.5)
    assert ticket.std["probe"] == pytest.approx(4.5**0.5)
    assert ticket.sparsity == pytest.approx(0.6)
    assert "reused" not in ticket.mean
    assert "seed" not in ticket.mean
    assert (reinit.sparsity, reinit.std["probe"]) == (0.25, None)


# --- the verdict ----------------------------------------------------------------------------


def verdict_of(tmp_path, rows, **options):
    return judge(FinishedRun.load(save(tmp_path / "run", rows, **options)))


def test_one_seed_is_within_exactly_at_the_tolerance_and_decides_nothing(tmp_path):
    rows = [row(0, "ticket", 0, 0.972), row(1, "ticket", 0, 0.967), row(2, "ticket", 0, 0.9669)]
    verdict = verdict_of(tmp_path, rows)
    assert [level.within for level in verdict.of("ticket")] == [True, False]
    assert [level.matches for level in verdict.of("ticket")] == ["undecided"] * 2


def test_default_tolerance_is_half_a_point(tmp_path):
    rows = [row(0, "ticket", 0, 0.9), row(1, "ticket", 0, 0.8955), row(2, "ticket", 0, 0.8945)]
    verdict = verdict_of(tmp_path, rows, config={"report": None})
    assert [level.within for level in verdict.of("ticket")] == [True, False]


def seeds_at(round, arm, *accuracies, **extra):
    return [row(round, arm, seed, value, **extra) for seed, value in enumerate(accuracies)]


def test_the_row_of_shown_matches_ends_at_the_first_that_is_not(tmp_path):
    ends = {0: 0.970, 1: 0.970, 2: 0.966, 3: 0.971, 4: 0.90}
    rows = [one for r, a in ends.items() for one in seeds_at(r, "ticket", a, a + 0.001, a + 0.002)]
    verdict = verdict_of(tmp_path, rows)
    words = [level.matches for level in verdict.of("ticket")]
    assert words == ["shown", "undecided", "shown", "refuted"]
    assert verdict.shown().sparsity == 0.5  # and not the third, which stands behind a doubt
    assert verdict.possible().sparsity == 0.875
    told = headline(verdict)
    assert told.number == "50 %"
    assert "Sparser ones are undecided up to 87.5 %" in told.text


def test_sentence_of_a_winning_ticket(tmp_path):
    rows = [row(0, "ticket", s, a) for s, a in enumerate((0.967, 0.970, 0.973))]
    rows += [row(1, "reinit", s, a) for s, a in enumerate((0.966, 0.969, 0.972))]
    rows += [row(1, "ticket", s, a) for s, a in enumerate((0.969, 0.970, 0.973))]
    rows += [row(4, "ticket", s, a) for s, a in enumerate((0.968, 0.971, 0.975))]
    rows += [row(4, "reinit", s, a) for s, a in enumerate((0.940, 0.942, 0.944))]
    found = headline(verdict_of(tmp_path, rows))
    assert (found.number, found.about) == (
        "93.8 %",
        "of the weights removed, and the ticket is shown to match",
    )
    assert found.sentence == (
        "A ticket with 93.8 % of the weights removed is shown to match the dense network: 97.1 ± "
        "0.4 against 97.0 ± 0.3 % accuracy, n = 3."
    )
    assert found.remarks == (
        "The difference is +0.13 points [−0.50, +0.77]; p = 0.026 of a loss beyond 0.5 points.",
        "Below dense there, and worse than the ticket: its re-initialisation.",
    )


def test_values_that_do_not_vary_at_all_decide_nothing(tmp_path):
    rows = seeds_at(0, "ticket", *[0.97] * 3) + seeds_at(1, "ticket", *[0.97] * 3)
    verdict = verdict_of(tmp_path, rows)
    assert verdict.at("ticket", 1).matches == "undecided"
    assert "3 seeds that all give the same to the digit do not tell" in headline(verdict).text


def test_where_a_control_matches_and_where_not_is_told_without_contradiction(tmp_path):
    def level(round, arm, value):
        return seeds_at(round, arm, value, value + 0.001, value + 0.002)

    rows = [one for r in range(4) for one in level(r, "ticket", 0.97)]
    rows += [one for r, a in ((1, 0.97), (2, 0.9), (3, 0.9)) for one in level(r, "reinit", a)]
    verdict = verdict_of(tmp_path, rows)
    assert "Below dense there, and worse than the ticket" in headline(verdict).text
    lines = {line[0]: line[1:3] for line in arms_table(verdict)[1]}
    assert lines["ticket"] == ["87.5 %", "87.5 %"]
    assert lines["reinit"] == ["50 %", "50 %"]


# three classes: up to 1/3 + .05 * 2/3 = .3667 is hardly above guessing
THREE_CLASSES = {"dataset": {"num_classes": 3}}


@pytest.mark.parametrize(("dense", "mark"), [(0.36, "at chance"), (0.37, "undecided > control")])
def test_a_ticket_that_matches_a_dense_network_at_chance_shows_nothing(
    tmp_path, capsys, dense, mark
):
    rows = [row(0, "ticket", s, dense) for s in range(2)]
    rows += [row(1, "ticket", s, 0.38 + s / 100) for s in range(2)]
    rows += [row(1, "reinit", s, 0.2 + s / 100 + s / 1e4) for s in range(2)]
    folder = save(tmp_path / "run", rows, config=THREE_CLASSES)
    assert main([str(folder)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f" {mark} " in printed
    page = (folder / "report.html").read_text()
    told = f"the accuracy of the dense network ({100 * dense:.1f} ± 0.0 %, n = 2) is at chance"
    assert (told in printed, told in page) == (mark == "at chance",) * 2
    assert ("match the dense network, and" in printed) != (mark == "at chance")
    assert ("<td>at chance</td>" in page) == (mark == "at chance")


def test_beside_other_runs_one_at_chance_has_no_match(tmp_path, capsys):
    for name, dense in (("a", 0.36), ("b", 0.8)):
        seeds = range(1 if name == "a" else 3)
        rows = [row(r, "ticket", s, dense + s / 1000) for r in range(2) for s in seeds]
        save(tmp_path / name, rows, config={**THREE_CLASSES, "name": name})
    assert main([str(tmp_path)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:4]}
    assert "at chance" in lines["name=a"]
    assert "50 %" in lines["name=b"]
    matching = [line.split(",")[8] for line in (tmp_path / "comparison.csv").open()]
    assert matching[1:] == ["", "0.5"]
    judged = re.findall(r"name=([ab]): &#x27;Matches&#x27;.*?rounds\. (\w+)",
                        (tmp_path / "comparison.html").read_text())  # fmt: skip
    assert judged == [("a", "Here"), ("b", "Seeds")]  # no interval of one seed


def test_sentence_says_when_a_control_matches_as_well(tmp_path):
    rows = [row(0, "ticket", s, 0.970 + s / 1000) for s in range(3)]
    rows += [row(1, "ticket", s, a) for s, a in enumerate((0.970, 0.972, 0.972))]
    rows += [row(1, "shuffle", s, a) for s, a in enumerate((0.971, 0.971, 0.972))]
    verdict = verdict_of(tmp_path, rows)
    text = headline(verdict).text
    assert verdict.at("shuffle", 1).matches == "shown"
    assert text.endswith(
        "not separate a winning ticket from its shuffled mask at sparsity 50 %: that the ticket is "
        "better is not shown."
    )


def test_a_control_that_matches_but_is_clearly_worse_is_separated(tmp_path):
    rows = [row(0, "ticket", s, 0.970 + s / 1000) for s in range(3)]
    rows += [row(1, "ticket", s, 0.9750 + s / 1000 + s * s / 1e5) for s in range(3)]
    rows += [row(1, "reinit", s, 0.970 + s / 1000) for s in range(3)]
    verdict = verdict_of(tmp_path, rows)
    assert verdict.at("reinit", 1).matches == "shown"
    assert verdict.at("reinit", 1).ticket_is_better
    assert "does not separate" not in headline(verdict).text


def test_one_replicate_has_no_p_and_separates_nothing(tmp_path):
    rows = [row(0, "ticket", 0, 0.97), row(1, "ticket", 0, 0.98), row(1, "reinit", 0, 0.97)]
    text = headline(verdict_of(tmp_path, rows)).text
    assert "98.0 against 97.0 %, n = 1." in text
    assert "No match is shown: one seed does not tell how much seeds differ, two or more" in text
    assert "p =" not in text
    assert "±" not in text


@pytest.mark.parametrize("num_seeds", [1, 2, 3])
def test_headline_table_and_arms_never_contradict_each_other(tmp_path, num_seeds):
    """Runs at random: words in every order, single seeds, equal ones, some that diverged."""
    draws, seen = random.Random(num_seeds), set()
    for number in range(60):
        rows = seeds_at(0, "ticket", *(draws.gauss(0.97, 0.002) for _ in range(num_seeds)))
        spread = draws.choice((0.0, 0.001, 0.004))
        losses = draws.choice(((-0.004, 0.0, 0.005, 0.02), (0.02, 0.03)))
        for round in range(1, 5):
            centre = 0.97 - draws.choice(losses)
            for seed in range(num_seeds):
                lost = draws.random() < 0.03
                value = None if lost else draws.gauss(centre, spread)
                rows.append(row(round, "ticket", seed, value, diverged=lost))
        run = FinishedRun.load(save(tmp_path / str(number), rows))
        verdict = judge(run)
        told, (head, *_) = headline(verdict), arms_table(verdict)[1]
        marks = [line[-1].partition(" n=")[0] for line in round_table(run, verdict)[1][1:]]
        words = [mark.strip("()") for mark in marks]
        at = [removed(level.density) for level in verdict.of("ticket")]
        refuted = words.index("refuted") if "refuted" in words else 4
        num_shown = next((i for i, mark in enumerate(marks) if mark != "shown"), 4)
        ends = {
            "shown": at[num_shown - 1] if num_shown else "none",
            "possible": at[refuted - 1] if refuted else "none",
        }
        assert head[1:3] == [ends["shown"], ends["possible"]]
        assert told.text.startswith("No ticket matches") == (set(words) == {"refuted"})
        assert ("is shown to match the dense network: " in told.text) == ("shown" in marks)
        assert any(mark.startswith("(") for mark in marks) == ("By themselves, and" in told.text)
        assert ("(shown), (undecided): by itself" in table(run)) == ("By themselves" in told.text)
        assert "shown" in marks or "what makes the ticket match" not in told.text
        if marks[0] == "undecided" and num_seeds > 1:
            assert "would decide it" in told.text or "it takes more of both" in told.text
        if "shown" in marks:
            assert told.number == ends["shown"]
        elif refuted:
            assert "undecided" in f"{told.sentence} {told.about}"
            assert num_shown == 0
            assert ends["possible"] in told.sentence
        seen |= {*marks, told.sentence[:18]}
    assert {"undecided", "refuted"} < seen
    assert num_seeds == 1 or {"shown", "(shown)", "(undecided)", "No ticket matches "} < seen


def test_sentence_when_none_matches(tmp_path):
    rows = [row(0, "ticket", 0, 0.97), row(1, "ticket", 0, 0.95), row(2, "ticket", 0, 0.9)]
    text = headline(verdict_of(tmp_path, [*rows, row(1, "reinit", 0, 0.94)])).text
    assert text == (
        "No ticket is shown to match the dense network (97.0 %, n = 1) yet, and up to sparsity 75 "
        "% it is undecided: the closest, at sparsity 50 %, reaches 95.0 %, a difference of −2.00 "
        "points. No match is shown: one seed does not tell how much seeds differ, two or more do."
    )


def test_a_run_that_ended_dense_says_that_no_ticket_was_found(tmp_path):
    config = {
        "pruner": {"distance": 0.1, "masking": {"_target_": "lth_runner.masking.EarlyBirdStop"}}
    }
    dense = [row(0, "ticket", 0, 0.97)]
    run = FinishedRun.load(save(tmp_path, dense, config=config))
    told = " ".join(table(run).split())
    assert "ended with the dense network alone: EarlyBirdStop found no ticket. Its masks" in told
    assert "within pruner.distance=0.1 of each other" in told
    write(tmp_path)
    assert "EarlyBirdStop found no ticket" in (tmp_path / "report.html").read_text()
    other = FinishedRun.load(save(tmp_path, [*dense, row(1, "ticket", 0, 0.9)], config=config))
    assert "no ticket" not in " ".join(table(other).split())


def test_a_round_with_a_diverged_replicate_does_not_match(tmp_path):
    rows = [row(0, "ticket", s, 0.97) for s in range(2)]
    rows += [row(1, "ticket", 0, 0.99), row(1, "ticket", 1, None, diverged=True)]
    verdict = verdict_of(tmp_path, rows)
    assert verdict.at("ticket", 1).matches == "refuted"
    assert "diverged: 1 of the ticket" in headline(verdict).text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "No training has finished yet."),
        ([row(0, "ticket", 0, 0.97)], "Only the dense network has finished (97.0 %"),
        ([row(1, "ticket", 0, 0.97)], "No dense network (round 0) with a test accuracy"),
        ([row(0, "ticket", 0, None), row(1, "ticket", 0, None)], "No dense network (round 0)"),
        ([row(0, "ticket", 0, 0.9), row(1, "ticket", 0, None)], "No ticket with a test accuracy"),
    ],
)
def test_unfinished_runs_are_said_to_be_so_and_still_drawn(tmp_path, rows, words):
    run = FinishedRun.load(save(tmp_path, rows, state="running"))
    assert words in headline(judge(run)).text
    assert "not finished (state: running, round 3 of 13)" in " ".join(table(run).split())
    assert all(path.stat().st_size > 1000 for path in write(tmp_path))


@pytest.mark.parametrize(
    ("density", "left", "gone"),
    [(1.0, "100 %", "0 %"), (0.512, "51.2 %", "48.8 %"), (0.0687, "6.9 %", "93.1 %"),
     (0.0015, "0.15 %", "99.85 %"), (0.0002, "0.02 %", "99.98 %")],
)  # fmt: skip
def test_percentages_keep_the_digits_that_matter(density, left, gone):
    assert (kept(density), removed(density)) == (left, gone)


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(("shown", "word"), [(True, "opened"), (False, "no browser was found")])
def test_open_shows_the_page_in_a_browser_or_says_where_it_is(
    tmp_path, capsys, monkeypatch, shown, word
):
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda address: asked.append(address) or shown)
    folder = fake_run(tmp_path / "run", rounds=2, seeds=1)
    assert main([str(folder), "--open"]) == 0
    assert asked == [(folder / "report.html").as_uri()]
    assert capsys.readouterr().out.splitlines()[-1].startswith(word)


def test_a_key_in_the_place_of_a_path_is_told_with_the_command_that_takes_it(tmp_path, capsys):
    folder = save(tmp_path / "run", [row(0, "ticket", 0, 0.97)])
    (folder / "status.json").write_text(json.dumps({"state": "done", "command": "lth-run a=b"}))
    for path in (folder, tmp_path):
        assert main([str(path), "report.samples=fixed"]) == 2
        assert "lth-run a=b report.samples=fixed\n" in capsys.readouterr().err


def test_a_torn_last_line_is_left_out(tmp_path):
    folder = save(tmp_path, [row(0, "ticket", 0, 0.97)])
    with (folder / "rounds.jsonl").open("ab") as file:
        file.write('{"round": 1, "arm": "tické'.encode()[:-1])
    assert len(FinishedRun.load(folder).rows) == 1


def test_a_torn_line_elsewhere_names_file_and_line(tmp_path):
    folder = save(tmp_path, [row(0, "ticket", 0, 0.97)])
    text = (folder / "rounds.jsonl").read_text()
    (folder / "rounds.jsonl").write_text(f'{text}{{"round": 1,\n{text}')
    with pytest.raises(UserError, match=r"rounds\.jsonl, line 2"):
        FinishedRun.load(folder)


def test_a_row_without_its_identity_names_file_and_line(tmp_path):
    with pytest.raises(UserError, match=r"rounds\.jsonl, line 2: .*seed=None"):
        FinishedRun.load(save(tmp_path, [row(0, "ticket", 0, 0.9), {"round": 1, "arm": "ticket"}]))


@pytest.mark.parametrize(
    ("ticket", "steps", "words"),
    [
        ((100, 110, 120), 500, "The ticket learns faster: its"),
        ((150, 200, 250), 500, "learns faster is not shown: its"),
        ((300, 290, 280), 500, "The ticket learns more slowly: its"),
        ((300, 290, 280), 300, "that of the ticket was still falling when a training ended"),
    ],
)
def test_who_learns_faster_is_told_by_steps_that_no_end_cut_off(tmp_path, ticket, steps, words):
    rows = [row(0, "ticket", s, 0.9, best_val_step=200 + 5 * s, steps=steps) for s in range(3)]
    rows += [row(1, "ticket", s, 0.9, best_val_step=k, steps=steps) for s, k in enumerate(ticket)]
    run = FinishedRun.load(save(tmp_path, rows))
    verdict = judge(run)
    verdict = replace(verdict, levels=[replace(x, matches="shown") for x in verdict.levels])
    assert words in learning_sentence(run, verdict)
    for wrong in ({"num_diverged": 1}, {"at_chance": True}):
        levels = [replace(level, **wrong) for level in verdict.levels]
        forged = replace(verdict, levels=levels, dense=replace(verdict.dense, **wrong))
        assert learning_sentence(run, forged) == ""


@pytest.mark.parametrize(("accuracy", "at_chance"), [(0.36, True), (0.37, False)])
def test_a_ticket_without_a_dense_network_is_said_to_be_at_chance(tmp_path, accuracy, at_chance):
    verdict = verdict_of(
        tmp_path, [row(0, "ticket", 0, accuracy, density=0.5)], config=THREE_CLASSES
    )
    assert (", which is at chance level." in headline(verdict).text) == at_chance


def test_a_row_written_twice_counts_once_and_the_later_holds(tmp_path):
    run = FinishedRun.load(save(tmp_path, [row(0, "ticket", 0, 0.1), row(0, "ticket", 0, 0.9)]))
    assert run.values("ticket", 0, "test_accuracy") == {0: 0.9}


def test_nan_reads_as_missing(tmp_path):
    run = FinishedRun.load(
        save(tmp_path, [row(0, "ticket", 0, math.nan), row(0, "ticket", 1, 0.5)])
    )
    assert run.values("ticket", 0, "test_accuracy") == {1: 0.5}


@pytest.mark.parametrize("tolerance", [-0.1, "wide", 1, True])
def test_a_tolerance_that_is_none_is_refused(tmp_path, tolerance):
    folder = save(tmp_path, [], config={"report": {"tolerance": tolerance}})
    with pytest.raises(UserError, match=r"report\.tolerance"):
        table(FinishedRun.load(folder))


@pytest.mark.parametrize("field", ["density", "sparsity", "test_accuracy"])
def test_any_field_but_the_identity_may_be_missing(tmp_path, field):
    rows = [row(r, "ticket", 0, 0.9) for r in range(3)]
    write(save(tmp_path, [{k: v for k, v in one.items() if k != field} for one in rows]))


# --- what is written ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = fake_run(tmp_path_factory.mktemp("outputs") / "lenet" / "3f9c2a")
    write(folder)
    return folder


class Page(HTMLParser):
    """Tag counts, open tags left over, addresses, and the text of the last table."""

    VOID = frozenset(("meta", "br", "img"))

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.addresses, self.text = [], {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_picture_has_the_promised_size(drawn):
    head = (drawn / "curve.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert struct.unpack(">II", head[16:24]) == (1600, 1000)


def test_page_is_whole_and_loads_nothing(drawn):
    page = Page((drawn / "report.html").read_text())
    assert page.open == []
    assert page.count["svg"] == 8
    assert "script" not in page.count
    assert all(address.startswith(("#", "data:")) for address in page.addresses)


def test_page_shows_every_row_and_fields_nobody_announced(drawn):
    text = (drawn / "report.html").read_text()
    rows = FinishedRun.load(drawn).rows
    assert "<th>hessian_trace</th>" in text
    assert text.count("<td>12.5</td>") == len(rows)
    assert all(str(one["training_key"]) in text for one in rows)


def test_page_and_picture_are_the_same_bytes_again(drawn):
    before = [(drawn / name).read_bytes() for name in ("curve.png", "report.html")]
    assert [path.read_bytes() for path in write(drawn)] == before
    assert not list(drawn.glob(".*"))


def test_names_are_escaped_and_never_typeset(tmp_path):
    name = "<script>alert(1)</script> $\\frac{"
    rows = [row(r, arm, 0, 0.9, layer_density={name: 0.5}) for r in (0, 1)
            for arm in ("ticket", "$x<b>")[: r + 1]]  # fmt: skip
    write(save(tmp_path, rows, config={"name": name, "model": name}))
    text = (tmp_path / "report.html").read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_table_is_aligned_and_fits_a_console(tmp_path):
    run = FinishedRun.load(
        fake_run(tmp_path / "r", controls=("reinit", "shuffle", "random_layerwise"))
    )
    lines = table(run).splitlines()
    assert max(map(len, lines)) <= 100
    body = [line for line in lines if re.match(r" +\d+  +\d+\.\d\d  ", line)]
    assert len(body) == 15
    assert len({line.index("±") for line in body}) == 1
    assert sum("shown" in line for line in body) > 5
    assert "undecided" in body[-1]
    assert headline(judge(run)).text[:40] in table(run)


def test_writing_a_full_run_is_quick_enough_for_every_round(drawn):
    start = time.process_time()  # fonts and modules were loaded when it was first drawn
    write(drawn)
    assert time.process_time() - start < 3.0  # about a second; room for a busy machine


def test_labels_never_overlap_and_stay_where_there_is_room():
    wanted, heights = [0.1, 0.5, 0.51, 0.52, 0.9], [0.05] * 5
    places = spread(wanted, heights)
    assert (places[0], places[4]) == (0.1, 0.9)
    assert all(b - a >= 0.05 - 1e-12 for a, b in itertools.pairwise(places))
    assert sum(places[1:4]) == pytest.approx(sum(wanted[1:4]))


# --- the command ----------------------------------------------------------------------------


def test_command_draws_and_prints_one_run(tmp_path, capsys):
    folder = fake_run(tmp_path / "a", rounds=2)
    assert main([str(tmp_path)]) == 0
    assert "match the dense network" in capsys.readouterr().out
    assert (folder / "curve.png").exists()
    assert (folder / "report.html").exists()
    assert not (tmp_path / "comparison.html").exists()


def test_command_compares_runs_by_the_keys_in_which_they_differ(tmp_path, capsys):
    for step in (0, 500):
        folder = tmp_path / "outputs" / "sweep" / f"id{step}"
        fake_run(folder, rounds=3, seed=step, config={"rewind": {"step": step}})
    assert main([str(tmp_path)]) == 0
    sweep = tmp_path / "outputs" / "sweep"
    with (sweep / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {one["run"] for one in rows} == {"rewind.step=0", "rewind.step=500"}
    assert {one["config.rewind.step"] for one in rows} == {"0", "500"}
    assert len(rows) == 2 * 3
    first = judge(FinishedRun.load(sweep / "id0"))
    assert float(rows[0]["largest_sparsity"]) == pytest.approx(1 - 0.8**3)
    assert float(rows[0]["dense_accuracy_mean"]) == first.dense.mean
    page = Page((sweep / "comparison.html").read_text())
    assert page.open == []
    assert "id500/report.html" in page.addresses
    assert (sweep / "id0" / "report.html").exists()
    assert "rewind.step=500" in capsys.readouterr().out


@pytest.mark.slow
def test_out_takes_the_comparison(tmp_path):
    paths = [str(fake_run(tmp_path / name, rounds=1, seeds=1)) for name in "ab"]
    assert main([*paths, "--out", str(tmp_path / "new" / "figures")]) == 0
    assert len(list((tmp_path / "new" / "figures").iterdir())) == 3


@pytest.mark.parametrize("build", [lambda p: p / "absent", lambda p: p])
def test_command_says_in_one_line_that_there_is_no_run(tmp_path, capsys, build):
    assert main([str(build(tmp_path))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lth-report: ")
    assert error.count("\n") == 1
    assert str(tmp_path) in error


def test_runs_are_not_told_apart_by_where_they_are_shown(tmp_path):
    wandb = {"_target_": "x.Y", "mode": "offline"}
    configs = [
        {"record": {"wandb": wandb}, "rewind": {"step": 0}},
        {"record": {}, "rewind": {"step": 5}},
    ]
    runs = [FinishedRun.load(save(tmp_path / str(n), [], config=one))
            for n, one in enumerate(configs)]  # fmt: skip
    assert labels(runs) == ["rewind.step=0", "rewind.step=5"]


def test_a_run_named_twice_is_found_once(tmp_path):
    folder = save(tmp_path / "a", [])
    assert find_runs([tmp_path, folder, tmp_path / "a" / ".." / "a"]) == (folder,)


def test_same_configs_are_told_apart_by_folder_and_many_keys_are_cut(tmp_path):
    same = [FinishedRun.load(save(tmp_path / name, [])) for name in "ab"]
    assert labels(same) == ["a", "b"]
    many = [
        FinishedRun.load(save(tmp_path / f"m{i}", [], config={f"k{j}": i for j in range(9)}))
        for i in range(2)
    ]
    assert labels(many) == ["k0=0", "k0=1"]
    columns = [(0, 1, 0), (0, 1, 1), (0, 1, 0), (0, 1, 0), (0, 1, 1)]  # one by itself, one pair
    few = [
        FinishedRun.load(save(tmp_path / f"f{i}", [], config={f"k{j}": column[i] for j, column
                                                              in enumerate(columns)}))
        for i in range(3)
    ]  # fmt: skip
    assert labels(few) == ["k0=0, k1=0", "k0=1, k1=1", "k0=0, k1=1"]


def test_a_control_that_takes_the_pruner_s_search_names_no_run(tmp_path):
    """Nor does a key that a run does not have: snip knows no retrain."""
    runs = []
    for pruner, own in (("snip", {}), *(("gradual", {"retrain": x}) for x in (False, True))):
        search = {"_target_": f"x.{pruner}", "score": {"_target_": f"x.score.{pruner}"}}
        controls = {
            "invert": {"_target_": "x.Invert", "search": search},
            "random_data": {"search": search, "corrupt": "pixels" if own else "labels"},
        }
        config = {"pruner": {"search": search, **own}, "control": controls}
        folder = save(tmp_path / f"{len(runs)}", [], config=config)
        (folder / "environment.json").write_text(json.dumps({"choices": {"pruner": pruner}}))
        runs.append(FinishedRun.load(folder))
    assert labels(runs) == [
        "pruner=snip, corrupt=labels",
        "pruner=gradual, corrupt=pixels, retrain=False",
        "pruner=gradual, corrupt=pixels, retrain=True",
    ]


@pytest.mark.filterwarnings("error")
def test_tickets_of_which_nothing_is_left_are_reported_without_a_warning(tmp_path):
    signs = {"sign_preservation": 0.5, "mask_overlap_previous": 0.0, "layer_density": {"a": 0.0}}
    rows = [row(0, "ticket", 0, 0.9), row(1, "ticket", 0, 0.1, density=0.0, **signs)]
    assert all(path.stat().st_size > 1000 for path in write(save(tmp_path, rows)))


def test_picture_of_many_runs_is_drawn(tmp_path):
    runs = [FinishedRun.load(fake_run(tmp_path / str(i), rounds=3, seed=i)) for i in range(9)]
    assert len(png(curve_figure(runs))) > 20_000


def test_arms_keep_the_order_in_which_the_run_wrote_them(tmp_path):
    rows = [row(1, arm, 0, 0.9) for arm in ("shuffle", "ticket", "reinit")]
    assert FinishedRun.load(save(tmp_path, rows)).arms == ("ticket", "shuffle", "reinit")


def test_a_collapsing_control_does_not_flatten_the_picture_of_the_ticket(tmp_path):
    rows = [row(r, arm, 0, accuracy) for r in range(3)
            for arm, accuracy in [("ticket", 0.97 - r / 100), ("reinit", 0.97 - r * 0.4)]
            if r or arm == "ticket"]  # fmt: skip
    axes = curve_figure([FinishedRun.load(save(tmp_path, rows))]).axes[0]
    bottom, top = axes.get_ylim()
    # The ticket falls by 2 points to 95: the axis goes three times as deep, below 91 and no more.
    assert 90 < bottom < 91
    assert 97 < top <= 100.5
    assert any("falls to 17.0 %" in text.get_text() for text in axes.texts)


def test_no_control_shares_a_columns_name_with_what_is_measured(tmp_path):
    arms = ("signs", "magnitudes")
    rows = [row(0, "ticket", 0, 0.97), *(row(1, arm, 0, 0.9) for arm in ("ticket", *arms))]
    config = {"control": {arm: {} for arm in arms}}
    run = FinishedRun.load(save(tmp_path, rows, config=config))
    header, _ = round_table(run, judge(run))
    assert len(set(header)) == len(header)
    assert {*arms, "sign"} < set(header)
