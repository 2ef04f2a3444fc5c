"""A model comes from a hub where that is asked for, and nothing is asked of one otherwise."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import pretrained

pytest.importorskip("transformers")
ROOT = Path(__file__).parents[1]
NAME, COMMIT = "some/bert", "1" * 40


class Hub(ThreadingHTTPServer):
    """What a hub answers of one model, laid out as the library huggingface_hub asks for it."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Answering)


class Answering(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        files, name = self.server.files, path.rpartition("/")[2]
        if path.startswith(f"/api/models/{NAME}/tree/"):
            tree = [{"type": "file", "path": one, "size": len(content), "oid": _sha(content)}
                    for one, content in files.items()]  # fmt: skip
            return self._answer(200, json.dumps(tree).encode())
        if path.startswith(f"/api/models/{NAME}/"):
            listed = [{"rfilename": one} for one in files]
            told = {"id": NAME, "sha": COMMIT, "siblings": listed}
            return self._answer(200, json.dumps(told).encode())
        if path.startswith(f"/{NAME}/resolve/{COMMIT}/") and name in files:
            return self._answer(200, files[name], _sha(files[name]))
        return self._answer(404, b"{}")

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, etag: str = "none") -> None:
        self.send_response(status)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *given: object) -> None:
        pass


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    pretrained.folder(tmp_path / "model", "bert", "ForMaskedLM")
    with Hub(tmp_path / "model") as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.mark.slow
def test_a_hub_is_asked_for_a_model_where_that_is_said_and_never_else(
    hub: Hub, tmp_path: Path
) -> None:
    lines = "".join(f"{n % 2}\t{'good' if n % 2 else 'bad'} film\n" for n in range(40))
    (tmp_path / "texts").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "texts" / f"{split}.tsv").write_text(f"label\ttext\n{lines}")

    def run(*words: str) -> tuple[int, str]:
        """Runs a command as another process, whose cache is empty at first."""
        given = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "no_proxy": "127.0.0.1",
                 "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT / "src")}  # fmt: skip
        found = subprocess.run(
            [sys.executable, *words], env=os.environ | given, cwd=tmp_path, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        return found.returncode, found.stderr

    def train(path: str, *words: str) -> tuple[int, str]:
        return run(
            "-m", "lth_runner", "model=hf", f"model.path={path}", "origin=hf", "dataset=text",
            "dataset.root=texts", "dataset/tokenizer=words",
            f"dataset.vocabulary={pretrained.VOCABULARY}", "dataset.length=8", "train=finetune",
            "train.length=1it", "pruner=one_shot", "pruner.sparsity=0.5", "control=none",
            "probe=none", "record=local", "replicates=1", "threads=1", "device=cpu", "name=hub",
            *words,
        )  # fmt: skip

    status, said = train(NAME)
    assert status == 2, said
    assert said.count("\n") == 1
    assert "Nothing is fetched unless model.download=true" in said
    assert not hub.asked

    status, said = train(NAME, "model.download=true")
    assert status == 0, said
    asked = len(hub.asked)
    assert asked > 0
    status, said = run(str(ROOT / "scripts/fetch_data.py"), "--model", NAME, "--root", "models")
    assert status == 0, said
    files = {path.name for path in (tmp_path / "models/bert").iterdir() if path.is_file()}
    assert files == set(hub.files)

    asked = len(hub.asked)
    for path in (NAME, "models/bert"):  # from the cache, and from the folder: the same run
        status, said = train(path)
        assert status == 0, said
    assert len(hub.asked) == asked
    assert len([*(tmp_path / "outputs/hub").iterdir()]) == 1
    status, said = train("some/other", "model.download=true")
    assert status == 2, said
    assert "some/other cannot be fetched" in said
