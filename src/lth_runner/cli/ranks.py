"""Several processes at one run: rank 0 runs the program, and the others do what it says.

The others compose nothing. They are told the config as plain values, build the problem of it, and
rank 0 holds theirs against its own before it trains.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import platform
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

import lth_runner
from lth_runner.cli.build import Parts
from lth_runner.cli.stopping import interrupted_once
from lth_runner.parts.make import part
from lth_runner.parts.task import build_task
from lth_runner.problem.task import Task
from lth_runner.training.engines.distributed.collectives import connect
from lth_runner.training.engines.distributed.joining import JOIN, await_others, join
from lth_runner.training.engines.distributed.lines import AGAIN, Leader, others_that, told
from lth_runner.training.engines.distributed.orders import Connect, Served, serve
from lth_runner.training.engines.distributed.shared_sums import ByRanks
from lth_runner.training.engines.distributed.telling import Who
from lth_runner.training.memory import MemoryPlan
from lth_runner.training.recipe import Recipe
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.cublas import fix_workspace
from lth_runner.values.errors import RankLost, UserError
from lth_runner.values.raised import reason_of
from lth_runner.values.ranks import Rank
from lth_runner.values.search_path import user_code_last
from lth_runner.values.terminal import show

PROBLEM = {  # what a rank may have otherwise, and what to do
    "data": "other data: let all machines have the same files in paths.data",
    "problem": "another network or objective: let all machines have the same code and files",
    "recipe": "another recipe: let all machines have the same code",
    "weights": "other weights to start from: let all machines have the same files and libraries",
    "device": "a device of another kind: give all ranks GPUs, or device=cpu",
}


@contextmanager
def lead(rank: Rank, words: Sequence[str]) -> Iterator[Leader]:
    """Gives rank 0 its lines to all others, which end with it, whatever it ends with.

    Raises UserError where others do not come, or come with other code.
    """
    me = Who.here(rank, _alike(words))
    if rank.num == 1:
        leader = Leader(rank, me, {}, dist.HashStore())
    else:
        leader = await_others(rank, me, _store(rank))
    status = 1
    try:
        for what, own in me.alike.items():
            differ = [other.alike.get(what) != own for other in leader.others]
            if any(differ):
                theirs = next(o.alike.get(what) for o in leader.others if o.alike.get(what) != own)
                raise UserError(
                    f"{others_that(differ, leader.others)} has another {what}: {theirs}, and rank "
                    f"0 {own}: start all ranks alike, from one environment and one folder"
                )
        with interrupted_once(lambda: leader.is_broken):
            yield leader
        status = 0
    except UserError:
        status = 2
        raise
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if leader.is_broken:  # it is told; sums that wait for the dead would hold the process
            leader.end(status)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        raise
    finally:
        leader.end(status)
        if dist.is_initialized() and not status:
            dist.destroy_process_group()


def follow(rank: Rank, words: Sequence[str]) -> NoReturn:
    """Does what rank 0 says until it says that it is the end, and ends the process.

    Nothing is printed: what there is to say rank 0 says, or the next one where rank 0 is gone.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        follower = join(rank, Who.here(rank, _alike(words)), _store(rank), _master())
    except (UserError, OSError, RuntimeError, EOFError, KeyboardInterrupt):
        sys.exit(1)  # rank 0 has said why, or is not there
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # rank 0 decides, and this process ends with it
    user_code_last()
    fix_workspace()
    status = 1
    try:
        status = serve(follower)
        if dist.is_initialized() and not status:
            dist.destroy_process_group()
    except BaseException as error:  # has been told
        if isinstance(error, RankLost) and rank.number == 1:
            show(f"error: {error}", sys.stderr)
    follower.known = ()
    gc.collect()  # loaders put away what they share with their workers
    follower.close()
    sys.stderr.flush()
    os._exit(status)  # sums that wait for somebody who is gone would hold the process


@dataclass(frozen=True)
class Build:
    """Has a rank build the problem of a config on its own device, and say what it is."""

    values: Mapping[str, Any]
    threads: int

    def __call__(self, served: Served) -> Mapping[str, str]:
        follower = served.follower
        torch.set_num_threads(self.threads)
        device = device_of(follower.rank, str(self.values["device"]))
        values = {**self.values, "device": device}
        recipe: Recipe = part(values, "train", Recipe)

        def weigh(num_bytes: int, on: torch.device) -> None:
            plan = MemoryPlan.of(num_bytes, recipe, 0, on)  # what trainings start from rank 0 holds
            replace(plan, checkpoint=0, num_ranks=follower.rank.num_local).check()

        first = build_task(values, weigh)
        tasks = [first.with_seed(first.seed + index) for index in range(values["replicates"])]
        follower.known, follower.device = (first.data, *tasks), torch.device(first.device)
        served.lasting.enter_context(recipe.arithmetic(follower.device))
        return described(first, recipe)


