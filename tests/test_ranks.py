"""``lth-run`` on two ranks: one run, one message, whoever is wrong or dies."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import small
from command import SMALL, Said, environ, folders, lth_run, rows, status_of
from forked import lth_run_forked
from lth_runner.masking import Static
from lth_runner.search.ticket import Ticket
from lth_runner.training.engines.choose import by_ranks, chosen_before
from lth_runner.training.engines.distributed.engine import Distributed
from lth_runner.training.job import Job
from lth_runner.values import state as states
from lth_runner.values.errors import RankLost, UserError
from lth_runner.values.ranks import Rank
from second_rank import HOST, free_port, two_ranks

BOTH = (*SMALL, "train.engine=distributed", "record=local", "replicates=1")
LONG = (
    *BOTH, "pruner.rounds=1", "pruner.sparsity=null", "control=none", "train.shrink_to=null",
    "train.length=600it", "train.eval_every=200it", "train.checkpoint_minutes=0.001",
)  # fmt: skip


def ranked(number: int, port: int, num: int = 2) -> dict[str, str]:
    """What torchrun would set."""
    numbers = {"RANK": number, "WORLD_SIZE": num, "LOCAL_RANK": number, "LOCAL_WORLD_SIZE": num}
    return {key: str(value) for key, value in numbers.items()} | {
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
    }


def on_two_ranks(
    words: tuple[str, ...], folder: Path, other: tuple[str, ...] | None = None
) -> Said:
    """Runs the first rank here and the second beside it, which ends with the same status."""
    port, handlers = free_port(), {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    second = lth_run_forked(*(other or words), logs=folder, **ranked(1, port))
    said = lth_run(*words, environment=ranked(0, port))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert second.finish(said.status) == ""
    return said


@pytest.mark.parametrize(
    ("engine", "pruner"),
    [("distributed", ("pruner=snip", "pruner.sparsity=0.5")), ("sharded", ("pruner=imp",))],
)
def test_a_run_on_two_ranks_has_the_rows_of_one(
    tmp_path: Path, engine: str, pruner: tuple[str, ...]
) -> None:
    words, places = (*SMALL, "record=local", "replicates=1", *pruner), []
    for number, said in enumerate((
        lth_run(*words, f"paths.outputs={tmp_path / '0'}"),
        on_two_ranks((*words, f"train.engine={engine}", f"paths.outputs={tmp_path / '1'}"),
                     tmp_path),
    )):  # fmt: skip
        assert said.status == 0, said.err
        places.append(folders(tmp_path / str(number))[0])
    assert status_of(places[1])["engine"]["engine"] == f"{engine}-2"
    one, both = (rows(place / "rounds.jsonl") for place in places)
    assert len(one) == len(both) > 1
    for alone, together in zip(one, both, strict=True):
        for name in ("round", "arm", "num_kept", "layer_density"):
            assert together[name] == alone[name]
        assert together["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train.batch_size=1",), "train.batch_size=1 is the batch of all ranks together"),
        (("train.engine=auto",), "torchrun has started 2 ranks, and train.engine=auto"),
        (("device=cuda:1",), "device=cuda:1: each of 2 ranks has a device of its own"),
        (("train.nonsense=1",), "unknown key 'train.nonsense'"),
    ],
)
def test_what_is_wrong_is_told_once(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    said = on_two_ranks((*BOTH, f"paths.outputs={tmp_path / 'outputs'}", *words), tmp_path)
    assert said.status == 2
    assert said.err.count("error: ") == 1
    assert message in said.err


def test_ranks_that_are_told_otherwise_are_refused(tmp_path: Path) -> None:
    own = (*BOTH, f"paths.outputs={tmp_path / 'outputs'}")
    said = on_two_ranks(own, tmp_path, (*own, "seed=1"))
    assert said.status == 2
    assert "rank 1 (process" in said.err
    assert "has another command" in said.err


def test_one_process_has_no_ranks_to_train_on(tmp_path: Path) -> None:
    said = lth_run(*BOTH, f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "torchrun --nproc-per-node 2 -m lth_runner" in said.err
    said = lth_run(*SMALL, "train.sync_batch_norm=false", f"paths.outputs={tmp_path}")
    assert said.status == 2
    assert "train.sync_batch_norm=false is for train.engine=distributed" in said.err


def test_a_rank_alone_trains_as_one_and_another_run_takes_no_notice(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:  # the port is nobody's business
        alone = ranked(0, taken.getsockname()[1], num=1)
        said = lth_run(*BOTH, f"paths.outputs={tmp_path / '1'}", environment=alone)
        assert said.status == 0, said.err
        said = lth_run(*SMALL, "record=local", f"paths.outputs={tmp_path / '2'}", environment=alone)
        assert said.status == 0, said.err
    engines = [status_of(folders(tmp_path / name)[0])["engine"]["engine"] for name in "12"]
    assert engines == ["distributed-1", "sequential"]


def test_a_run_goes_on_with_as_many_ranks_as_it_was_begun_with() -> None:
    recipe, task = small.recipe(engine="distributed"), small.task()
    kept = {"engine": "distributed-2", "reason": "asked for"}
    assert chosen_before(kept, recipe, task, Static(), Rank(0, 2)).name == "distributed-2"
    with pytest.raises(
        UserError, match=r"begun as distributed-2, and now it would be distributed-3"
    ):
        chosen_before(kept, recipe, task, Static(), Rank(0, 3))


def test_a_norm_that_waits_for_all_ranks_by_itself_is_refused() -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.SyncBatchNorm(16), nn.Linear(16, 3))

    task = replace(small.task(), model=model)
    with pytest.raises(UserError, match=r"1 is torch's SyncBatchNorm.*train.sync_batch_norm=true"):
        by_ranks(small.recipe(engine="distributed"), task, Static(), Rank(0, 2))


def test_a_rank_has_its_share_of_a_batch() -> None:
    for num in (1, 2, 3, 7):
        ends = [Rank(number, num).share(10) for number in range(num)]
        assert ends[0][0] == 0
        assert ends[-1][1] == 10
        assert all(one[1] == other[0] for one, other in itertools.pairwise(ends))
        assert {end - begin for begin, end in ends} <= {10 // num, 10 // num + 1}
    with pytest.raises(UserError, match="RANK=x"):
        Rank.of({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": HOST, "MASTER_PORT": "1"})


class Outside(nn.Module):
    """Uses its second layer's weight without the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 16), nn.Linear(16, 3)])

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(self.layers[0](images.flatten(1)), self.layers[1].weight)


