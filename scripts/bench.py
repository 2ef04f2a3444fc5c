"""Where the time goes: ratios measured side by side in one run, medians with their spread.

    make bench                          # everything, some minutes on two quiet cores
    python scripts/bench.py step pack   # some of it: step pack bayesian sparse convolution
                                        # transformer finetune lota compile overhead shares
                                        # prune memory large stream waiting open_lth
                                        # dead_channels gpu

Absolute times depend on the machine and on what else it does; every claim is a ratio of two
things measured in turns. The ceiling is the rate of a large matrix product in the same process.
"""

from __future__ import annotations

import functools
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


def bench_convolution() -> None:
    """ResNet-20 and VGG-11, 32x32, batch 128, SGD: a hand-written loop, bf16, and the ceiling."""
    import bench_convolution

    bench_convolution.main()


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


def bench_large() -> None:
    """A network of BERT-base's size: what a run holds besides the libraries, by phase."""
    import bench_large

    bench_large.main()


def bench_sparse() -> None:
    """LeNet-300-100 on 28x28, batch 60, Adam: products and steps by density."""
    import bench_sparse

    bench_sparse.main()


def bench_transformer() -> None:
    """Small transformers, batch 32, 32 tokens, AdamW: the engine against hand-written loops."""
    import bench_transformer

    bench_transformer.main()


def bench_finetune() -> None:
    """A BERT of MiniLM's size, batch 32, 32 tokens, AdamW: a step, and a round's other costs."""
    import bench_finetune

    bench_finetune.main()


def bench_stream() -> None:
    """JPEGs decoded, cropped and flipped by worker processes: against torch's DataLoader."""
    import bench_stream

    bench_stream.main()


def bench_compile() -> None:
    """Transformers and ResNet-20 through torch.compile: a step, and when compiling has paid."""
    import bench_compile

    bench_compile.main()


def bench_lota() -> None:
    """The same BERT in deltas, 90 and 99 % of them pruned, against full fine-tuning."""
    import bench_lota

    bench_lota.main()


def bench_gpu() -> None:
    """ResNet-20, batch 128, flipped and cropped, on CUDA: one by one against graphs of lanes."""
    import bench_gpu

    bench_gpu.main()


def bench_waiting() -> None:
    """Steps of two threads by how often one spins before it sleeps, alone and beside other work."""
    import bench_waiting

    bench_waiting.main()


def bench_dead_channels() -> None:
    """Trainings without the channels that a mask has cut off."""
    import bench_dead_channels

    bench_dead_channels.main()


def bench_open_lth() -> None:
    """LeNet-300-100 and ResNet-20 against OpenLTH, whose clone's folder is OPEN_LTH."""
    import bench_open_lth

    bench_open_lth.main()


BENCHES = {
    "step": bench_step, "pack": bench_pack, "bayesian": bench_bayesian, "sparse": bench_sparse,
    "convolution": bench_convolution,
    "transformer": bench_transformer, "finetune": bench_finetune, "lota": bench_lota,
    "compile": bench_compile,
    "overhead": bench_overhead, "shares": bench_shares, "prune": bench_prune,
    "memory": bench_memory, "large": bench_large, "stream": bench_stream,
    "waiting": bench_waiting, "open_lth": bench_open_lth,
    "dead_channels": bench_dead_channels, "gpu": bench_gpu,
}  # fmt: skip


def main() -> None:
    chosen = sys.argv[1:] or list(BENCHES)
    if unknown := set(chosen) - set(BENCHES):
        sys.exit(f"no benchmark is called {', '.join(unknown)}: there are {', '.join(BENCHES)}")
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    print(f"{platform.machine()}, {names[0].split(':')[1].strip()}, {os.cpu_count()} cores, "
          f"{torch.get_num_threads()} threads; Python {platform.python_version()}, "
          f"torch {torch.__version__}; median (quartiles)")  # fmt: skip
    for name in chosen:
        print(f"{name}: {(BENCHES[name].__doc__ or '').strip()}", flush=True)
        BENCHES[name]()


if __name__ == "__main__":
    main()
