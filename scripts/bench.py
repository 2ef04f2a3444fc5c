"""Where the time goes: ratios measured side by side in one run, medians with their spread.

    make bench                          # everything, some minutes on two quiet cores
    python scripts/bench.py step pack   # some of it: step pack bayesian overhead shares prune
                                        # memory sparse convolution transformer finetune lota
                                        # compile large stream waiting open_lth dead_channels gpu

Absolute times depend on the machine and on what else it does; every claim is a ratio of two
things measured in turns. The ceiling is the rate of a large matrix product in the same process.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import shares
import torch
import torch.nn.functional as F
from measuring import (
    ADAM,
    LENET,
    LENET_STEP,
    PRODUCT,
    Timed,
    images,
    in_turns,
    jobs,
    product,
    ratios,
    repeated,
    say,
)

from lth_runner.allocate import Global
from lth_runner.problem import Gaussian, models
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.training.engines.engine import Engine
from lth_runner.training.engines.packed import Packed, Sparse
from lth_runner.training.engines.sequential import Sequential
from lth_runner.values.mask import Mask


def hand_written(data: Data) -> Timed:
    """The least that does the same: gather, forward, backward, fused Adam, mask."""
    model = LENET()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.2e-3, fused=True)
    weights = [p.data for p in model.parameters() if p.ndim > 1]
    factors = [(torch.rand_like(w) < 0.5).float() for w in weights]
    inputs, labels = data.train
    batches = torch.randperm(len(labels)).split(60)
    position = 0

    def step() -> None:
        nonlocal position
        index = batches[position]
        position = (position + 1) % (len(batches) - 1)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.index_select(0, index)), labels.index_select(0, index))
        loss.backward()
        optimizer.step()
        torch._foreach_mul_(weights, factors)

    return step


def bench_step() -> None:
    """LeNet-300-100, batch 60: the sequential engine against a hand-written loop."""
    task = Task(LENET, images(20_000, (1, 28, 28)).to("cpu"))
    together = Sequential().begin(jobs(task, 1), ADAM, [None])
    times = in_turns({
        "hand": repeated(hand_written(task.data), 50),
        "engine": repeated(together.advance, 50),
        "fp32": repeated(product(torch.float32), 5),
    })  # fmt: skip
    say("hand-written step", [1e3 * t / 50 for t in times["hand"]], "ms")
    say("sequential engine / hand-written", ratios(times["engine"], times["hand"]), "x")
    rate = [PRODUCT * 5 / t for t in times["fp32"]]
    say("fp32 ceiling", [r / 1e9 for r in rate], "GFLOP/s")
    share = [LENET_STEP * 50 / t / r for t, r in zip(times["engine"], rate, strict=True)]
    say("sequential engine / ceiling", share, "")


def bench_pack() -> None:
    """LeNet-300-100, batch 60: packed replicates against one by one, on two sizes of image."""
    for side in (8, 28):
        lenet = functools.partial(models.lenet300, shape=(1, side, side), num_classes=10)
        task = Task(lenet, images(20_000, (1, side, side)).to("cpu"))
        inputs, outputs = 300 * side**2, 31_000
        pack(f"{side}x{side}", task, 2 * 60 * (2 * inputs + 3 * outputs))


def pack(label: str, task: Task, multiplications: int) -> None:
    """Steps of several replicates in one, for as many steps a turn of each."""
    alone = Sequential().begin(jobs(task, 1), ADAM, [None])
    sizes = (2, 4, 8, 16)
    engines: dict[str, Engine] = {"packed": Packed(16), "compiled": Sparse(16, below=0.0)}
    packs = {
        (name, n): engine.begin(jobs(task, n), ADAM, [None] * n)
        for name, engine in engines.items()
        for n in sizes
    }
    things: dict[str, Timed] = {"alone": repeated(alone.advance, 192)}
    for (name, n), together in packs.items():
        things[f"{name} {n}"] = repeated(together.advance, 192 // n)
    times = in_turns(things | {"fp32": repeated(product(torch.float32), 5)})
    rate = [PRODUCT * 5 / t for t in times["fp32"]]
    say(f"{label}: one by one, a step", [1e3 * t / 192 for t in times["alone"]], "ms")
    for name, n in packs:
        found = times[f"{name} {n}"]
        say(f"{label}: {n} {name}, faster by replicate", ratios(times["alone"], found), "x")
        share = [multiplications * 192 / t / r for t, r in zip(found, rate, strict=True)]
        say(f"{label}: {n} {name} / ceiling", share, "")


def bench_bayesian() -> None:
    """LeNet-300-100: steps of Bayesian networks against those of numbers."""
    for side, batch in itertools.product((8, 28), (60, 128)):
        lenet = functools.partial(models.lenet300, shape=(1, side, side), num_classes=10)
        task, recipe = Task(lenet, images(20_000, (1, side, side))), replace(ADAM, batch_size=batch)
        things: dict[str, Timed] = {}
        for n, engine in ((1, Sequential()), (3, Packed(16)), (8, Packed(16))):
            for of in (task, replace(task, coordinates=Gaussian())):
                together = engine.begin(jobs(of, n), recipe, [None] * n)
                things[f"{n} {of.coordinates}"] = repeated(together.advance, 24 // n)
        times = in_turns(things, repeats=12)
        for n, how in ((1, "one by one"), (3, "3 packed"), (8, "8 packed")):
            plain, laws = (times[f"{n} {of}"] for of in (None, Gaussian()))
            label = f"{side}x{side}, batch {batch}: {how}, a Bayesian step"
            say(label, ratios(laws, plain), "x")


TO_FIRST_STEP = """
import os
from lth_runner.cli import main as cli
from lth_runner.cli.loading import uncollected