def muster(leader: Leader, parts: Parts) -> Parts:
    """Has all ranks build the run's problem, and connects them; gives the parts that they share.

    Raises UserError where one cannot, comes to another problem, or has no memory for it.
    """
    rank, task = leader.rank, parts.task
    parts = replace(parts, num_ranks=rank.num_local)
    parts.memory.check()
    device = torch.device(task.device)
    kind = "cuda" if device.type == "cuda" else "cpu"
    try:
        leader.tell(Build({**parts.values, "device": kind}, torch.get_num_threads()))
        own, found = described(task, parts.recipe), leader.answers()
    except RankLost as error:  # nothing has been trained yet
        raise UserError(str(error).removesuffix(AGAIN)) from error
    for what, cure in PROBLEM.items():
        differ = [other[what] != own[what] for other in found]
        if any(differ):
            raise UserError(f"{others_that(differ, leader.others)} has {cure}")
    gpus = [one["gpu"] for one in (own, *found)]
    if kind == "cuda" and len(set(gpus)) < len(gpus):
        raise UserError(
            f"{len(gpus)} ranks have {len(set(gpus))} GPUs between them: start as many ranks on a "
            "machine as it has GPUs (torchrun --nproc-per-node), or give device=cpu"
        )
    sharing = ByRanks(leader) if rank.num > 1 else None
    tasks = [replace(task, sharing=sharing) for task in parts.experiment.tasks]
    leader.known = (task.data, *tasks)
    backend = "nccl" if kind == "cuda" else "gloo"
    leader.tell(Connect(backend))
    with told(leader):
        leader.gradients = connect(rank, backend, leader.store, device)
    leader.answers()
    return replace(parts, experiment=replace(parts.experiment, tasks=tasks))


def described(task: Task, recipe: Recipe) -> Mapping[str, str]:
    """Says what a problem is, in the parts in which ranks may differ."""
    device = torch.device(task.device)
    gpu = str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""
    return {
        "data": task.data.fingerprint,
        "problem": identity.digest(task.identity),
        "recipe": identity.digest(identity.describe(recipe)),
        "weights": states.fingerprint(task.init()),
        "device": device.type,
        "gpu": gpu and f"{platform.node()} {gpu}",
    }


def device_of(rank: Rank, name: str) -> str:
    """Gives a rank a device of its own; raises UserError where there is none for it."""
    if rank.num == 1 or name == "cpu":
        return name
    if name not in ("auto", "cuda"):
        raise UserError(
            f"device={name}: each of {rank.num} ranks has a device of its own: give device=cuda, "
            "auto or cpu"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count and name == "auto":
        return "cpu"
    if rank.local >= count > 1 or not count:
        raise UserError(
            f"rank {rank.number} has no GPU of its own: {platform.node()} has {count} for "
            f"{rank.num_local} ranks: start as many as there are GPUs (--nproc-per-node), or give "
            "device=cpu"
        )
    return f"cuda:{rank.local}" if count > 1 else "cuda:0"  # a job may show each its own alone


def check_one_run(rank: Rank, config: DictConfig) -> None:
    """Raises UserError for a sweep or a study, which are several runs: ranks train one together."""
    is_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if rank.num > 1 and (is_sweep or "study" in config):
        raise UserError(
            f"torchrun trains one run on {rank.num} ranks, and {'-m' if is_sweep else 'a study'} "
            "is several: start each run by a torchrun of its own (docs/cluster.md)"
        )


def _store(rank: Rank) -> dist.Store:
    """Opens the store in which ranks find each other; raises UserError where it cannot be."""
    try:
        rendezvous = dist.rendezvous(
            "env://", rank.number, rank.num, timeout=timedelta(seconds=JOIN)
        )
        store: dist.Store = dist.PrefixStore("lth_runner", next(iter(rendezvous))[0])
    except (RuntimeError, OSError) as error:
        said = reason_of(error)
        busy = "is in use" if "EADDRINUSE" in said or "address already in use" in said else "fails"
        raise UserError(
            f"port {os.environ['MASTER_PORT']} of {_master()}, by which ranks find each other, "
            f"{busy} ({said}): give another (torchrun --master-port, or --rdzv-endpoint)"
        ) from error
    return store


def _master() -> str:
    return os.environ["MASTER_ADDR"]


def _alike(words: Sequence[str]) -> Mapping[str, str]:
    """Says what must be the same on all ranks before they build anything."""
    return {
        "command": shlex.join(words),
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "torch": torch.__version__,
        "code of lth_runner": _code(),
    }


def _code() -> str:
    """Hashes the program's own files."""
    root, digest = Path(lth_runner.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]
