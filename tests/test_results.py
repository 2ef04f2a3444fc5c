"""Published figures: read as they stand, laid over ours, and held against runs made up here."""

from __future__ import annotations

import gzip
import json
import math
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from lth_runner.cli.check import resolve
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.study_plan import read_study
from lth_runner.runs.evidence.published import beside, counterpart, names, published
from lth_runner.runs.report import FinishedRun
from lth_runner.runs.report.curve import curve_figure
from lth_runner.runs.report.run_page import write_run
from lth_runner.runs.samples import KeptSamples
from lth_runner.values.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import evidence
import results
from claims import CLAIMS
from evidence import archived, keep, load
from measures import percent
from pictures import panels
from searched import Quicker
from sections import SECTIONS
from structured import OfWidth, SavesTime

FAMILIES_NAME = "lenet300_mnist_families"
TO_EPOCH_12 = "renda2020_resnet20/rewind_to_epoch_12"
ROUNDS = {3: 0.5128, 7: 0.2107, 12: 0.0696, 15: 0.0358, 18: 0.0186}  # of LeNet-300-100


def row(round, accuracy, *, seed=0, arm="ticket", density=None, **extra):
    kept = 0.8**round if density is None else density
    return {"round": round, "arm": arm, "seed": seed, "density": kept, "test_accuracy": accuracy,
            **extra}  # fmt: skip