def test_a_weight_used_outside_of_its_block_is_refused(tmp_path: Path) -> None:
    task = small.task(model=Outside)
    chosen = Job(task, Ticket(task.dense(), task.init()), Static())
    said = "uses a weight outside of the forward of the block"

    def begin() -> None:
        with two_ranks(tmp_path) as leader, pytest.raises(UserError, match=said):
            Distributed(leader, is_sharded=True).begin([chosen], small.recipe(), [None])

    with pytest.raises(AssertionError, match=said):  # of the second rank, which ends by it too
        begin()


class Greedy(nn.Module):
    """Has no memory on one of the ranks."""

    def __init__(self) -> None:
        super().__init__()
        if dist.is_initialized() and dist.get_rank() == 1:
            raise MemoryError
        self.layer = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


def test_a_rank_without_memory_is_told_while_weights_are_sent_to_it(tmp_path: Path) -> None:
    task = small.task(model=Greedy)
    chosen = Job(task, Ticket(task.dense(), task.init()), Static())
    said = r"rank 1 \(.*\): out of memory: .*goes on from the last checkpoint"

    def begin() -> None:
        with two_ranks(tmp_path) as leader, pytest.raises(RankLost, match=said):
            Distributed(leader, is_sharded=True).begin([chosen], small.recipe(), [None])

    with pytest.raises(AssertionError, match="MemoryError"):  # of the second rank
        begin()


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    found: list[subprocess.Popen[bytes]] = []
    yield found
    for process in found:
        process.kill()
        process.wait()