with uncollected():  # as lth-run loads it
    from lth_runner.cli import launch

# all that comes before it has been done, and steps timed
launch.run_experiment = lambda *_: os._exit(0)
cli.main()
"""


def bench_overhead() -> None:
    """The command line: help, start, and all that is not training steps."""
    lth_run = str(Path(sys.executable).with_name("lth-run"))

    def command(*arguments: str, **variables: str) -> Timed:
        return functools.partial(
            subprocess.run, arguments, check=True, capture_output=True, env=os.environ | variables
        )

    typed = "lth-run rewind="
    completion = {"COMP_LINE": typed, "COMP_POINT": str(len(typed)), "COMP_CWORD": "1"}
    with tempfile.TemporaryDirectory() as folder:
        outputs = f"paths.outputs={folder}"
        common = ("record=local", outputs, "control=none", "replicates=1", "probe=none")
        tiny = ("pruner.rounds=1", "pruner.sparsity=null", "train.length=1it")
        runs = iter(range(1000))
        times = in_turns({
            "import torch": command(sys.executable, "-c", "import torch"),
            "lth-run --help": command(lth_run, "--help"),
            "lth-run --cfg job": command(lth_run, "--cfg", "job"),
            "tab completion of rewind=": command(lth_run, "-sc", "query=bash", **completion),
            "from start to the first step, digits": command(
                sys.executable, "-c", TO_FIRST_STEP, outputs
            ),
            "a run of two trainings of one step, start to end": lambda: command(
                lth_run, *common, *tiny, f"seed={next(runs)}"
            )(),
        }, repeats=3)  # fmt: skip
    for name, found in times.items():
        say(name, found, "s")
    shares.canonical("digits", 525, "train=adam")


def bench_shares() -> None:
    """lenet300_mnist_imp, Gaussian data of its size, all its trainings of 500 steps: its parts."""
    shares.canonical(
        "lenet300_mnist_imp", 500, "+experiment=lenet300_mnist_imp", "dataset=synthetic",
        "dataset.shape=[1,28,28]", "dataset.num_train=60000", "dataset.num_test=10000",
        "dataset.validation=5000", "train.length=500it", full=50_000,
        looks=("100it", "100it+3%", "100it+5%", "1000it"),
    )  # fmt: skip


def bench_prune() -> None:
    """A ResNet-50's 25.5 million weights pruned globally to an exact count."""
    factory = functools.partial(models.resnet50, shape=(3, 224, 224), num_classes=1000)
    with torch.device("cpu"):
        weights = dict(factory().named_parameters())
    scores = {n: p.detach().abs() for n, p in weights.items() if p.ndim > 1}
    dense = Mask({n: torch.ones(s.shape, dtype=torch.bool) for n, s in scores.items()})
    total = torch.cat([s.flatten() for s in scores.values()])
    times = in_turns({
        "prune": lambda: Global()(scores, 0.1, dense, 0),
        "topk": lambda: total.topk(total.numel() // 10),
        "kthvalue": lambda: total.kthvalue(total.numel() // 10),
    }, repeats=5)  # fmt: skip
    mask = Global()(scores, 0.1, dense, 0)
    assert mask.num_kept == round(0.1 * mask.num_prunable)
    say(f"global pruning of {mask.num_prunable / 1e6:.1f} M weights", times["prune"], "s")
    say("against torch.topk of the scores alone", ratios(times["prune"], times["topk"]), "x")
    packed = sum(bits.numel() for bits in mask.packed().values())
    print(f"  mask in a file: {packed / 1e6:.2f} MB, {8 * packed / mask.num_prunable:.2f} bits "
          "a weight", flush=True)  # fmt: skip


def bench_memory() -> None:
    """Resident memory by packed replicates, each in a process of its own."""
    code = (
        "import sys; sys.path.insert(0, {here!r}); import bench\n"
        "task = bench.Task(bench.LENET, bench.images(2000, (1, 28, 28)))\n"
        "pack = bench.Packed({n}).begin(bench.jobs(task, {n}), bench.ADAM, [None] * {n})\n"
        "for _ in range(5): pack.advance()\n"
        "print(open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    )
    peaks = {}
    for n in (1, 4, 16):
        text = code.format(here=str(Path(__file__).parent), n=n)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True)
        peaks[n] = int(done.stdout) / 1024
    grown = (peaks[16] - peaks[4]) / 12
    print(f"  resident MB: {', '.join(f'{n} packed {p:.0f}' for n, p in peaks.items())}; "
          f"{grown:.1f} MB more a replicate, whose weights are {266_610 * 4 / 2**20:.1f} MB",
          flush=True)  # fmt: skip


HERE = {
    "step": bench_step, "pack": bench_pack, "bayesian": bench_bayesian,
    "overhead": bench_overhead, "shares": bench_shares, "prune": bench_prune,
    "memory": bench_memory,
}  # fmt: skip
# bench_<name>.py
ELSEWHERE = (
    "sparse", "convolution", "transformer", "finetune", "lota", "compile", "large", "stream",
    "waiting", "open_lth", "dead_channels", "gpu",
)  # fmt: skip


def measure(name: str) -> None:
    """Says what a benchmark is of, and runs it."""
    if name in HERE:
        told, run = HERE[name].__doc__, HERE[name]
    else:
        module = importlib.import_module(f"bench_{name}")
        told, run = module.__doc__, module.main
    print(f"{name}: {(told or '').strip().splitlines()[0]}", flush=True)
    run()


def main() -> None:
    known = (*HERE, *ELSEWHERE)
    chosen = sys.argv[1:] or known
    if unknown := set(chosen) - set(known):
        sys.exit(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(known)}")
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    print(f"{platform.machine()}, {names[0].split(':')[1].strip()}, {os.cpu_count()} cores, "
          f"{torch.get_num_threads()} threads; Python {platform.python_version()}, "
          f"torch {torch.__version__}; median (quartiles)")  # fmt: skip
    for name in chosen:
        measure(name)


if __name__ == "__main__":
    main()
