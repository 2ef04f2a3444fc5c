"""Starts that are no draw: from files, folders, tickets and runs, named by what they hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from torch import nn

from command import SMALL, folders, lth_run, no_training, parts_of, rows
from fake_past import data
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.problem.fits import check_fits
from lth_runner.problem.origin import File
from lth_runner.problem.task import Task
from lth_runner.runs.origin import FromRun
from lth_runner.values.errors import UserError
from lth_runner.values.state import State


class Net(nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5))
        self.head = nn.Linear(5, classes)

    def forward(self, inputs):
        return self.head(self.body(inputs).relu())


def weights(classes: int = 3, seed: int = 1) -> State:
    torch.manual_seed(seed)
    return {k: torch.randn(v.shape).to(v.dtype) for k, v in Net(classes).state_dict().items()}


def written(path: Path, state: State, prefix: str = "") -> str:
    save_file({prefix + name: value for name, value in state.items()}, path)
    return str(path)


def start(origin: object, seed: int = 0) -> State:
    return Task(Net, data(), seed, origin=origin).init()  # type: ignore[arg-type]


def test_all_that_a_file_holds_is_the_start_statistics_too(tmp_path: Path) -> None:
    held = weights()
    found = start(File(written(tmp_path / "model.safetensors", held)))
    assert found.keys() == held.keys()
    assert all(torch.equal(found[name], value) for name, value in held.items())


def test_a_folder_of_shards_is_read_by_its_index(tmp_path: Path) -> None:
    held = weights()
    names = sorted(held)
    parts = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, part in parts.items():
        save_file({name: held[name] for name in part}, tmp_path / file)
    places = {name: file for file, part in parts.items() for name in part}
    with pytest.raises(UserError, match=r"holds 2 \.safetensors files and no model.safetensors"):
        File(str(tmp_path))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    found = start(File(str(tmp_path)))
    assert all(torch.equal(found[name], value) for name, value in held.items())


def test_a_prefix_is_taken_off_and_another_put_on(tmp_path: Path) -> None:
    held = weights()
    path = written(tmp_path / "a.safetensors", held, "encoder.")
    assert torch.equal(start(File(path, under="encoder."))["head.bias"], held["head.bias"])
    with pytest.raises(UserError, match=r"encoder\.body.*which the network has not.*origin.under"):
        start(File(path))
    body = {k.removeprefix("body."): v for k, v in held.items() if k.startswith("body.")}
    into = File(written(tmp_path / "b.safetensors", body), into="body.", fresh=["head"])
    assert torch.equal(start(into)["body.0.weight"], held["body.0.weight"])


def test_a_head_that_differs_is_drawn_anew_where_it_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", weights(classes=9))
    with pytest.raises(
        UserError, match=r"head.\w+ has shape \(9.*network's has \(3.*origin.fresh=\[head"
    ):
        start(File(path))
    wide = {name: torch.stack([value, value]) for name, value in weights().items()}
    with pytest.raises(UserError, match=r"is of another network: \d of its \d tensors, in \d lay"):
        start(File(written(tmp_path / "b.safetensors", wide)))
    one, other = (start(File(path, fresh="head"), seed) for seed in (0, 1))
    plain = Task(Net, data(), 0).init()
    assert torch.equal(one["head.weight"], plain["head.weight"])
    assert not torch.equal(one["head.weight"], other["head.weight"])
    assert torch.equal(one["body.0.weight"], other["body.0.weight"])


def test_names_that_lack_or_are_besides_are_told(tmp_path: Path) -> None:
    held = weights()
    lacking = {k: v for k, v in held.items() if k != "head.bias"}
    with pytest.raises(UserError, match=r"lacks head\.bias: name them in origin\.fresh"):
        start(File(written(tmp_path / "a.safetensors", lacking)))
    more = held | {"pooler.weight": torch.zeros(2)}
    path = written(tmp_path / "b.safetensors", more)
    with pytest.raises(UserError, match=r"has pooler\.weight, which the network has not.*unused"):
        start(File(path))
    assert torch.equal(start(File(path, unused=["pooler"]))["head.bias"], held["head.bias"])
    with pytest.raises(UserError, match=r"origin\.fresh: 'hed' matches no tensor.*head"):
        start(File(path, fresh=["hed"], unused=["pooler"]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda value: value * float("nan"), "has values that are not finite"),
        (lambda value: value.long(), "is int64, the network's is float32"),
    ],
)
def test_values_that_no_training_could_start_from_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], says: str
) -> None:
    held = weights()
    path = written(tmp_path / "a.safetensors", held | {"head.bias": change(held["head.bias"])})
    with pytest.raises(UserError, match=rf"head\.bias {says}"):
        start(File(path))
    assert torch.equal(start(File(path, fresh=["head"]))["body.0.bias"], held["body.0.bias"])


def test_patterns_that_leave_nothing_or_match_nothing_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", weights(), "net.")
    with pytest.raises(UserError, match="leaves nothing of"):
        start(File(path, under="net", fresh=["*"]))
    with pytest.raises(UserError, match=r"origin\.unused: 'pooler' matches no tensor"):
        start(File(path, under="net.", unused=["pooler"]))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(4, 2)
        self.output = nn.Linear(2, 4, bias=False)
        self.output.weight = self.words.weight


def test_two_values_of_a_shared_parameter_are_refused_and_one_twice_is_read(tmp_path: Path) -> None:
    values, network = torch.arange(8.0).reshape(4, 2), Tied()
    twice = {"output.weight": values, "words.weight": values.clone()}
    File(written(tmp_path / "a.safetensors", twice)).lay(network)
    assert torch.equal(network.output.weight, values)
    twice["output.weight"] = 2 * values
    with pytest.raises(UserError, match="shares one parameter"):
        File(written(tmp_path / "b.safetensors", twice)).lay(network)


def test_a_fresh_draw_has_nothing_of_the_origins(tmp_path: Path) -> None:
    origin = File(written(tmp_path / "a.safetensors", weights()))
    task = Task(Net, data(), 0, origin=origin)
    assert all(
        torch.equal(a, b)
        for a, b in zip(task.fresh(5).values(), Task(Net, data()).fresh(5).values(), strict=True)
    )
    assert not torch.equal(task.fresh(5)["head.weight"], task.init(5)["head.weight"])


@pytest.mark.parametrize("content", [b"", b"not tensors", b'\x08\0\0\0\0\0\0\0{"a": }'])
def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match="there is no such file or folder"):
        File(str(tmp_path / "none.safetensors"))
    with pytest.raises(UserError, match=r"holds no \.safetensors file"):
        File(str(tmp_path))
    path = tmp_path / "torn.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is no safetensors file"):
        check_fits(Task(Net, data(), origin=File(str(path))))


def test_a_torn_file_and_a_torn_index_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(path, weights())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="is no safetensors file"):
        start(File(str(path)))
    index = tmp_path / "model.safetensors.index.json"
    for text in ("{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../other.safetensors"}}'):
        index.write_text(text)
        with pytest.raises(UserError, match=r"index\.json"):
            File(str(tmp_path))
    index.write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(UserError, match=r"gone\.safetensors cannot be read"):
        File(str(tmp_path))


# --- runs

DIGITS = (*SMALL, "record=local")


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return compose("config", overrides=list(words))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, whose trainings others start from; two seeds."""
    outputs = tmp_path_factory.mktemp("first")
    said = lth_run(*DIGITS, "replicates=2", "name=first", f"paths.outputs={outputs}")
    assert said.status == 0, said.err
    return folders(outputs, "first")[0]


