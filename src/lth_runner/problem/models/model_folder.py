"""The folder that a published model lies in: its config, its files, and what is wrong with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home
from lth_runner.values.raised import reason_of

ON_A_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)  # owner/name, or a name alone
WANTED = ["*.json", "*.safetensors", "*.txt", "*.model"]  # of all that a hub may have of a model
OLDER = ["pytorch_model*.bin"]  # where there are no safetensors
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
NEEDED = "pip install 'lth-runner[nlp]'"


@dataclass(frozen=True)
class ModelFolder:
    """A folder with a model of the library transformers, and its GGUF file where it is one.

    ``key`` is what messages call the path by.
    """

    folder: Path
    gguf: str | None = None
    key: str = "model.path"

    @classmethod
    def find(
        cls, path: str, *, gguf: str | None = None, download: bool = False, key: str = "model.path"
    ) -> ModelFolder:
        """Finds the folder that ``path`` means: itself, that of a GGUF file, or a hub's name.

        Of a hub's name it is the one in the local cache; nothing is fetched into that unless
        ``download`` says so. Raises UserError, saying what to do, where there is no model.
        """
        place = from_home(path)
        if place.is_file() and place.suffix == ".gguf":
            return cls(place.parent, place.name, key)
        if place.is_file():
            raise UserError(
                f"{key}={path} is a file: give the folder that it lies in, with config.json beside "
                "the weights, or a .gguf file"
            )
        if not place.is_dir():
            if place.is_absolute() or not ON_A_HUB.fullmatch(path):
                raise UserError(f"{key}={path}: there is no such folder")
            place = _cached(path, download=download, key=key)
        return cls(place, gguf or _only_gguf(place, key), key)

    def config(self) -> Any:
        """Reads the model's config, an object of the library.

        Raises UserError for a folder without, for one of no known architecture, and for a GGUF file
        that the library cannot read.
        """
        self._refuse_none()
        given = {} if self.gguf is None else {"gguf_file": self.gguf}
        try:
            return library().AutoConfig.from_pretrained(
                str(self.folder), local_files_only=True, trust_remote_code=False, **given
            )
        except Exception as error:  # of the library and of what it reads with: many kinds
            raise self.refusal(error) from error

    def refusal(self, error: Exception) -> UserError:
        """Makes one message of what the library says about the files."""
        said = reason_of(error)
        if self.gguf is None:
            return UserError(
                f"{self.key}={self.folder} is no model that transformers {library().__version__} "
                f"can read ({said}): it needs a config.json of a known architecture beside the "
                "weights, as save_pretrained writes it"
            )
        return UserError(
            f"{self.key}={self.folder / self.gguf} is a GGUF file that transformers "
            f"{library().__version__} cannot read ({said}): it reads those of some architectures "
            "alone; give the folder of the model as safetensors"
        )

    def files(self) -> list[Path]:
        """Lists the files of weights in the order of their names.

        Raises UserError where there are none.
        """
        if self.gguf is not None:
            return [self.folder / self.gguf]
        for pattern in WEIGHTS:
            if found := sorted(self.folder.glob(pattern)):
                return found
        raise UserError(
            f"{self.key}={self.folder} holds no weights ({', '.join(WEIGHTS)}): copy them there, "
            "or set origin=none for a draw by the seed"
        )

    def _refuse_none(self) -> None:
        if self.gguf is not None and not (self.folder / self.gguf).is_file():
            raise UserError(f"{self.key}: {self.folder} holds no file {self.gguf}")
        if self.gguf is None and not (self.folder / "config.json").is_file():
            raise UserError(
                f"{self.key}={self.folder} is no folder of a model: it holds no config.json, and "
                "no .gguf file"
            )


def library() -> Any:
    """Imports transformers, which takes seconds; raises UserError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(f"model=hf needs the library transformers ({error}): {NEEDED}") from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library from reporting what a run reports itself."""
    logging = library().logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def _only_gguf(folder: Path, key: str) -> str | None:
    """Names the GGUF file of a folder that is nothing else; None for one with a config."""
    found = sorted(path.name for path in folder.glob("*.gguf"))
    if (folder / "config.json").is_file() or not found:
        return None
    if len(found) > 1:
        raise UserError(
            f"{key}={folder} holds {len(found)} GGUF files: choose one of {', '.join(found)} by "
            "model.gguf"
        )
    return found[0]


def fetch_model(name: str, folder: Path | None = None) -> Path:
    """Fetches a hub's model into a folder, by default the local cache; returns where it lies.

    Of weights safetensors alone where there are such. Raises UserError where it cannot be had.
    """
    library()
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(name, allow_patterns=WANTED, local_dir=folder))
        if not [*found.glob("*.safetensors")]:
            snapshot_download(name, allow_patterns=OLDER, local_dir=folder)
    except Exception as error:  # of the network, the hub, the disk
        said = reason_of(error)
        raise UserError(
            f"{name} cannot be fetched ({said}). Without internet: {_how(name)}"
        ) from error
    return found


def _cached(name: str, *, download: bool, key: str) -> Path:
    """Finds a hub's model in the local cache, or fetches it there."""
    library()
    from huggingface_hub import constants, snapshot_download

    if download:
        return fetch_model(name)
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # of the cache, the disk
        raise UserError(
            f"{key}={name}: there is no such folder, and no model of that name in the cache "
            f"{constants.HF_HUB_CACHE}. Nothing is fetched unless model.download=true; without "
            f"internet: {_how(name)}"
        ) from error


def _how(name: str) -> str:
    return (
        f"fetch it on a machine that has some (python scripts/fetch_data.py --model {name} --root "
        "models), copy the folder, and give it as model.path"
    )
