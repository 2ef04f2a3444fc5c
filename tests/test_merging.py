"""Task vectors become one: each formula on numbers that were worked out by hand."""

from __future__ import annotations

import errno
import io
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file

from command import SMALL, folders, lth_run
from lth_runner.cli.merge import main
from lth_runner.problem.origin import File
from lth_runner.runs.evidence.merges import find_merges
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.one_run import trained_path
from lth_runner.runs.origin import FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.runs.study_pages import merges as merge_page
from lth_runner.study.merged import Merge, Source
from lth_runner.study.merging import Dare, TaskArithmetic, Ties, interference, trim
from lth_runner.values.errors import UserError

# two tensors of one vector: budgets are of the whole
A = {"x": torch.tensor([4.0, -3.0, 0.5, 0.0]), "y": torch.tensor([[2.0], [-1.0]])}
B = {"x": torch.tensor([2.0, 5.0, 0.25, 0.0]), "y": torch.tensor([[-2.0], [-4.0]])}


def lists(state) -> dict[str, list]:
    return {name: value.reshape(-1).tolist() for name, value in state.items()}


def test_a_run_without_its_config_is_told_as_that(tmp_path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml is missing.*own command again"):
        rebuilt(tmp_path)


def test_arithmetic_adds_what_is_weighted() -> None:
    merged = TaskArithmetic()([A, B], [0.5, 2.0])
    assert lists(merged) == {"x": [6.0, 8.5, 0.75, 0.0], "y": [-3.0, -8.5]}


def test_trimming_keeps_the_largest_of_a_whole_vector() -> None:
    assert lists(trim(A, 0.5)) == {"x": [4.0, -3.0, 0.0, 0.0], "y": [2.0, 0.0]}
    assert lists(trim(B, 0.5)) == {"x": [0.0, 5.0, 0.0, 0.0], "y": [-2.0, -4.0]} or (
        lists(trim(B, 0.5)) == {"x": [2.0, 5.0, 0.0, 0.0], "y": [0.0, -4.0]}  # a tie, by seed
    )


def test_ties_trims_elects_and_averages_those_that_agree() -> None:
    # trimmed to 5 of 6: A loses its 0, B loses its 0
    # sums: x 6, 2, 0.75, 0; y 0, -5. Signs + + + 0; 0 -: three + against one -, so 0 becomes +
    # agreeing: x (4, 2), (5), (0.5, 0.25), none; y (2), (-1, -4)
    merged = Ties(density=5 / 6)([A, B], [1.0, 1.0])
    assert lists(merged) == {"x": [3.0, 5.0, 0.375, 0.0], "y": [2.0, -2.5]}
    halved = Ties(density=5 / 6)([A, B], [1.0, 0.5])
    assert lists(halved) == {"x": [2.5, 2.5, 0.3125, 0.0], "y": [2.0, -1.5]}


def test_dare_drops_by_seed_and_rescales_what_is_left() -> None:
    large = {"x": torch.ones(20_000)}
    dare = Dare(drop=0.75, seed=3)
    [one, other] = (dare.dropped(large, index)["x"] for index in (0, 1))
    assert set(one.tolist()) == {0.0, 4.0}
    assert one.mean() == pytest.approx(1.0, abs=0.06)  # 5 standard deviations
    assert not torch.equal(one, other)
    merged = dare([large, large], [1.0, 0.5])["x"]
    assert torch.equal(merged, one + 0.5 * other)
    assert torch.equal(merged, Dare(drop=0.75, seed=3)([large, large], [1.0, 0.5])["x"])
    assert lists(Dare(drop=0.0)([A, B], [1.0, 1.0])) == lists(TaskArithmetic()([A, B], [1.0, 1.0]))


def test_interference_is_counted_beside_chance() -> None:
    found = interference(A, B)
    assert (found.num, found.both, found.conflicts) == (6, 5, 2)
    assert found.by_chance == pytest.approx(25 / 6)
    assert found.conflict_share == 0.4
    apart = {"x": torch.tensor([0.0, 0, 0, 1]), "y": torch.zeros(2, 1)}
    assert interference(A, apart).both == 0
    assert interference(A, apart).conflict_share == 0


@pytest.mark.parametrize(
    "make", [lambda: Ties(density=0.0), lambda: Ties(density=1.5), lambda: Dare(drop=1.0)]
)
def test_shares_that_leave_nothing_are_refused(make) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        make()


def test_a_share_at_the_end_that_leaves_nothing_is_called_so() -> None:
    with pytest.raises(UserError, match=r"--density 0\.0 leaves nothing to merge"):
        Ties(density=0.0)


# --- of runs

LOTA = (
    *SMALL, "record=local", "coordinates=delta", "covers.only=[linear1.weight]",
    "coordinates.whole=[output]", "pruner=magnitude_at_init", "pruner.score_step=5it",
    "pruner.sparsity=0.8", "control=none", "train.optimizer.lr=0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two tasks from one start, the second one's mask outside the first one's."""
    outputs = tmp_path_factory.mktemp("merged")
    found: list[str] = []
    for name, words in (("one", []), ("two", ["dataset.seed=1", f"pruner.outside={outputs}/one"])):
        said = lth_run(*LOTA, f"name={name}", f"paths.outputs={outputs}", *words)
        assert said.status == 0, said.err
        found.append(str(folders(outputs, name)[0]))
    return found


def sources(runs: list[str], round: int = 1) -> tuple[Source, ...]:
    return tuple(
        Source.of_run(run, ["output"], round=round, arm="ticket", seed=None) for run in runs
    )


def test_changes_that_share_no_place_add_up_without_interference(runs: list[str]) -> None:
    merge = Merge(sources(runs))
    [found] = merge.interference.values()
    assert (found.both, found.conflicts) == (0, 0)
    assert found.by_chance > 0
    one, two = merge.networks(TaskArithmetic(), 1.0)
    start = merge.sources[0].start["linear1.weight"]
    for source, mine in zip(merge.sources, (one, two), strict=True):
        moved = source.end["linear1.weight"] != start
        assert moved.any()
        added = start + (source.end["linear1.weight"] - start)
        assert torch.equal(mine["linear1.weight"][moved], added[moved])
        assert torch.equal(mine["output.weight"], source.end["output.weight"])
    assert torch.equal(one["linear1.weight"], two["linear1.weight"])
    [whole] = Merge(sources(runs, round=0)).interference.values()
    assert whole.conflicts > 0


def test_the_command_chooses_a_weight_on_validation_and_writes_an_origin(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "merged.safetensors"
    words = [*runs, "--head", "output", "--method", "ties", "--to", str(path)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "0 of" in said
    assert "ties" in said
    merge = Merge(sources(runs))
    weight = merge.best(Ties(), [0.1 * n for n in range(1, 11)])
    [line] = [line.split() for line in said.splitlines() if line.startswith("ties")]
    assert float(line[1]) == pytest.approx(weight)
    tried = merge.tried(Ties(), weight, "test").values
    assert [float(word) for word in line[2::2]] == pytest.approx([100 * v for v in tried], abs=0.01)
    module = merge.sources[0].task.module()
    File(str(path)).lay(module)
    found, network = load_file(path), merge.networks(Ties(), weight)[0]
    assert found.keys() == network.keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, network[name])


class Gone(io.StringIO):
    """A stdout whose reader has seen enough."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def to_file(runs: list[str], path: Path) -> list[str]:
    return [*runs, "--head", "output", "--method", "sum", "--to", str(path)]


def test_a_network_is_written_where_nobody_reads_what_is_printed(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "merged.safetensors"
    with mock.patch.object(sys, "stdout", Gone()), mock.patch("lth_runner.cli.stopping.hush"):
        assert main(to_file(runs, path)) == 0
    assert f"written  {path}" in capsys.readouterr().err
    assert path.is_file()


def test_an_interruption_tells_the_network_that_is_written(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "merged.safetensors"
    with mock.patch("lth_runner.cli.merge._keep", side_effect=KeyboardInterrupt):
        assert main(to_file(runs, path)) == 130
    assert f"interrupted; nothing was written besides {path}" in capsys.readouterr().err


def test_running_statistics_stay_each_task_s_own_and_no_number_is_never_the_best(
    tmp_path: Path,
) -> None:
    found = []
    for name, words in (("one", []), ("two", ["dataset.seed=1"])):
        words = [*words, "model.norm=batch", "pruner=one_shot", f"paths.outputs={tmp_path}"]
        said = lth_run(*SMALL, "record=local", "control=none", *words, f"name={name}")
        assert said.status == 0, said.err
        found.append(str(folders(tmp_path, name)[0]))
    merge = Merge(sources(found, round=0))
    assert {"norm1.weight", "norm1.bias"} <= {*merge.shared}
    one, two = merge.networks(TaskArithmetic(), 1.0)
    for source, mine in zip(merge.sources, (one, two), strict=True):
        for name in ("norm1.running_mean", "norm1.running_var", "norm1.num_batches_tracked"):
            assert name in source.own
            assert torch.equal(mine[name], source.end[name])
    assert torch.equal(one["norm1.weight"], two["norm1.weight"])
    # a half of the sum is one source's own change: nothing is lost of it
    same = Merge((merge.sources[0], replace(merge.sources[0], name="again")))
    assert same.tried(TaskArithmetic(), 0.5, "val").values == pytest.approx(same.alone("val"))
    assert same.best(TaskArithmetic(), [float("nan"), 1e30, 0.5]) == 0.5
    end = trained_path(Path(found[1]), FromRun(found[1]).row)
    end.write_bytes(end.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"weights cannot be read: .* give the run's own"):
        sources(found, round=0)


# --- what reports say of merges


def test_a_merge_is_kept_beside_its_runs_and_told_by_a_page(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*runs, "--head", "output", "--method", "sum", "--method", "dare", "--drop", "0.5"]
    assert main([*words, "--weight", "0.5"]) == 0
    assert main([*words, "--weight", "0.5"]) == 0  # the same again counts once
    kept = Path(runs[0]) / "merges.jsonl"
    assert f"kept     {kept}; page: lth-report" in capsys.readouterr().out
    found = [FinishedRun.load(run) for run in runs]
    assert find_merges(found[:1]) == ()  # the other one is not looked at
    merges = find_merges(found)[-1]
    merge = Merge(sources(runs))
    told = {one.told: one for one in merges.merged}
    assert {"sum, w = 1", "DARE dropping 50 %, w = 0.5"} <= told.keys()
    for place, value in enumerate(merge.tried(TaskArithmetic(), 1.0, "test").values):
        assert told["sum, w = 1"].values[place] == {0: value}
        assert merges.alone[place] == {0: merge.alone()[place]}
    assert [part.way for part in merges.parts] == ["LoTA", "LoTTO"]
    [met] = merges.meetings
    assert (met.both, met.conflicts) == ({0: 0}, {})
    page, *_ = merge_page.write_merges(merges, tmp_path)
    assert f"0 of {met.num[0]:,.0f} weights are changed by both" in page.read_text()
    assert merge_page.sentence(merges, told["sum, w = 1"]) in page.read_text()
    # a run that is trained anew has other trainings than those that were merged
    again = [{**row, "training_key": "another"} for row in found[1].rows]
    assert find_merges([found[0], replace(found[1], rows=tuple(again))]) == ()


def test_a_task_loses_what_its_own_training_reached_more_by_seed() -> None:
    config = {"dataset": {"name": "low"}, "coordinates": {"_target_": "lth_runner.problem.Delta"}}
    rows = [{"round": 1, "arm": "ticket", "seed": seed, "density": 0.1, "training_key": f"{seed}"}
            for seed in range(3)]  # fmt: skip
    met = {"of": [0, 1], "num": 100, "both": 8, "by_chance": 1.0, "conflicts": 2}

    def line(seed: int, low: float, high: float) -> dict:
        of = {key: rows[seed][key] for key in ("round", "arm", "seed", "training_key")}
        sources = [
            {"name": "x", "run": "one", **of, "alone": 0.75, "value": low},
            {"name": "x", "run": "two", **of, "alone": 0.75, "value": high},
        ]
        facts = {"method": "ties", "options": {"density": 0.2}, "weight": 0.1 * seed}
        return {**facts, "weight_by": "validation", "sources": sources, "interference": [met]}

    lines = (line(0, 0.25, 0.75), line(1, 0.25, 1.0), line(2, 0.5, 0.5), line(0, 0.5, 0.75))
    one, two = (
        FinishedRun(Path("x") / name, {**config, "dataset": {"name": task}, "name": "x"}, {}, {},
                    tuple(rows), merges=lines if name == "one" else ())
        for name, task in (("one", "low"), ("two", "high"))
    )  # fmt: skip
    [found] = find_merges([one, two])
    [ties] = found.merged
    assert ties.told == "TIES keeping 20 %, w by validation"
    assert ties.values[0] == {0: 0.5, 1: 0.25, 2: 0.5}  # the later line of seed 0
    # low: 0.25, 0.5, 0.25 less in mean 1/3; high: 0, -0.25, 0.25
    assert found.lost(ties, 0).difference == pytest.approx(1 / 3)
    assert found.lost(ties, 1).difference == pytest.approx(0.0)
    assert found.meetings[0].conflicts == {0: 0.25, 1: 0.25, 2: 0.25}
    assert found.meetings[0].times_chance[0] == 8
    assert "8 of 100 weights are changed by both, 1 by chance; 25.0 % of them" in merge_page.text(
        found
    )


def test_two_trainings_on_one_task_have_a_word_each() -> None:
    rows = [{"round": 1, "arm": "ticket", "seed": seed, "density": 0.1, "training_key": f"{seed}"}
            for seed in range(3)]  # fmt: skip

    def line(seed: int, first: float, second: float) -> dict:
        of = {key: rows[seed][key] for key in ("round", "arm", "seed", "training_key")}
        sources = [
            {"name": "x", "run": name, **of, "alone": 0.75, "value": value}
            for name, value in (("one", first), ("two", second))
        ]
        return {"method": "sum", "weight": 1.0, "sources": sources}

    lines = (line(0, 0.25, 0.70), line(1, 0.26, 0.80), line(2, 0.24, 0.75))
    one, two = (
        FinishedRun(Path("x") / name, {"dataset": {"name": "digits"}, "name": "x"}, {}, {},
                    tuple(rows), merges=lines if name == "one" else ())
        for name in ("one", "two")
    )  # fmt: skip
    [found] = find_merges([one, two])
    assert [part.task for part in found.parts] == ["digits 1", "digits 2"]
    assert found.words == {("sum, w = 1", 0): "shown", ("sum, w = 1", 1): "undecided"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--weight", "nan"], "'nan': give a finite number"),
        (["--weight", "0.3", "--method", "sum"], "--weight goes with --method task_arithmetic"),
        (["--density", "0.3", "--method", "dare"], "--density goes with --method ties"),
        (["--drop", "1", "--method", "dare"], "--drop 1.0 leaves nothing to merge"),
        (["--arm", "reinit"], "one has no arm reinit: it has ticket"),
        (["--round", "7"], "one has no finished training of round 7 and seed 0: it has rounds 0"),
    ],
)
def test_words_of_the_command_are_told_in_its_own_words(
    runs: list[str], capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(runs[0]).parent.parent)
        try:
            status = main(["one", "two", "--head", "output", *words])
        except SystemExit as end:
            status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert told in " ".join(said.split())
    assert "origin" not in said


def test_what_cannot_be_merged_is_told(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([runs[0], "--head", "output"]) == 2
    assert "takes two runs or more" in capsys.readouterr().err
    assert main([*runs, "--head", "outptu"]) == 2
    assert "--head: 'outptu' matches no tensor" in capsys.readouterr().err
    assert main([runs[0], runs[0], "--head", "output"]) == 2
    assert "is named twice" in capsys.readouterr().err
    assert main([*runs, "--head", "*"]) == 2
    assert "--head takes all weights of one/" in capsys.readouterr().err
    one, two = sources(runs)
    moved = {**two.start, "linear1.weight": two.start["linear1.weight"] + 1}
    other = Source(two.name, two.task, moved, two.end, two.own)
    with pytest.raises(UserError, match=r"started from other weights \(linear1.weight\)"):
        Merge((one, other))


def test_heads_are_kept_apart_or_it_is_told_what_their_classes_are(runs: list[str]) -> None:
    one, two = sources(runs)
    assert Merge((one, two)).told == "output.bias, output.weight: each its own"
    # one task's output layer as if nobody had named it
    end = {**two.end, "output.weight": one.end["output.weight"]}

    def unnamed(**classes: tuple[str, ...]) -> Merge:
        found = (
            replace(source, own=frozenset(), head=frozenset(), start=one.start, end=end,
                    classes=classes.get(name, ()))
            for name, source in (("one", one), ("two", two))
        )  # fmt: skip
        return Merge(tuple(found))

    with pytest.raises(
        UserError, match=r"one/.* by the classes good, bad, two/.* by Bad, Good, and"
    ):
        unnamed(one=("good", "bad"), two=("Bad", "Good"))
    with pytest.raises(UserError, match=r"by 5, 6, and with no --head"):
        unnamed(one=("0", "1"), two=("5", "6"))
    assert "all of yes, no" in unnamed(one=("yes", "no"), two=("yes", "no")).told
    told = unnamed(one=("yes", "no")).told
    assert "as if they answered the same" in told
    assert "of yes, no; two/" in told