def save(folder, rows, *, name, state="done", command=None, config=None, pruner=None):
    folder.mkdir(parents=True)
    (folder / "rounds.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    seeds = len({one["seed"] for one in rows})
    (folder / "config.yaml").write_text(
        json.dumps({"name": name, "replicates": seeds} | (config or {}))
    )
    (folder / "status.json").write_text(json.dumps({"state": state, "command": command}))
    environment = {"device_name": "Abacus", "torch": "2.15", "threads": 1}
    environment |= {"choices": {"pruner": pruner}} if pruner else {}
    (folder / "environment.json").write_text(json.dumps(environment))
    return FinishedRun.load(folder)


def mnist(folder, *, loss=0.0, last=18, **extra):
    """Three seeds that differ: tickets are ``loss`` below dense, at 1.9 % a whole point."""
    rows = []
    for seed, level in enumerate((0.9819, 0.9820, 0.9821)):
        early = {"best_val_test_accuracy": level, "best_val_step": 6000 + 100 * seed}
        rows.append(row(0, level, seed=seed, **early))
        for at, kept in ROUNDS.items():
            if at > last:
                continue
            accuracy = level - (0.01 + seed / 1e4 if at == 18 else loss)
            early = {"best_val_test_accuracy": accuracy, "best_val_step": 4000 + 90 * seed}
            rows.append(row(at, accuracy, seed=seed, density=kept, **early))
            rows.append(row(at, accuracy - 0.004 - seed / 1e4, seed=seed, density=kept,
                            arm="reinit"))  # fmt: skip
    return save(folder, rows, name="lenet300_mnist_imp", **extra)


def held(runs):
    groups = (results.decided(group, results.readable(runs)) for group in CLAIMS.values())
    return {one.claim.id: one for rows in groups for one in rows}


def resnet(folder, *, series=TO_EPOCH_12, **extra):
    rows = [row(0, 0.917), row(3, 0.9195), row(10, 0.9090)]
    return save(folder, rows, name="resnet20_imp",
                config={"report": {"published": series}}, **extra)  # fmt: skip


def test_published_tables_are_whole_and_fall_in_density() -> None:
    for name in names():
        series = published(name)
        densities = [point.density for point in series.points]
        assert densities == sorted(set(densities), reverse=True)
        assert "arXiv:" in series.citation
        for point in series.points:
            assert 0 < point.density < 1
            assert (point.low or point.accuracy) <= point.accuracy <= (point.high or point.accuracy)


def test_published_numbers_are_those_of_the_paper() -> None:
    series = published(TO_EPOCH_12)
    assert series.dense is not None
    assert (percent(series.dense.accuracy), series.dense.n) == ("91.71", 246)
    found = {100 * x.density: percent(x.accuracy) for x in series.points}
    assert (found[51.2], found[20.97], found[10.74]) == ("91.99", "91.68", "91.00")
    assert series.at(0.3) is None
    assert series.at(0.513) == series.at(0.512)


def test_a_series_that_is_not_there_is_named_with_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rewind_to_epoch_12"):
        published("renda2020_resnet20/rewind_to_epoch_21")


def test_a_published_point_stands_beside_the_round_of_its_density(tmp_path: Path) -> None:
    run = resnet(tmp_path / "run")
    series = counterpart(run)
    assert series is not None
    found = {round(one.point.density, 4): one for one in beside(run, series)}
    assert found[0.512].difference == pytest.approx(0.9195 - 0.919875, abs=1e-9)
    assert found[1.0].mean == 0.917
    assert found[0.2097].mean is None
    assert counterpart(save(tmp_path / "other", [row(0, 0.9)], name="other")) is None


def test_the_published_curve_is_drawn_with_its_source_and_not_over_others(tmp_path: Path) -> None:
    run, other = resnet(tmp_path / "run"), save(tmp_path / "o", [row(0, 0.9)], name="other")
    texts = {text.get_text() for text in curve_figure([run]).findobj() if hasattr(text, "get_text")}
    assert any("arXiv:2003.02389" in text and "median of 3" in text for text in texts)
    line = [x for x in curve_figure([run]).axes[0].lines if x.get_marker() == "_"]
    assert list(line[0].get_ydata())[2] == pytest.approx(91.9875)
    assert not [x for x in curve_figure([run, other]).axes[0].lines if x.get_marker() == "_"]
    _, page = write_run(run)
    text = page.read_text()
    assert "Beside published figures" in text
    assert "91.84 to 92.00" in text
    assert "−0.04 points" in text


def test_claims_that_hold_are_shown_and_one_that_does_not_stays_as_refuted(tmp_path: Path) -> None:
    good = {name: one.verdict for name, one in held([mnist(tmp_path / "good")]).items()}
    ours = {name for name in good if name.startswith("mnist-") and "one-shot" not in name}
    assert {good[name] for name in ours} == {"shown"}
    assert set(good.values()) == {"shown", "not measured here"}

    bad = held([mnist(tmp_path / "bad", loss=0.004)])
    assert bad["mnist-last-7.0"].verdict == "refuted"
    assert bad["mnist-early-3.6"].verdict == "refuted"
    assert bad["mnist-last-1.9"].verdict == "shown"
    page = results.block(results.readable([mnist(tmp_path / "again", loss=0.004)]), CLAIMS, [])
    [line] = [line for line in page.splitlines() if "ticket of 7.0 %, at the last" in line]
    assert "**refuted**" in line
    assert "97.80 ± 0.01 (n = 3) against 98.20 ± 0.01 (n = 3): −0.40 [−0.4" in line
    assert line.endswith("| 1 |")
    assert "\n1. `lth-run +experiment=lenet300_mnist_imp`: Abacus, torch 2.15, 1 thread\n" in page
    assert "6 refuted" in page


def test_a_ticket_that_diverged_refutes_its_claims_and_none_is_read_off_at_chance(
    tmp_path: Path,
) -> None:
    run = mnist(tmp_path / "run")
    rows = [dict(one) for one in run.rows]
    extra = {"best_val_test_accuracy": math.nan, "best_val_step": math.nan, "diverged": True}
    rows.append(row(0, 0.9820, seed=3, best_val_step=6000))
    rows += [row(n, math.nan, seed=3, density=kept, **extra) for n, kept in ROUNDS.items()]
    rows += [row(n, 0.97, seed=3, density=kept, arm="reinit") for n, kept in ROUNDS.items()]
    found = held([save(tmp_path / "diverged", rows, name="lenet300_mnist_imp")])
    for name in ("mnist-last-21.1", "mnist-reinit-21.1", "mnist-faster"):
        assert found[name].verdict == "refuted", name
    assert found["mnist-last-1.9"].verdict == "shown"  # that it is worse
    guessing = [{**one, "test_accuracy": 0.11} for one in run.rows]
    config = {"dataset": {"num_classes": 10}}
    found = held([save(tmp_path / "chance", guessing, name="lenet300_mnist_imp", config=config)])
    assert found["mnist-last-21.1"].verdict == "undecided"


def test_an_interval_across_zero_is_undecided(tmp_path: Path) -> None:
    rows = [row(0, level, seed=seed, best_val_step=100) for seed, level in enumerate((0.98, 0.98))]
    rows += [row(18, 0.98 - loss, seed=seed, density=0.0185) for seed, loss in ((0, 0), (1, 0.002))]
    found = held([save(tmp_path / "run", rows, name="lenet300_mnist_imp")])
    assert found["mnist-last-1.9"].verdict == "undecided"
    assert found["mnist-faster"].verdict == "not measured here"


def test_an_unfinished_run_says_how_far_it_is(tmp_path: Path) -> None:
    found = held([mnist(tmp_path / "run", last=7, state="running")])
    assert found["mnist-last-21.1"].verdict == "shown"
    assert "rounds 0 to 7 so far" in found["mnist-last-21.1"].ours
    assert found["mnist-last-7.0"].verdict == "not measured here"
    assert "rounds 0 to 7 so far" in found["mnist-last-7.0"].ours
    assert "33 trainings, 2,342,340 steps" in found["resnet20_finetune-51.2"].made_by[0]
    reached = "`lth-run +experiment=lenet300_mnist_imp`: does not reach the row"
    assert found["mnist-last-7.0"].made_by == (reached,)


def test_a_round_without_all_its_replicates_does_not_count(tmp_path: Path) -> None:
    run = mnist(tmp_path / "run")
    rows = [one for one in run.rows if (one["round"], one["seed"]) != (7, 2)]
    short = FinishedRun(run.folder, run.config, run.status, run.environment, tuple(rows))
    assert held([short])["mnist-last-21.1"].verdict == "not measured here"


def test_a_finished_run_is_believed_before_an_unfinished_one(tmp_path: Path) -> None:
    runs = [mnist(tmp_path / "a", loss=0.01, state="running"), mnist(tmp_path / "b")]
    assert held(runs)["mnist-last-21.1"].verdict == "shown"
    smoke = mnist(tmp_path / "c", config={"train": {"shrink_to": "20it"}})
    assert held([smoke])["mnist-last-21.1"].verdict == "not measured here"


def test_resnets_are_held_against_the_published_accuracy_and_gap(tmp_path: Path) -> None:
    def run(folder, name, levels):
        rows = [row(round, level + seed / 1e4, seed=seed)
                for round, level in levels.items() for seed in range(3)]  # fmt: skip
        return save(tmp_path / folder, rows, name=name)

    warm = run("warm", "resnet20_imp", {0: 0.917, 3: 0.9199, 10: 0.9100})
    cold = run("cold", "resnet20_rewind_init", {0: 0.917, 3: 0.9059, 10: 0.9050})
    found = held([warm, cold])
    assert found["resnet20-dense"].verdict == "shown"
    assert found["gap-51.2"].verdict == "shown"
    assert found["gap-10.7"].verdict == "refuted"  # half a point, 4.3 published
    assert found["resnet20_rewind_init-10.7"].verdict == "refuted"
    assert found["gap-21.0"].verdict == "not measured here"


def test_sanity_runs_are_told_apart_by_pruner_and_a_barrier_by_its_step(tmp_path: Path) -> None:
    def rows(fall):
        for seed in range(3):
            for arm, loss in (("ticket", 0.0), ("shuffle", fall), ("reinit", 0.0)):
                yield row(1, 0.982 - loss + seed / 1e3, seed=seed, arm=arm, density=0.05)

    name = "lenet300_mnist_sanity"
    runs = [save(tmp_path / "snip", list(rows(0.001)), name=name, pruner="snip"),
            save(tmp_path / "grasp", list(rows(0.02)), name=name, pruner="grasp"),
            save(tmp_path / "lenet", [
                row(0, 0.98, seed=s, instability_by_step={"0": 0.003 + s / 1e4}) for s in range(3)],
                 name="lenet300_mnist_connectivity"),
            save(tmp_path / "resnet", [row(0, 0.6, seed=s, instability_by_step={"0": 0.3},
                 instability_recomputed_by_step={"0": 0.01 + s / 1e4}) for s in range(3)],
                 name="resnet20_connectivity")]  # fmt: skip
    found = {name: one.verdict for name, one in held(runs).items()}
    assert (found["sanity-snip-shuffle"], found["sanity-grasp-shuffle"]) == ("shown", "refuted")
    assert found["sanity-synflow-shuffle"] == "not measured here"
    assert found["barrier-lenet300_mnist_connectivity"] == "shown"
    assert found["barrier-resnet20_connectivity"] == "refuted"  # with statistics of its own: stable


def test_commands_leave_out_where_things_lie(tmp_path: Path) -> None:
    said = "lth-run +experiment=x dataset.root=/home/me paths.data=d train.length=5it record=local"
    run = save(tmp_path / "run", [row(0, 0.9)], name="x", command=said)
    assert evidence.command(run) == "lth-run +experiment=x train.length=5it"
    mine = save(tmp_path / "named", [row(0, 0.9)], name="mine", command=f"{said} name=mine")
    assert evidence.command(mine) == "lth-run +experiment=x train.length=5it name=mine"
    quoted = f"{said} 'paths.outputs=my runs' 'record=[wandb,mlflow]' 'control=[a,b]'"
    spaced = save(tmp_path / "spaced", [row(0, 0.9)], name="x", command=quoted)
    assert evidence.command(spaced) == "lth-run +experiment=x train.length=5it 'control=[a,b]'"
    for place, (start, end) in enumerate(
        [("/home/me/outputs/first", " origin.run=outputs/first"), ("/home/me/012345abcdef", "")]
    ):
        started, config = f"{said} origin.run={start}", {"origin": {"run": start}}
        later = save(tmp_path / f"later{place}", [row(0, 0.9)], name="x", command=started,
                     config=config)  # fmt: skip
        assert evidence.command(later) == f"lth-run +experiment=x train.length=5it{end}"


def test_neighbours_among_the_numbers_of_commands_are_one() -> None:
    assert results.spans([1, 3, 4, 5, 7, 8]) == "1, 3 to 5, 7, 8"
    assert results.spans([]) == ""


def test_the_page_is_rewritten_between_its_marks_and_again_the_same(tmp_path: Path) -> None:
    mnist(tmp_path / "outputs/lenet300_mnist_imp/1")
    page = tmp_path / "docs/results.md"
    page.parent.mkdir()
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    assert results.main([str(tmp_path / "outputs"), str(page)]) == 0
    once = page.read_text()
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "\nold\n" not in once
    assert "images/lenet300_mnist_imp_curve.png" in once
    assert (tmp_path / "docs/images/lenet300_mnist_imp_curve.png").stat().st_size < 300_000
    curve = "images/curves/winning-tickets-of-lenet-300-100-on-mnist.png"
    assert f"| [curve]({curve}) |" in once
    assert (page.parent / curve).is_file()
    assert results.main([str(tmp_path / "outputs"), str(page)]) == 0
    assert page.read_text() == once


@pytest.mark.parametrize("text", [None, "no marks"])
def test_a_page_that_is_none_is_refused_before_anything_is_written(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    mnist(tmp_path / "outputs/lenet300_mnist_imp/1")
    page = tmp_path / "docs/results.md"
    page.parent.mkdir()
    if text is not None:
        page.write_text(text)
    assert results.main([str(tmp_path / "outputs"), str(page), "--keep"]) == 2
    assert results.BEGIN in capsys.readouterr().err
    assert not [one for one in page.parent.iterdir() if one != page]


def archived_page(tmp_path: Path) -> Path:
    page = tmp_path / "docs/results.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(f"{results.BEGIN}{results.END}")
    return page


def test_finished_runs_are_kept_beside_the_page_which_is_rebuilt_from_them_alone(
    tmp_path: Path,
) -> None:
    outputs, page = tmp_path / "outputs", archived_page(tmp_path)
    mnist(outputs / "lenet300_mnist_imp/abc")
    mnist(outputs / "lenet300_mnist_imp/def", last=7, state="interrupted")
    mnist(outputs / "lenet300_mnist_imp/smoke", config={"train": {"shrink_to": "20it"}})
    save(outputs / "mine/1", [row(0, 0.9)], name="mine")
    assert results.main([str(outputs), str(page), "--keep"]) == 0
    whole = page.read_text()
    assert [run.folder.name for run in archived(tmp_path / "docs/runs")] == ["abc"]
    shutil.rmtree(outputs)
    assert results.main([str(outputs), str(page)]) == 0
    assert page.read_text() == whole
    assert "**shown**" in whole


def test_what_the_archive_lacks_is_not_looked_at_in_outputs(tmp_path: Path) -> None:
    mnist(tmp_path / "outputs/lenet300_mnist_imp/abc")
    (found,) = load(tmp_path / "outputs", tmp_path / "runs")
    assert found.kept_samples == KeptSamples()
    assert FinishedRun.load(found.folder).kept_samples != KeptSamples()


def test_the_archive_keeps_the_same_bytes_and_unfinished_runs_when_asked(tmp_path: Path) -> None:
    outputs, page = tmp_path / "outputs", archived_page(tmp_path)
    mnist(outputs / "lenet300_mnist_imp/abc", last=7, state="interrupted")
    assert results.main([str(outputs), str(page), "--keep=all"]) == 0
    (file,) = (tmp_path / "docs/runs").iterdir()
    once = file.read_bytes()
    assert results.main([str(outputs), str(page), "--keep=all"]) == 0
    assert file.read_bytes() == once
    shutil.rmtree(outputs)
    mnist(outputs / "lenet300_mnist_imp/abc")  # the same run, at its end
    assert results.main([str(outputs), str(page), "--keep"]) == 0
    (run,) = archived(tmp_path / "docs/runs")
    assert (run.state, run.rounds("ticket")[-1]) == ("done", 18)


def test_of_two_copies_of_a_run_the_better_evidence_counts(tmp_path: Path) -> None:
    archive = tmp_path / "runs"
    keep([mnist(tmp_path / "first/abc")], archive)
    mnist(tmp_path / "outputs/abc", last=3, state="running")  # begun again in a clone
    (run,) = load(tmp_path / "outputs", archive)
    assert run.state == "done"


def test_a_run_of_outputs_and_its_archived_copy_have_the_same_config(tmp_path: Path) -> None:
    config = {"paths": {"data": "/home/me"}, "model": {"path": "/home/me/models/small"}}
    run = mnist(tmp_path / "outputs/abc", config=config)
    keep([run], tmp_path / "runs")
    (there,) = load(tmp_path / "outputs", tmp_path / "none")
    (kept,) = load(tmp_path / "none", tmp_path / "runs")
    assert there.config == kept.config
    assert there.config["model"] == {"path": "small"}


def test_a_run_trained_again_does_not_hide_what_its_archived_copy_has_merged(
    tmp_path: Path,
) -> None:
    trained = mnist(tmp_path / "outputs/abc")
    keep([replace(trained, merges=({"method": "sum"},))], tmp_path / "runs")
    status = json.loads((trained.folder / "status.json").read_text())
    (trained.folder / "status.json").write_text(json.dumps(status | {"updated": "9999"}))
    (run,) = load(tmp_path / "outputs", tmp_path / "runs")
    assert run.merges


def test_an_archived_run_says_nothing_of_the_machine_s_folders(tmp_path: Path) -> None:
    config = {
        "paths": {"data": "/home/me/data"}, "record": {"wandb": {"dir": "/home/me"}},
        "dataset": {
            "_target_": "lth_runner.problem.data.imagefolder", "root": "/home/me/cifar10-jpeg.tar",
        },
        "train": {"optimizer": {"lr": 0.0012345678901}},
    }  # fmt: skip
    said = "lth-run +experiment=x dataset=imagefolder dataset.root=/home/me/cifar10-jpeg.tar"
    run = save(tmp_path / "abc", [row(0, 0.123456789)], name="x", config=config, command=said)
    (file,) = keep([run], tmp_path / "runs")
    text = gzip.decompress(file.read_bytes()).decode()
    assert "/home" not in text
    (kept,) = archived(tmp_path / "runs")
    assert kept.rows[0]["test_accuracy"] == 0.1234568
    assert kept.config["train"] == config["train"]
    assert (
        evidence.command(kept)
        == evidence.command(run)
        == "lth-run +experiment=x dataset=imagefolder"
    )
    assert evidence.images(kept) == evidence.images(run) == "CIFAR-10 (JPEG)"
    assert evidence.hardware(kept) == evidence.hardware(run)


def test_an_archive_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(b"not compressed")
    with pytest.raises(UserError, match=r"x\.jsonl\.gz is not an archive"):
        archived(tmp_path)


def pruned(folder, pruner, levels, *, step=0, seconds=10.0, search=0.5, name=FAMILIES_NAME):
    """Chains of rounds for imp, one round for others, over a dense network of three seeds."""
    rows = []
    for seed in range(3):
        common = {"seed": seed, "steps": 4000, "seconds": seconds, "search_seconds": search}
        rows.append(row(0, 0.98 + seed / 1e3, start_step=0, training_key=f"d{seed}", **common))
        for round, (kept, accuracy) in enumerate(levels.items(), 1):
            rows.append(row(round, accuracy + seed / 1e3, density=kept, start_step=step,
                            layer_density={"0.weight": kept, "2.weight": kept},
                            training_key=f"{pruner}{step}{round}{seed}", **common))  # fmt: skip
    score = "Concrete" if pruner == "concrete" else "Magnitude"
    node = {
        "sparsity": 1 - min(levels),
        "rate": 0.2 if pruner == "imp" else None,
        "search": {"score": {"_target_": f"x.{score}"}},
    }
    node |= {"dense": True} if pruner == "concrete" else {}
    config = {"pruner": node, "rewind": {"step": f"{step}it"}}
    return save(folder, rows, name=name, pruner=pruner, config=config,
                command=f"lth-run +experiment=x pruner={pruner} threads=1")  # fmt: skip


def test_search_and_iterative_pruning_are_compared_from_the_same_step(tmp_path: Path) -> None:
    chain = {0.21: 0.981, 0.055: 0.975, 0.0047223664828696: 0.90}
    found = {0.0047223664828696: 0.92}
    runs = [pruned(tmp_path / "imp", "imp", chain),
            pruned(tmp_path / "concrete", "concrete", found, search=4.0),
            pruned(tmp_path / "late", "imp", chain, step=200)]  # fmt: skip
    rows = held(runs)
    assert rows["families-accuracy-0"].verdict == "shown"
    assert rows["families-time-0"].verdict == "undecided"  # timed once
    # three trainings and four searches; the search of the ticket and of the dense network's place
    assert rows["families-time-0"].found.ours == "8 s of 32 s: 0.25"
    assert rows["families-accuracy-200"].verdict == "not measured here"
    runs.append(pruned(tmp_path / "cold", "concrete", {0.0047223664828696: 0.80}, step=200,
                       search=40.0))  # fmt: skip
    rows = held(runs)
    assert rows["families-accuracy-200"].verdict == "refuted"
    assert rows["families-time-200"].verdict == "undecided"
    early = pruned(tmp_path / "early", "concrete", {0.055: 0.97}, search=4.0)
    timed = Quicker(0.055, 0)({"first": early, "second": runs[0]})
    assert timed is not None
    assert timed.ours == "8 s of 22 s: 0.37"  # of the rounds down to this density alone


def test_pruners_stand_side_by_side_with_their_efforts_and_pictures(tmp_path: Path) -> None:
    outputs, page = tmp_path / "outputs", archived_page(tmp_path)
    folder = outputs / FAMILIES_NAME
    pruned(folder / "1", "imp", {0.21: 0.981, 0.055: 0.970})
    pruned(folder / "2", "one_shot", {0.21: 0.95})
    pruned(folder / "3", "imp", {0.21: 0.97, 0.055: 0.96}, step=200)
    pruned(folder / "4", "one_shot", {0.055: 0.94}, step=200)
    assert results.main([str(outputs), str(page)]) == 0
    lines = page.read_text().splitlines()
    assert "| imp | 98.20 ± 0.10 (3)\\* | 97.10 ± 0.10 (3) |" in lines
    assert "| one_shot | 95.10 ± 0.10 (3) |  |" in lines
    assert "| imp, from step 200 | 97.10 ± 0.10 (3) | 96.10 ± 0.10 (3) |" in lines
    assert "| imp | 94.5 % | trained weights | 8,000 | 22 | 1.5 | 4,000 | 10 |" in lines
    (commands,) = [line for line in lines if line.startswith("Commands: ")]
    said = f"4 runs, as `lth-run +experiment=x threads=1 name={FAMILIES_NAME}`"
    assert said in commands
    for key in ("accuracy", "effort"):
        assert f"images/{FAMILIES_NAME}_{key}.png" in page.read_text()
        picture = tmp_path / f"docs/images/{FAMILIES_NAME}_{key}.png"
        assert picture.stat().st_size < 150_000


def test_the_panels_show_what_rows_have_and_say_what_they_have_not(tmp_path: Path) -> None:
    figure = panels(mnist(tmp_path / "run"))
    assert len(figure.axes) == 6
    early, last, step, signs, jaccard, words = figure.axes
    drawn = [{line.get_label(): line.get_ydata() for line in axes.lines} for axes in (early, step)]
    assert drawn[0]["ticket"][0] == pytest.approx(98.2)
    assert drawn[1]["ticket"][-1] == pytest.approx(4090)
    named = [x.get_label() for x in last.lines if not x.get_label().startswith("_")]
    assert named == ["ticket", "reinit"]
    for axes in (signs, jaccard):
        assert [text.get_text() for text in axes.texts] == ["not recorded"]
    assert "51.3" in words.texts[0].get_text()


def test_every_claim_has_a_name_of_its_own_and_a_command_that_composes() -> None:
    claims = [claim for group in CLAIMS.values() for claim in group.claims]
    assert len({claim.id for claim in claims}) == len(claims)
    commands = {one.split(", ")[0] for claim in claims for one in claim.command.split(", then ")}
    commands |= {one for section in SECTIONS for one in section.commands}
    scripts = {one for one in commands if one.startswith("python ")}
    assert all((Path(__file__).parents[1] / one.split()[1]).is_file() for one in scripts)
    commands -= scripts  # which merge what the others have trained
    found = set()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        for command in commands:
            words = [word for word in shlex.split(command)[1:] if "," not in word and word != "-m"]
            for word in command.split():
                for pruner in word.removeprefix("pruner=").split(",") if "pruner=" in word else ():
                    assert (conf_dir() / "pruner" / f"{pruner}.yaml").is_file()
            config = compose("config", overrides=words)
            is_study = "study" in config
            found.add(read_study(config.study).name if is_study else resolve(config)["name"])
    named = {name for claim in claims for name, _ in claim.runs.values()}
    assert found == named | {section.name for section in SECTIONS}


def oneshot(folder, pruner, reached, *, scope="layerwise", sparsity=0.5, before=None):
    """Runs of smollm2_oneshot: a perplexity for each seed, and before a retraining one more."""
    rows = []
    for seed, value in enumerate(reached):
        dense = {"before_perplexity": 9.0, "test_perplexity": 8.0 + seed / 10}
        own = {"test_perplexity": value} | ({"before_perplexity": before[seed]} if before else {})
        rows.append({"round": 0, "arm": "ticket", "seed": seed, "density": 1.0, **dense})
        rows.append({"round": 1, "arm": "ticket", "seed": seed, "density": 1 - sparsity, **own})
    options = {"scope": scope, "sparsity": sparsity, "retrain": before is not None}
    return save(folder, rows, name="smollm2_oneshot", pruner=pruner, config={"pruner": options},
                command="lth-run +experiment=smollm2_oneshot threads=1")  # fmt: skip


def test_one_shot_runs_are_told_apart_by_scope_sparsity_and_retraining(tmp_path: Path) -> None:
    runs = [
        oneshot(tmp_path / "2", "magnitude_at_init", [300.0, 305.0, 302.0], scope="global"),
        oneshot(tmp_path / "3", "magnitude_at_init", [85.0], sparsity=0.6),
        oneshot(tmp_path / "4", "wanda", [20.0, 20.5, 20.2], scope="rows"),
        oneshot(tmp_path / "5", "wanda", [40.0, 40.5, 40.2], scope="n_of_m"),
        oneshot(tmp_path / "6", "sparsegpt", [30.0, 30.4, 30.1], scope="n_of_m"),
        oneshot(
            tmp_path / "7", "wanda", [15.0, 15.1, 15.2], scope="rows", before=[20.0, 20.5, 20.2]
        ),
        oneshot(tmp_path / "8", "magnitude_at_init", [85.0, 86.0, 87.0], before=[80.0, 80.4, 80.2]),
    ]
    rows = held(runs)
    verdicts = {name: row.verdict for name, row in rows.items() if name.startswith("oneshot")}
    assert verdicts == {
        "oneshot-wanda-magnitude_at_init-50 %": "shown",
        "oneshot-sparsegpt-magnitude_at_init-50 %": results.NOT_MEASURED,
        "oneshot-wanda-magnitude_at_init-2:4": results.NOT_MEASURED,
        "oneshot-sparsegpt-magnitude_at_init-2:4": results.NOT_MEASURED,
        "oneshot-sparsegpt-wanda-2:4": "shown",
        "oneshot-wanda-magnitude_at_init-60 %": results.NOT_MEASURED,
        "oneshot-wanda-magnitude_at_init-70 %": results.NOT_MEASURED,
        "oneshot-sparsegpt-wanda-60 %": results.NOT_MEASURED,
        "oneshot-sparsegpt-wanda-70 %": results.NOT_MEASURED,
        "oneshot-layerwise-global-50 %": "shown",
        "oneshot-layerwise-global-60 %": results.NOT_MEASURED,
        "oneshot-collapse-60": "undecided",
        "oneshot-collapse-70": results.NOT_MEASURED,
        "oneshot-recovered-magnitude_at_init": "refuted",
        "oneshot-recovered-wanda": "shown",
        "oneshot-recovered-sparsegpt": results.NOT_MEASURED,
        "oneshot-narrowed": "refuted",
    }
    told = "85.00 (n = 1) of 9.00 (n = 1): 9.4 times, −0.6 to 10"
    assert rows["oneshot-collapse-60"].found.ours == told
    [section] = [one for one in SECTIONS if one.name == "smollm2_oneshot"]
    page = section.written(runs, {})
    assert "| method | 50 % | 60 % | 2:4 |" in page
    assert "| magnitude, global | 302.33 ± 2.52 (n = 3) |  |  |" in page
    assert "| Wanda | 20.23 ± 0.25 (n = 3) |  | 40.23 ± 0.25 (n = 3) |" in page
    assert "| dense | all | 9.00 ± 0.00 (n = 3) | 8.10 ± 0.10 (n = 3) |" in page
    assert "| Wanda | 50 % | 20.23 ± 0.25 (n = 3) | 15.10 ± 0.10 (n = 3) |" in page
    [(figure, _)] = section.drawn(runs).values()
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "magnitude by layer", "magnitude, global", "Wanda",
    ]  # fmt: skip
    assert "Not measured here: `lth-run" in section.written([], {})


def test_time_saved_counts_with_what_is_lost_and_by_the_run_s_own_reports(tmp_path: Path) -> None:
    def judged(shrunk, loss):
        folder = tmp_path / f"{shrunk}-{loss}"
        rows = [row(0, 0.7 + seed / 1e4, seed=seed, density=1.0) for seed in range(3)]
        rows += [row(1, 0.7 + seed / 1e4 - loss, seed=seed, density=0.585, arm=arm)
                 for arm in ("ticket", "refill") for seed in range(3)]  # fmt: skip
        run = save(folder / "runs/abc", rows, name="vgg11", config={"model": {"width": 32}})
        for seed in range(3):
            found = [{"form": form, "batch": 32, "median": ms + seed / 100}
                     for form, ms in (("dense", 10.0), ("shrunk", shrunk))]  # fmt: skip
            for name in ("abc", "another"):
                of = {"run": name, "round": 1, "arm": "refill", "seed": seed}
                (folder / f"{name}{seed}.json").write_text(
                    json.dumps({"ticket": of, "latencies": found if name == "abc" else []})
                )
        return SavesTime(1, 0.585, 0.6, folder)({"run": run}), run

    good, run = judged(3.0, 0.0)
    assert good.for_it < 0.01
    assert "69.9 ± 0.1 (n = 3) % of the time saved" in good.ours
    assert judged(3.0, 0.02)[0].against_it < 0.01
    assert judged(5.0, 0.0)[0].against_it < 0.01
    assert SavesTime(1, 0.585, 0.6, tmp_path)({"run": run}) is None
    assert OfWidth(16, SavesTime(1, 0.585, 0.6, tmp_path))({"run": run}) is None