def start(
    folder: Path, begun: list[subprocess.Popen[bytes]], engine: str, num: int = 2
) -> list[Path]:
    """Starts all ranks as processes of their own; their logs."""
    port, logs = free_port(), [folder / f"{number}.log" for number in range(num)]
    words = (*LONG, f"train.engine={engine}")
    for number, log in enumerate(logs):
        with log.open("w") as opened:
            begun.append(subprocess.Popen(
                [sys.executable, "-m", "lth_runner", *words], cwd=folder, stdout=opened,
                stderr=opened, env=environ(**ranked(number, port, num)),
            ))  # fmt: skip
    return logs


def ended(begun: list[subprocess.Popen[bytes]]) -> list[int]:
    found = [process.wait(timeout=120) for process in begun]
    begun.clear()
    return found


def results(folder: Path) -> dict[str, str]:
    entries = (folder / "outputs" / "store" / "entries").glob("*/end.safetensors")
    return {path.parent.name: states.fingerprint(states.load(path)[0]) for path in entries}


def has_checkpoint(folder: Path) -> bool:
    drafts = folder / "outputs" / "store" / "drafts"
    return any(drafts.glob("*/checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["distributed", "sharded"])
def test_whoever_is_killed_the_others_end_at_once_and_go_on_with_equal_bits(
    tmp_path: Path, begun: list[subprocess.Popen[bytes]], engine: str
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    start(whole, begun, engine)
    assert ended(begun) == [0, 0]
    for victim, sent in ((0, signal.SIGKILL), (1, signal.SIGKILL), (0, signal.SIGTERM)):
        folder = tmp_path / f"{victim}-{sent}"
        folder.mkdir()
        logs = start(folder, begun, engine)
        while not has_checkpoint(folder):
            assert all(process.poll() is None for process in begun)
            time.sleep(0.02)
        begun[victim].send_signal(sent)
        told_at = time.monotonic()
        statuses = ended(begun)
        assert time.monotonic() - told_at < 10
        said = "".join(log.read_text() for log in logs)
        if sent == signal.SIGTERM:
            assert statuses == [130, 130]
            assert "continue with:\n  torchrun --nproc-per-node 2 -m lth_runner" in said
        else:
            assert sorted(statuses) == [-9, 1]
            assert said.count("error: ") == 1
            assert f"rank {victim} (process" in said
            assert "The same command goes on from the last checkpoint" in said
        assert results(folder) != results(whole)
        start(folder, begun, engine)
        assert ended(begun) == [0, 0]
        assert results(folder) == results(whole)


@pytest.mark.slow
def test_torchrun_starts_it(tmp_path: Path) -> None:
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [str(torchrun), "--standalone", "--nproc-per-node", "2", "-m", "lth_runner", *BOTH]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "distributed-2" in done.stdout


@pytest.mark.slow
def test_two_of_torchrun_are_two_machines_with_the_rows_of_one_process(tmp_path: Path) -> None:
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [str(torchrun), "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d",
               "--rdzv-id", "1", "--rdzv-endpoint", f"{HOST}:{free_port()}",
               "-m", "lth_runner", *BOTH, f"paths.outputs={tmp_path}/both"]  # fmt: skip
    told, statuses = [], []
    machines = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environ(), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for one in machines:
        told.append(one.communicate(timeout=300)[0])
        statuses.append(one.returncode)
    assert statuses == [0, 0]
    assert sorted("distributed-2 (asked for; 2 ranks, machines: 2)" in said for said in told) == [
        False, True,
    ]  # fmt: skip
    words = ("train.engine=sequential", f"paths.outputs={tmp_path}/one")
    assert lth_run(*BOTH, *words).status == 0
    [both], [one] = folders(tmp_path / "both"), folders(tmp_path / "one")
    for ours, alone in zip(rows(both / "rounds.jsonl"), rows(one / "rounds.jsonl"), strict=True):
        assert ours["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-4)
