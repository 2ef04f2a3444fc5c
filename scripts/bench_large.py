"""Memory of a run with a network of BERT-base's size, by phase, in copies of its weights.

Beside what the same run of a network of a hundredth of its size holds.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(30_517)))
SMALL = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
}
PHASES = (  # what the run says of itself as it goes on
    ("dense training", re.compile(r"^round 0/1")),
    ("probes of it, the ticket's training", re.compile(r"^round 1/1")),
)


def main() -> None:
    """Trains and prunes a network with random weights once, in a process of its own."""
    peaks = {}
    for name, sizes in {"small": SMALL, "large": {}}.items():
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder)
            num_bytes = _model(there / "model", **sizes)
            _sentences(there / "data" / "sst2")
            peaks[name] = _run(there)
    print(f"  weights {num_bytes / 1e6:.0f} MB")
    for phase, peak in peaks["large"].items():
        small = peaks["small"][phase]
        copies = f"{(peak - small) / num_bytes:.2f} copies of them above a small network's"
        print(f"  {phase}: peak {copies} {small / 1e6:.0f} MB", flush=True)


def _model(folder: Path, **sizes: int) -> int:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    network = BertForSequenceClassification(BertConfig(num_labels=2, **sizes))
    network.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return sum(value.nbytes for value in network.parameters())


def _sentences(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, num in (("train", 60), ("dev", 20), ("test", 20)):
        rows = [f"{n % 2}\t{' '.join(WORDS[5 + n : 15 + n])}" for n in range(num)]
        (folder / f"{split}.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n")


def _anonymous(status: str) -> int:
    """Memory that is no file's: pages of a mapped file are given up when others need them."""
    found = re.search(r"^RssAnon:\s*(\d+)", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _run(there: Path) -> dict[str, int]:
    command = [
        Path(sys.executable).with_name("lth-run"), "+experiment=minilm_sst2",
        f"model.path={there / 'model'}", f"paths.data={there / 'data'}",
        f"paths.outputs={there / 'outputs'}", "dataset.vocabulary=30522", "replicates=1",
        "control=none", "pruner.rounds=1", "pruner.sparsity=null", "train.length=3it",
        "train.eval_every=3it", "train.batch_size=2", "train.precision=fp32", "record=local",
        "dataset.validation=0.1", "threads=1", "device=cpu",
    ]  # fmt: skip
    log = there / "log"
    with log.open("wb") as opened:
        run = subprocess.Popen(command, stdout=opened, stderr=subprocess.STDOUT,
                               env={**os.environ, "COLUMNS": "100"})  # fmt: skip
    peaks = {"until the first step": 0} | {phase: 0 for phase, _ in PHASES}
    for status in _watched(run):
        said = log.read_text(errors="replace").replace("\r", "\n").splitlines()
        phase = "until the first step"
        for name, sign in PHASES:
            phase = name if any(sign.match(line) for line in said) else phase
        peaks[phase] = max(peaks[phase], _anonymous(status))
    if run.wait():
        sys.exit(f"the run failed:\n{log.read_text()}")
    return peaks


def _watched(run: subprocess.Popen[bytes]) -> Iterator[str]:
    while run.poll() is None:
        try:
            yield Path(f"/proc/{run.pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
