"""The curves of a topic: which lines stand in which panel, made up here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.pages import drawing

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
from claim import Claim
from claims import CLAIMS
from judged import Row
from pictures import save
from topic_curves import read_by, topic_curves


@dataclass(frozen=True)
class Reads:
    """A rule that names what it reads."""

    field: str = "test_accuracy"
    arm: str = "ticket"

    def __call__(self, runs: Mapping[str, FinishedRun]) -> None:
        return None


def run(folder: str, accuracies: Mapping[float, float], *, name="one", arm="ticket", extra=None,
        **config) -> FinishedRun:  # fmt: skip
    rows = [
        {"round": place, "arm": arm if density < 1 else "ticket", "seed": config.get("seed", 0),
         "density": density, "test_accuracy": accuracy,
         "training_key": f"{density} of {config.get('seed', 0)}", **(extra or {})}
        for place, (density, accuracy) in enumerate(accuracies.items())
    ]  # fmt: skip
    config = {"dataset": {"name": "mnist"}, "seed": 0} | config
    return FinishedRun(Path(folder), {"name": name, **config}, {"state": "done"}, {}, tuple(rows))


def row(*runs: FinishedRun, reads: Reads | None = None) -> Row:
    claim = Claim("id", "text", "", "", "", {}, reads or Reads())
    return Row(claim, found=object(), runs=runs)  # type: ignore[arg-type]


def panels(*rows: Row, every: tuple[FinishedRun, ...] = ()) -> dict[str, dict[str, list]]:
    figure = topic_curves(rows, every)
    assert figure is not None
    return {
        axes.get_title(loc="left"): {
            line.get_label(): [tuple(map(float, point)) for point in line.get_xydata()]
            for line in axes.lines if not str(line.get_label()).startswith("_")
        }
        for axes in figure.axes
    }  # fmt: skip


def test_runs_that_differ_in_sparsity_and_seed_are_one_line_of_each_training_once() -> None:
    found = panels(row(
        run("a", {1.0: 0.9, 0.5: 0.8}, seed=0, pruner={"sparsity": 0.5}),
        run("b", {1.0: 0.92, 0.5: 0.82}, seed=1, pruner={"sparsity": 0.5}),
        run("c", {1.0: 0.9, 0.25: 0.7}, seed=0, pruner={"sparsity": 0.75}),
    ))  # fmt: skip
    [lines] = found.values()
    [points] = lines.values()
    assert points == [pytest.approx(point) for point in
                      ((100, 91), (50, 81), (25, 70))]  # fmt: skip


def test_the_dense_line_is_the_mean_over_the_runs_of_all_seeds() -> None:
    figure = topic_curves([row(*(
        run(f"{seed}", {1.0: 0.9 + 0.02 * seed, 0.5: 0.8}, seed=seed) for seed in (0, 1, 2)
    ))], [])  # fmt: skip
    assert figure is not None
    [axes] = figure.axes
    level = [line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert any(one == pytest.approx(92) for one in level)


def test_lines_are_told_apart_by_the_setting_in_which_runs_differ() -> None:
    found = panels(row(
        run("a", {1.0: 0.9, 0.5: 0.8}, train={"length": "10it"}),
        run("b", {1.0: 0.92, 0.5: 0.82}, train={"length": "20it"}),
    ))  # fmt: skip
    assert [sorted(lines) for lines in found.values()] == [["length 10it", "length 20it"]]


def test_a_setting_that_an_older_program_did_not_have_tells_nothing_apart() -> None:
    old = run("a", {1.0: 0.9, 0.5: 0.8}, train={"length": "10it"})
    new = run("b", {1.0: 0.92, 0.25: 0.82}, train={"length": "10it", "sync": True}, seed=1)
    assert [list(lines) for lines in panels(row(old, new)).values()] == [["ticket"]]


def test_a_setting_that_is_null_in_one_run_tells_it_from_the_others() -> None:
    plain = run("a", {1.0: 0.9, 0.5: 0.8}, pruner={"outside": None})
    other = run("b", {1.0: 0.9, 0.5: 0.7}, pruner={"outside": "elsewhere"})
    assert [list(lines) for lines in panels(row(plain, other)).values()] == [
        ["ticket", "elsewhere"]
    ]


def test_each_problem_and_each_field_that_a_rule_reads_has_its_panel() -> None:
    mnist = run("a", {1.0: 0.9, 0.5: 0.8}, extra={"chi": 0.3, "other": 1.0})
    digits = run("b", {1.0: 0.9, 0.5: 0.8}, dataset={"name": "digits"})
    found = panels(row(mnist, digits, reads=Reads("chi")))
    assert list(found) == [
        "one · digits\ntest accuracy (%)", "one · mnist\ntest accuracy (%)", "one · mnist\nchi",
    ]  # fmt: skip
    assert list(found["one · mnist\nchi"].values()) == [[(100.0, 0.3), (50.0, 0.3)]]


def test_of_merged_networks_it_is_what_they_lose_that_is_drawn() -> None:
    one, two = (run(name, {1.0: 0.9}, dataset={"name": name}) for name in ("low", "high"))
    sources = [
        {"name": "one", "run": of.folder.name, "alone": 0.9, "value": value,
         **{key: of.rows[0][key] for key in ("round", "arm", "seed", "training_key")}}
        for of, value in ((one, 0.8), (two, 0.6))
    ]  # fmt: skip
    one = replace(one, merges=({"method": "sum", "weight": 1.0, "sources": sources},))
    figure = topic_curves([row(one, two)], [])
    assert figure is not None
    [axes] = figure.axes
    assert axes.get_title(loc="left") == "Merged: low (full) and high (full)"
    drawn = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 1]
    assert [float(x) for [x] in drawn] == pytest.approx([10, 30])


def test_of_generated_networks_each_is_drawn_by_its_distance_and_what_starts_there() -> None:
    fields = {
        "generated_explained": 0.9, "generated_accuracy": {"flow": 0.8, "training": 0.9},
        "generated_curve": [0.7, 0.9], "generated_nearest_curve": [1.0, 2.0],
    }  # fmt: skip
    flow = run("flow", {1.0: 0.1}, extra=fields, dataset={"run": "networks"})
    starts = run("there", {1.0: 0.9, 0.5: 0.8}, origin={"index": 0})
    figure = topic_curves([row(flow, starts)], [])
    assert figure is not None
    networks, tickets = figure.axes
    called = "as trained, all weights, noise None"
    [points] = [line for line in networks.lines if line.get_label() == called]
    assert points.get_xydata().tolist() == [[1.0, 70.0], [2.0, 90.0]]
    [line] = [one for one in tickets.lines if not str(one.get_label()).startswith("_")]
    assert line.get_ydata().tolist() == [90.0, 80.0]


@pytest.mark.parametrize(
    ("topic", "field"),
    [
        ("KS-Lottery", "generated_exact"), ("Lottery ticket adaptation", "retained_accuracy"),
        ("One-shot pruning of a language model: after retraining", "before_perplexity"),
    ],
)  # fmt: skip
def test_what_the_rows_of_a_topic_read_is_among_what_is_drawn(topic: str, field: str) -> None:
    known = run("a", {1.0: 0.9}, extra={field: 0.5})
    asked = {name for claim in CLAIMS[topic].claims for name in read_by(claim, [known])}
    assert asked == {field}


def test_values_by_step_are_drawn_over_steps() -> None:
    by_step = {"instability_by_step": {"100": 0.1, "0": 0.4}}
    found = panels(row(run("a", {1.0: 0.9}, extra=by_step), reads=Reads("instability_by_step")))
    assert found["one · mnist\ninstability by step"] == {"ticket": [(0.0, 0.4), (100.0, 0.1)]}


def test_values_by_step_are_means_over_all_runs() -> None:
    found = panels(row(*(
        run(f"{seed}", {1.0: 0.9, 0.5: 0.8}, seed=seed, extra={"at": {"0": 0.1 * seed, "9": 0.4}})
        for seed in (1, 2, 3)
    ), reads=Reads("at")))  # fmt: skip
    assert found["one · mnist\nat"]["ticket"] == [pytest.approx((0, 0.2)), pytest.approx((9, 0.4))]


def test_a_control_of_the_same_values_at_another_density_has_its_line() -> None:
    ticket = run("a", {1.0: 0.9, 0.5: 0.8})
    rows = (*ticket.rows, *({**one, "arm": "reinit", "density": one["density"] / 2}
                            for one in ticket.rows))  # fmt: skip
    [lines] = panels(row(replace(ticket, rows=rows))).values()
    assert sorted(lines) == ["reinit", "ticket"]


def test_many_lines_part_by_the_setting_with_the_fewest_values() -> None:
    runs = [
        run(f"{norm}{rate}", {1.0: 0.9, 0.5: 0.8}, model={"norm": norm}, train={"lr": rate})
        for norm in ("batch", "layer") for rate in range(1, 9)
    ]  # fmt: skip
    found = panels(row(*runs))
    assert [title.splitlines()[0] for title in found] == [
        "one · mnist · batch", "one · mnist · layer",
    ]  # fmt: skip
    assert {len(lines) for lines in found.values()} == {8}


def test_a_run_that_another_starts_from_is_named_by_its_data() -> None:
    source = run("0123456789ab", {1.0: 0.9}, dataset={"name": "fashion"})
    given = run("x", {1.0: 0.9, 0.5: 0.8}, pruner={"ticket": "outputs/one/0123456789ab"})
    own = run("y", {1.0: 0.9, 0.5: 0.8}, pruner={"ticket": "none"})
    [lines] = panels(row(given, own), every=(source,)).values()
    assert sorted(lines) == ["from fashion", "none"]


def test_a_topic_that_no_run_reaches_has_no_picture() -> None:
    assert topic_curves([replace(row(run("a", {1.0: 0.9})), found=None)], []) is None


def test_a_small_picture_keeps_the_colours_of_its_lines(tmp_path: Path) -> None:
    figure = drawing.new_figure(8, 6)
    axes = figure.add_subplot()
    axes.imshow([[place / 400 for place in range(400)]] * 9, aspect="auto", extent=(0, 3, 0, 4))
    for place, colour in enumerate(drawing.COLOURS):
        axes.plot([0, 0.1], [place / 2] * 2, color=colour, linewidth=2)
    save({"a": (figure, "")}, tmp_path)
    found = {
        colour for _, colour in Image.open(tmp_path / "a.png").convert("RGB").getcolors(1 << 16)
    }
    for colour in drawing.COLOURS:
        own = tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))
        assert min(max(map(abs, map(int.__sub__, own, one))) for one in found) <= 8
