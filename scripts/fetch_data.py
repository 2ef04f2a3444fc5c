"""Download published datasets ahead of time, for machines without internet."""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from lth_runner.problem.data.glue import FORMATS
from lth_runner.problem.data.published import PUBLISHED, load_published
from lth_runner.problem.models.model_folder import fetch_model
from lth_runner.values.errors import UserError
from lth_runner.values.files import write_whole

# where the authors of the data, and of GLUE, publish them
GLUE = "https://dl.fbaipublicfiles.com/glue/data/"
ARCHIVES = {
    "CoLA": "CoLA.zip", "SST-2": "SST-2.zip", "STS-B": "STS-B.zip", "QQP": "QQP-clean.zip",
    "MNLI": "MNLI.zip", "QNLI": "QNLIv2.zip", "RTE": "RTE.zip", "WNLI": "WNLI.zip",
}  # fmt: skip
MRPC = "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_train.txt"
MRPC_DEV = GLUE + "mrpc_dev_ids.tsv"
SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"
SQUAD_FILES = {  # SHA-256
    "train-v1.1.json": "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
    "dev-v1.1.json": "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
}
Fetch = Callable[[str], bytes]

EXAMPLES = """
examples:
  python scripts/fetch_data.py mnist cifar10 --root data
  python scripts/fetch_data.py glue squad --root data
  python scripts/fetch_data.py --all --root /scratch/data

Run it where there is internet, then copy the folder to the machine without (rsync -a data/ ...)
and point runs at it: lth-run dataset=mnist dataset.root=/path/to/data
  (glue and squad: dataset.root=/path/to/data/glue, /path/to/data/squad)
Pretrained models and their tokenizers: --model owner/name --root models makes models/name, which is
what model.path and dataset.tokenizer.path are to say.
What is already in the folder is checked and not downloaded again.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"datasets to fetch: {', '.join([*PUBLISHED, *TEXTS])}",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="OWNER/NAME",
        help="a model of the Hugging Face hub, with its tokenizer; may be given again",
    )
    parser.add_argument("--all", action="store_true", help="fetch every dataset named above")
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="folder to keep them in (default: data)"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Fetch what was asked for; 0 when all of it is there, 1 when any failed."""
    arguments = parser().parse_args(argv)
    names = [*PUBLISHED, *TEXTS] if arguments.all else arguments.names
    if not names and not arguments.model:
        parser().print_help()
        return 2
    failed = 0
    for model in arguments.model:
        try:
            print(f"{model}: {fetch_model(model, arguments.root / model.split('/')[-1])} is ready")
        except UserError as error:
            print(f"{model}: {error}", file=sys.stderr)
            failed = 1
    for name in names:
        if name in TEXTS:
            failed |= _fetched(name, arguments.root)
            continue
        try:
            train, test = load_published(name, arguments.root)
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
        else:
            print(f"{name}: {len(train[1])} training and {len(test[1])} test images, ready")
    return failed


def _fetched(name: str, root: Path) -> int:
    try:
        TEXTS[name](root / name, _get)
    except (OSError, HTTPException, ValueError, KeyError, zipfile.BadZipFile) as error:
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{name}: {root / name} is ready")
    return 0


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        content: bytes = answer.read()
        return content


def fetch_glue(root: Path, get: Fetch) -> None:
    """Fetches the labelled files of the nine tasks, each into a folder of its own.

    They have no published sums: archives have their own, and runs refuse what is not laid out so.
    """
    for layout in FORMATS.values():
        dev = [layout.test]
        if layout.folder == "MNLI":
            dev.append("dev_mismatched.tsv")
        names = ["train.tsv", *dev]
        if all((root / layout.folder / name).is_file() for name in names):
            continue
        if layout.folder == "MRPC":
            found = mrpc_files(get(MRPC), get(MRPC_DEV))
        else:
            archive = zipfile.ZipFile(io.BytesIO(get(GLUE + ARCHIVES[layout.folder])))
            found = {name: archive.read(f"{layout.folder}/{name}") for name in names}
        _write(root / layout.folder, found)


def mrpc_files(train: bytes, dev: bytes) -> dict[str, bytes]:
    """Parts the published training pairs of MRPC as GLUE does: its development pairs are named."""
    chosen = {tuple(line.split("\t")) for line in dev.decode("utf-8-sig").splitlines()}
    header, *lines = train.decode("utf-8-sig").strip().split("\n")
    parted: dict[str, list[str]] = {"train.tsv": [header], "dev.tsv": [header]}
    for line in lines:
        cells = line.split("\t")
        parted["dev.tsv" if (cells[1], cells[2]) in chosen else "train.tsv"].append(line)
    if len(parted["dev.tsv"]) == 1:
        raise ValueError("none of MRPC's development pairs is among the published pairs")
    return {name: "\n".join([*rows, ""]).encode() for name, rows in parted.items()}


def fetch_squad(root: Path, get: Fetch) -> None:
    """Fetches SQuAD v1.1, checked by its sums."""
    for name, expected in SQUAD_FILES.items():
        path = root / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == expected:
            continue
        content = get(SQUAD + name)
        if (found := hashlib.sha256(content).hexdigest()) != expected:
            raise ValueError(f"{SQUAD + name} has the SHA-256 {found}, not {expected}")
        _write(root, {name: content})


def _write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(folder / name, content)


TEXTS: dict[str, Callable[[Path, Fetch], None]] = {"glue": fetch_glue, "squad": fetch_squad}


if __name__ == "__main__":
    sys.exit(main())
