"""Every key of every option, given values of every kind: taken, or refused in one message.

    PYTHONPATH=tests python scripts/wrong_values.py                       # all: half an hour
    PYTHONPATH=tests python scripts/wrong_values.py pruner/rigl dataset
    PYTHONPATH=tests python scripts/wrong_values.py pruner --whole        # runs what is taken
    PYTHONPATH=tests python scripts/wrong_values.py pruner --messages     # lists what was told

A run is followed to its first training. What is taken there may still go wrong: ``--whole`` tells.
Ends with status 1 where a value ended in anything else than a message. Settings are those of tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import pretrained
from command import lth_run, without_pictures
from composing import composed_once, read_once, unsynced
from lth_runner.cli.launch import execute
from lth_runner.cli.messages import MISTAKES
from test_glue import published as glue_files
from test_squad import QUESTIONS
from test_squad import published as squad_files
from test_text import BERT_TOKENS, bert_file

CONF = Path(__file__).parents[1] / "conf"
RUN = (
    "+scale=smoke", "device=cpu", "threads=1", "record=local", "probe=none", "control=none",
    "train=sgd", "train.batch_size=10", "name=wrong",
)  # fmt: skip
SYNTHETIC = ("dataset=synthetic", "dataset.num_train=60", "dataset.num_test=20")
PERCEPTRON = ("model=mlp", "model.widths=[8]")
SMALL = (*RUN, *SYNTHETIC, *PERCEPTRON)
IMAGES = (*RUN, *SYNTHETIC, "dataset.shape=[3,16,16]", "max_samples=20")
TEXTS = (*RUN, "model=transformer", "model.width=8", "model.depth=1", "model.heads=2")
NEXT = (*RUN, "objective=next_token", "model=causal_transformer", *TEXTS[-3:])
SETTINGS: dict[str, tuple[str, ...]] = {
    "root": SMALL,
    **{f"{group}/{file.stem}": (*SMALL, f"{group}={file.stem}")
       for group in ("pruner", "control", "probe", "rewind", "train", "train/learning_rate",
                     "covers", "record")
       for file in sorted((CONF / group).glob("*.yaml"))
       if file.stem not in ("none", "given", "embeddings")},
    **{f"pruner/{name}": (*SMALL, f"pruner={name}", "model.norm=batch")
       for name in ("early_bird", "early_bird_channels", "early_bird_stop")},
    "probe/retention": (*SMALL, "probe=retention", "origin=run",
                        "origin.run={files}/outputs/wrong"),
    "probe/attention": (*RUN, "model=hf", "model.path={files}/bert", "dataset=text",
                        "dataset.length=8", "dataset.root={files}/texts",
                        "dataset.vocabulary=40", "covers=transformer", "probe=attention"),
    "rewind/open_lth": (*SMALL, "rewind=open_lth", "rewind.step=10it"),
    "rewind/step": (*SMALL, "rewind=step", "rewind.step=10it"),
    "rewind/partial": (*SMALL, "rewind=partial", "rewind.only=[output]"),
    "covers/transformer": (*TEXTS, "dataset=text", "dataset.root={files}/texts",
                           "covers=transformer"),
    "pruner/given": (*SMALL, "pruner=given", "pruner.ticket={files}/outputs/wrong"),
    "augment/cutout": (*IMAGES, "model=conv2", "+augment=cutout"),
    "augment/randaugment": (*IMAGES, "model=conv2", "+augment=randaugment"),
    "coordinates/delta": (*SMALL, "coordinates=delta", "coordinates.only=['*weight']"),
    "coordinates/gaussian": (*SMALL, "coordinates=gaussian"),
    "probe/calibration": (*SMALL, "probe=calibration"),
    "origin/run": (*SMALL, "origin=run", "origin.run={files}/outputs/wrong"),
    "origin/hf": (*RUN, "model=hf", "origin=hf", "model.path={files}/bert", "dataset=text",
                  "dataset.length=8", "dataset.root={files}/texts", "dataset.vocabulary=40"),
    "objective/regression": (*RUN, "dataset=diabetes", "objective=regression", *PERCEPTRON,
                             "model.num_classes=1"),
    "objective/correlation": (*RUN, "dataset=diabetes", "objective=correlation", *PERCEPTRON,
                              "model.num_classes=1"),
    **{f"objective/{name}": (*SMALL, f"objective={name}") for name in ("classification", "f1")},
    "objective/matthews": (*SMALL, "dataset.num_classes=2", "objective=matthews"),
    "dataset/synthetic": SMALL,
    "dataset/digits": (*RUN, "dataset=digits", *PERCEPTRON),
    "dataset/diabetes": (*RUN, "dataset=diabetes", "objective=regression", *PERCEPTRON,
                         "model.num_classes=1"),
    "dataset/digit_scenes": (*RUN, "dataset=digit_scenes", "dataset.num_train=40",
                             "dataset.num_test=20", "model=unet"),
    "dataset/imagefolder": (*RUN, "dataset=imagefolder", "dataset.root={files}/images",
                            "dataset.num_classes=2", "dataset.cache={files}/cache", *PERCEPTRON,
                            "dataset.shape=[3,8,8]"),
    "dataset/text": (*TEXTS, "dataset=text", "dataset.root={files}/texts"),
    "dataset/glue": (*TEXTS, "dataset=glue", "dataset.task=cola", "dataset.root={files}/glue",
                     "dataset.tokenizer.path={files}", "dataset.validation=0",
                     f"dataset.vocabulary={BERT_TOKENS}", "dataset.length=12",
                     "dataset.cache={files}/cache", "train.batch_size=2"),
    "dataset/squad": (*RUN, "dataset=squad", "dataset.root={files}/squad", "objective=span",
                      "dataset.tokenizer.path={files}", "dataset.validation=0",
                      "dataset.cache={files}/cache", f"dataset.vocabulary={BERT_TOKENS}",
                      f"+model.config.vocab_size={BERT_TOKENS}", "dataset.length=16",
                      "dataset.stride=4", "model=hf", "model.path={files}/bert",
                      "model.task=question_answering", "train.batch_size=2"),
    "dataset/characters": (*NEXT, "dataset=characters", "dataset.path={files}/long.txt",
                           "dataset.cache={files}/cache"),
    "dataset/masked_characters": (*RUN, "objective=masked_token", "model=masked_transformer",
                                  *TEXTS[-3:], "dataset=masked_characters",
                                  "dataset.path={files}/long.txt", "dataset.cache={files}/cache"),
    "dataset/corpus": (*NEXT, "dataset=corpus", "dataset.path={files}/long.txt",
                       "dataset.tokenizer.path={files}", "dataset.length=16",
                       f"dataset.vocabulary={BERT_TOKENS}", "dataset.cache={files}/cache"),
    "model/mlp": SMALL,
    **{f"model/{name}": (*IMAGES, f"model={name}")
       for name in ("lenet5", "conv2", "resnet20", "resnet18", "vgg11", "wide_resnet")},
    "model/lenet300": (*RUN, *SYNTHETIC, "model=lenet300"),
    "model/unet": (*RUN, "dataset=digit_scenes", "dataset.num_train=40", "dataset.num_test=20",
                   "model=unet"),
    "model/transformer": (*TEXTS, "dataset=text", "dataset.root={files}/texts"),
    "model/causal_transformer": (*NEXT, "dataset=characters", "dataset.path={files}/long.txt",
                                 "dataset.cache={files}/cache"),
    "model/hf": (*RUN, "model=hf", "model.path={files}/bert", "dataset=text", "dataset.length=8",
                 "dataset.root={files}/texts", "dataset.vocabulary=40"),
}  # fmt: skip
CHOSEN = {  # of each budget the keys where it is the one chosen, before pruners that have them too
    f"pruner/budgets/{scope}/chosen": (*SMALL, "pruner=one_shot", f"pruner.scope={scope}", *more)
    for scope, more in {
        "layerwise": (), "uniform": ("model.widths=[8,64]",), "er": (),
        "given": ("pruner.densities={linear1:0.5,output:0.5}",),
        "smart_ratio": (), "n_of_m": (), "rows": (), "channels": (), "blocks": (), "deviation": (),
    }.items()
}  # fmt: skip
SETTINGS = {**CHOSEN, **SETTINGS}
VALUES = (
    None, True, -1, 0, 1, 0.5, 1e-300, 1e300, float("inf"), float("nan"), 10**30, "", "x", "10it",
    [], [1], [-1], ["x"], {}, {"a": 1},
)  # fmt: skip
LONGEST = 60  # seconds that a run may take to its end


def files(folder: Path) -> None:
    """What the settings read: texts, images, a network, a run."""
    from PIL import Image

    (folder / "texts").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{number % 2}\tword{number % 7} and {number % 5}" for number in range(40)]
        (folder / f"texts/{name}.tsv").write_text("\n".join(["label\ttext", *lines, ""]))
        for kind in ("a", "b"):
            (folder / f"images/{name}/{kind}").mkdir(parents=True)
            for number in range(15):
                picture = Image.new("RGB", (8, 8), (number, 2 * number, 200))
                picture.save(folder / f"images/{name}/{kind}/{number}.png")
    (folder / "long.txt").write_text("the cat sat on the mat, and that was that. " * 200)
    bert_file(folder)
    (folder / "squad").mkdir()
    squad_files(folder / "squad", QUESTIONS)
    glue_files(folder / "glue", "cola")
    pretrained.folder(folder / "bert", head="ForSequenceClassification")
    said = lth_run(*SMALL, f"paths.outputs={folder}/outputs")
    assert said.status == 0, said.err


def keys(node: Any, path: str = "") -> Iterator[str]:
    """The dotted keys of a config, those of parts and mappings too."""
    for key, value in node.items():
        here = f"{path}.{key}" if path else str(key)
        yield here
        if isinstance(value, dict):
            yield from keys(value, here)


def composed(setting: str, folder: Path) -> DictConfig:
    words = [word.replace("{files}", str(folder)) for word in SETTINGS[setting]]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*words, f"paths.outputs={folder}/wrong"])
    OmegaConf.set_struct(config, value=False)
    return config


def under(setting: str, config: DictConfig) -> list[str]:
    """The keys that a setting is about."""
    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    if setting == "root":
        groups = {path.name for path in CONF.iterdir() if path.is_dir()}
        return list(keys({key: value for key, value in plain.items() if key not in groups}))
    group = setting.rpartition("/")[0].replace("/", ".").replace("augment", "dataset.augment")
    return [key for key in keys(plain) if key.startswith(f"{group}.")]


class _Begun(Exception):
    """The first training."""


class _Endless(Exception):
    """A run that takes too long."""


def told(config: DictConfig, *, whole: bool = False) -> tuple[str, str]:
    """Follows a run: taken, refused, or neither, and what was said."""

    def late(*_: object) -> None:
        raise _Endless

    said = io.StringIO()
    handler, before = logging.StreamHandler(said), signal.signal(signal.SIGALRM, late)
    logging.getLogger("lth_runner").addHandler(handler)
    signal.alarm(LONGEST)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(without_pictures())
            for to in (contextlib.redirect_stdout, contextlib.redirect_stderr):
                stack.enter_context(to(said))
            if not whole:
                begun = mock.patch("lth_runner.training.train.train", side_effect=_Begun)
                stack.enter_context(begun)
            execute(config, "lth-run")
    except _Begun:
        return "taken", said.getvalue()
    except MISTAKES as error:
        return "refused", str(error)
    except Exception as error:
        return "neither", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        logging.getLogger("lth_runner").removeHandler(handler)
        shutil.rmtree(str(config.paths.outputs), ignore_errors=True)
    return "taken", said.getvalue()


def tried(setting: str, folder: Path, known: set[object]) -> Iterator[tuple[str, DictConfig]]:
    """Configs with one key each of another value; keys of parts that are ``known`` are left out."""
    config = composed(setting, folder)
    for key in under(setting, config):
        place, _, leaf = key.rpartition(".")
        part = OmegaConf.select(config, f"{place}._target_") if place else None
        what = (part or place, leaf)
        if what in known or key.startswith(("paths", "hydra")):
            continue
        known.add(what)
        for value in VALUES:
            changed = config.copy()
            OmegaConf.update(changed, key, value, merge=False)
            yield f"{key}={value!r}", changed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("settings", nargs="*", help="pruner, pruner/rigl: all by default")
    parser.add_argument("--whole", action="store_true", help="run what is taken to its end")
    parser.add_argument("--messages", action="store_true", help="list what was told")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name, read_once(), composed_once(), unsynced():
        folder, known = Path(name), set[object]()
        files(folder)
        os.chdir(folder)  # where a cache named x comes to lie
        for setting in SETTINGS:
            chosen = {setting, setting.rpartition("/")[0], setting.split("/")[0]}
            if arguments.settings and not chosen & set(arguments.settings):
                continue
            kind, said = told(composed(setting, folder), whole=arguments.whole)
            print(f"{setting}: {kind} {said if kind != 'taken' else ''}", flush=True)
            for what, config in tried(setting, folder, known):
                kind, said = told(config)
                if kind == "taken" and arguments.whole:
                    kind, said = told(config, whole=True)
                    kind = {"refused": "refused late"}.get(kind, kind)
                counts[kind] += 1
                if kind != "refused" or arguments.messages:
                    last = "" if kind == "taken" else " ".join(said.split())
                    print(f"{setting}  {kind}  {what}  {last[:400]}", flush=True)
    print(dict(counts))
    return 1 if counts["neither"] or counts["refused late"] else 0


if __name__ == "__main__":
    sys.exit(main())