def trained(run: Path, *, round: int = 0, seed: int = 0) -> Path:
    for row in rows(run / "rounds.jsonl"):
        if (row["arm"], row["round"], row["seed"]) == ("ticket", round, seed):
            return run.parents[1] / "store/entries" / row["training_key"] / "end.safetensors"
    raise AssertionError("no such row")


@pytest.mark.parametrize("options", [{}, {"round": 2}, {"seed": 1}, {"round": 1, "seed": 1}])
def test_a_run_gives_the_end_of_the_training_that_is_asked_for(first: Path, options: dict) -> None:
    file = File(str(trained(first, **options)))
    for said in (str(first), str(first.parent)):
        assert FromRun(said, **options).content == file.content


def test_a_store_entry_and_a_ticket_are_files(first: Path) -> None:
    entry = trained(first)
    assert File(str(entry.parent)).content == File(str(entry)).content
    path = first / "tickets/round-01.safetensors"
    network = parts_of(composed(*DIGITS)).experiment.tasks[0].model()
    File(str(path)).lay(network)
    found = load_file(path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, found[f"weights.{name}"])


@pytest.mark.parametrize("what", ["run", "entry", "ticket"])
def test_weights_with_a_flipped_bit_are_no_other_start(
    first: Path, tmp_path: Path, what: str
) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(first.parents[1], outputs)
    run = outputs / first.relative_to(first.parents[1])
    training = rows(run / "rounds.jsonl")[0]["training_key"]
    end = outputs / "store/entries" / training / "end.safetensors"
    file = end if what != "ticket" else run / "tickets/round-01.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.unlink()
    file.write_bytes(bytes(content))
    with pytest.raises(
        UserError, match=r"(cannot be read|not what was written): .*do not fit the hash"
    ):
        FromRun(str(run)) if what == "run" else File(str(file))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"round": 7}, "no finished training of round 7 and seed 0: it has rounds 0, 1, 2 and"),
        ({"seed": 9}, "no finished training of round 0 and seed 9: .* seeds 0, 1"),
    ],
)
def test_a_training_that_a_run_has_not_is_refused(first: Path, options: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        FromRun(str(first), **options)


def test_what_is_no_run_or_several_is_refused(first: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no run folder: give outputs/<name>/<run_id>"):
        FromRun(str(tmp_path))
    for number in "ab":
        (tmp_path / number).mkdir()
        shutil.copy(first / "rounds.jsonl", tmp_path / number)
    with pytest.raises(UserError, match="holds 2 runs: give one of them"):
        FromRun(str(tmp_path))
    with pytest.raises(UserError, match=r"there is no Store beside .* to take its training"):
        FromRun(str(tmp_path / "a"))


def test_a_run_without_a_finished_training_is_refused_as_such(tmp_path: Path) -> None:
    status = {"state": "failed", "error": "no disk"}
    (tmp_path / "status.json").write_text(json.dumps(status))
    with pytest.raises(UserError, match=r"has no finished training\. .* has failed: no disk"):
        FromRun(str(tmp_path))


def test_the_same_content_elsewhere_is_the_same_run_and_other_content_another(
    first: Path, tmp_path: Path
) -> None:
    def run_id(*words: str) -> str:
        return parts_of(composed(*DIGITS, *words)).run_id

    place = tmp_path / "moved.safetensors"
    shutil.copy(trained(first), place)
    by_run = run_id("origin=run", f"origin.run={first}")
    assert run_id("origin=file", f"origin.path={place}") == by_run != run_id()
    tensors = load_file(place)
    tensors["weights.output.bias"][0] += 1e-6
    save_file(tensors, place)
    assert run_id("origin=file", f"origin.path={place}") != by_run


def test_a_start_from_a_run_trains_once_and_its_controls_start_elsewhere(
    first: Path, tmp_path: Path
) -> None:
    words = (*DIGITS, "origin=run", f"origin.run={first}", f"paths.outputs={tmp_path}", "name=b")
    said = lth_run(*words)
    assert said.status == 0, said.err
    [folder] = folders(tmp_path, "b")
    end, begun = load_file(trained(first)), load_file(folder / "tickets/round-01.safetensors")
    kept = begun["mask.linear1.weight"]
    assert torch.equal(begun["weights.linear1.weight"], end["weights.linear1.weight"] * kept)
    assert {row["arm"] for row in rows(folder / "rounds.jsonl")} == {"ticket", "reinit"}
    keys = {row["training_key"] for row in rows(folder / "rounds.jsonl")}
    assert not keys & {row["training_key"] for row in rows(first / "rounds.jsonl")}
    with no_training():
        assert lth_run(*words, "origin.seed=0").status == 0  # what it means already: the same run
