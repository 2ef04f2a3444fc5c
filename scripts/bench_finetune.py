"""A fine-tuning step of a BERT of MiniLM's size through the engine, against a loop by hand.

And against the step of Hugging Face's Trainer, where its library accelerate is installed. The model
is drawn at random by a config of that size: what it computes decides no time. Texts are words of a
vocabulary as large as BERT's. Two threads, or `OMP_NUM_THREADS`; with one it is the processor's
time, which other work on the machine leaves alone.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import shares
import torch
import torch.nn.functional as F
from measuring import Now, Timed, in_turns, kept, own_clock, ratios, repeated, say
from torch import Tensor

from lth_runner.masking import Static
from lth_runner.problem import Covers
from lth_runner.problem.data import Data
from lth_runner.problem.models import HuggingFace
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training import Linear
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.seeds import stream

VOCABULARY, BATCH, LENGTH, STEPS = 30_522, 32, 32, 4
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
EPOCHS_OF_SST2 = 3 * (6_920 // BATCH)  # steps: what a round's other costs are held against
RECIPE = Recipe(
    "5000it", BATCH, functools.partial(torch.optim.AdamW, lr=2e-5, weight_decay=0.0, fused=True),
    learning_rate=Linear(), clip_norm=1.0, eval_every="5000it",
)  # fmt: skip
BLOCKS = Covers(("linear", "attention_projection"), blocks=True)
SIZE = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536, "vocab_size": VOCABULARY, "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1, "pad_token_id": 0,
}  # fmt: skip


def model_folder(folder: Path) -> Path:
    """Writes a model of that size: config, weights, and a tokenizer of as many words."""
    import tokenizers
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model("bert", **SIZE)
    AutoModel.from_config(config).save_pretrained(folder)
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    words |= {f"w{number}": number for number in range(5, VOCABULARY)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(folder / "tokenizer.json"))
    return folder


def sentences(num: int = 2000) -> Data:
    """Random token numbers in texts of one length."""
    tokens = torch.randint(5, VOCABULARY, (num, LENGTH), generator=stream(0, "tokens"))
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    split = inputs, torch.arange(num) % 2
    return Data.from_tensors(split, split, validation=100, num_classes=2)


def by_hand(task: Task) -> Timed:
    """The least that does the same: batch, forward, backward, clipping, AdamW, its line, mask."""
    model = task.model()
    mask = {name: k.float() for name, k in kept(task, 0.5).items()}
    weights = [model.get_parameter(name).data for name in mask]
    factors = list(mask.values())
    torch._foreach_mul_(weights, factors)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-5, weight_decay=0.0, fused=True)
    inputs, labels = task.data.train
    batches = torch.randperm(len(labels)).split(BATCH)[:-1]
    done = 0

    def step() -> None:
        nonlocal done
        model.train()
        index = batches[done % len(batches)]
        batch = {name: value.index_select(0, index) for name, value in inputs.items()}
        optimizer.param_groups[0]["lr"] = 2e-5 * (1 - done / 5000)
        optimizer.zero_grad()
        answer: Tensor = model(**batch)
        F.cross_entropy(answer, labels.index_select(0, index)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        torch._foreach_mul_(weights, factors)
        done += 1

    return step


def by_trainer(task: Task, path: Path, clock: Now) -> Callable[[], float]:
    """Some steps of Hugging Face's Trainer: the seconds from the end of a first one to the last's.

    So its start counts for nothing. Its own collator and sampler, no log, no file, no mask.
    """
    from transformers import (
        AutoModelForSequenceClassification,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    inputs, labels = task.data.train
    samples = [
        {**{name: value[row] for name, value in inputs.items()}, "label": int(label)}
        for row, label in enumerate(labels)
    ]
    ends: list[float] = []

    class Ends(TrainerCallback):
        def on_step_end(self, *given: object, **named: object) -> None:
            ends.append(clock())

    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(path, num_labels=2),
        args=TrainingArguments(
            output_dir=str(path / "trainer"), per_device_train_batch_size=BATCH,
            max_steps=STEPS + 1, learning_rate=2e-5, weight_decay=0.0, max_grad_norm=1.0,
            optim="adamw_torch_fused", lr_scheduler_type="linear", report_to=[], use_cpu=True,
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
        ),
        train_dataset=samples, callbacks=[Ends()],
    )  # fmt: skip

    trainer.remove_callback(PrinterCallback)

    def seconds() -> float:
        ends.clear()
        trainer.train()
        return ends[-1] - ends[0]

    return seconds


def steps(path: Path) -> None:
    model = HuggingFace(str(path), "sequence_classification", 2)
    clock = own_clock()
    task = Task(model, sentences().to("cpu"), covers=BLOCKS)
    job = Job(task, Ticket(kept(task, 0.5), task.init()), Static())
    together = Sequential().begin([job], RECIPE, [None])
    with RECIPE.arithmetic(torch.device("cpu")):
        things = {
            "hand": repeated(by_hand(task), STEPS), "engine": repeated(together.advance, STEPS),
        }  # fmt: skip
        trainer: list[float] = []
        if importlib.util.find_spec("accelerate") is not None:
            seconds = by_trainer(task, path, clock)
            things["trainer"] = lambda: trainer.append(seconds())
        times = in_turns(things, repeats=9, clock=clock)
    say("hand-written step", [1e3 * t / STEPS for t in times["hand"]], "ms")
    found = ratios(times["engine"], times["hand"])
    say("sequential engine / hand-written", found, "x")
    if trainer:
        say("sequential engine / Hugging Face's Trainer", ratios(times["engine"], trainer[1:]), "x")
    print(f"    {len(found)} turns, {min(found):.3f} to {max(found):.3f}", flush=True)
    rate = [STEPS * BATCH * LENGTH / t for t in times["engine"]]
    say("engine", rate, "tokens/s")


def round_of(path: Path) -> None:
    """A run of two rounds with its probes and its records: where its time goes."""
    texts = path / "texts"
    texts.mkdir()
    rng = stream(0, "words")
    for name, num in (("train", 320), ("dev", 64), ("test", 64)):
        drawn = torch.randint(5, VOCABULARY, (num, LENGTH - 2), generator=rng).tolist()
        lines = [f"{row % 2}\t{' '.join(f'w{one}' for one in words)}"
                 for row, words in enumerate(drawn)]  # fmt: skip
        (texts / f"{name}.tsv").write_text("\n".join(["label\ttext", *lines]) + "\n")
    shares.canonical(
        "two rounds, default probes and probe=attention", 10,
        "model=hf", f"model.path={path}", "origin=hf", "covers=transformer", "dataset=text",
        f"dataset.root={texts}", "dataset/tokenizer=file", f"dataset.vocabulary={VOCABULARY}",
        f"dataset.length={LENGTH}", f"dataset.cache={json.dumps(str(path / 'cache'))}",
        "train=finetune", "train.length=10it", "train.eval_every=10it", "pruner=imp_linear",
        "pruner.sparsity=null", "pruner.rounds=1", "control=none", "replicates=1",
        "probe=attention", "rewind=init", f"threads={THREADS}", full=EPOCHS_OF_SST2,
    )  # fmt: skip


def main() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = model_folder(Path(folder))
            steps(path)
            round_of(path)
    finally:
        torch.set_num_threads(before)
