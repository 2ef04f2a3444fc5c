"""The documentation as written: its code runs, its tables say what the program does."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import runpy
import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from command import SMALL, folders, lth_run, no_training, rows, status_of
from documents import blocks, commands, section, table, workshop_of
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.status import main as lth_status
from lth_runner.store.ticket_file import read_ticket
from lth_runner.values.terminal import Arguments

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import keys
import options as option_page

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FILES = (ROOT / "docs/files.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
ONLY_WHILE_RUNNING = {"arm", "seed", "step", "total"}
QUICK = ["record=local", "control=reinit", "threads=1", "device=cpu"]
RUNNING = (ROOT / "docs/running.md").read_text()
ADDING = (ROOT / "docs/own_parts.md").read_text()


# --- Parts of your own: steps as written, in a folder of the user's own


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workshop")
    with workshop_of(ADDING, folder):
        yield folder


@pytest.mark.parametrize("words", commands(ADDING), ids=lambda words: words[-2])
def test_what_a_user_adds_runs_as_written(words: list[str], workshop: Path) -> None:
    assert words[0] == "lth-run"
    said = lth_run(*words[1:], *QUICK, pictures=any("probe=" in word for word in words))
    assert said.status == 0, said.err
    assert (workshop / said.out.split("run      ")[1].split()[0] / "curve.png").exists()


def test_an_added_probe_is_in_the_rows(workshop: Path) -> None:
    found = [
        row for path in workshop.glob("outputs/digits_imp/*/rounds.jsonl") for row in rows(path)
    ]
    assert found
    assert all(row["weight_norm"] > 0 for row in found)


def test_nothing_of_a_users_is_in_the_package() -> None:
    own = {
        Path(block.splitlines()[0].removeprefix("# ")).name for block in blocks(ADDING, "python")
    }
    assert own == {"mynet.py", "mydata.py", "myscore.py", "myprobe.py"}
    assert not [path for path in ROOT.glob("src/**/*.py") if path.name in own]


# --- commands and links


def shown_commands(program: str) -> Iterator[list[str]]:
    """The arguments that the pages' fenced commands give to a program."""
    for path in DOCUMENTS:
        text = path.read_text()
        lines = [line for of in ("sh", "bash", "text") for part in blocks(text, of)
                 for line in part.replace("\\\n", " ").splitlines()]  # fmt: skip
        for line in lines:
            if re.match(rf"{program}( |$)", line):
                yield shlex.split(line, comments=True)[1:]


def overrides(words: list[str]) -> list[str]:
    return [word for word in words[1:] if "=" in word and not word.startswith("-")]


@pytest.mark.parametrize(
    "words",
    [["lth-run", *words] for words in shown_commands("lth-run")
     if "--config-dir" not in words  # words of a study go to its runs
     and not any(word.startswith(("hydra", "+study=")) or "<" in word for word in words)],
    ids=" ".join,
)  # fmt: skip
def test_commands_of_all_pages_compose(words: list[str]) -> None:
    single = [re.sub(r"(=[^\[{,(]+),.*", r"\1", word) for word in overrides(words)]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        compose("config", overrides=single)


@pytest.mark.parametrize("name", ["diff", "export", "merge", "report", "status"])
def test_commands_of_all_pages_are_accepted_by_their_programs(name: str) -> None:
    shown = list(shown_commands(f"lth-{name}"))
    assert shown
    main = importlib.import_module(f"lth_runner.cli.{name}").main
    accepted = []

    def stop_after(self: Arguments, *given: Any) -> Any:
        accepted.append(ArgumentParser.parse_args(self, *given))
        raise InterruptedError

    with mock.patch.object(Arguments, "parse_args", stop_after):
        for words in shown:
            with pytest.raises(InterruptedError):
                main(words)
    assert len(accepted) == len(shown)


def test_extras_that_are_told_to_install_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    extras = section_of_toml(project, "project.optional-dependencies")
    texts = [path.read_text() for path in [*DOCUMENTS, *sorted((ROOT / "conf").rglob("*.yaml"))]]
    told = {name for text in texts for names in re.findall(r"lth-runner\[([a-z,]+)\]", text)
            for name in names.split(",")}  # fmt: skip
    assert told
    assert told <= set(re.findall(r"^([a-z]+) = ", extras, re.MULTILINE))


def section_of_toml(text: str, title: str) -> str:
    return text.split(f"\n[{title}]\n")[1].split("\n[")[0]


def test_the_number_of_pruners_is_told_as_it_is() -> None:
    count = sum(of == "pruner" for of, _ in options())
    assert f"**{count} pruners" in README
    assert f"; {count} in all ([pruners.md]" in RUNNING


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called = {word for text in DOCUMENTS for word in re.findall(r"\bmake ([a-z-]+)", code(text))}
    assert {"run", "test", "check", "wheel"} <= called
    for name in called:
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), f"make {name}"


def code(path: Path) -> str:
    """Code, in fences and in backticks, of a document."""
    text = path.read_text()
    return "\n".join([*blocks(text, "sh"), *re.findall(r"`(make [^`]*)`", text)])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_page_says_where_programs_are_that_pip_does_not_install(path: Path) -> None:
    text = re.sub(r"<!--.*?-->", "", path.read_text())
    names = re.search(r"(?<![/(\w])(?:scripts|tests)/\w|`make [a-z]", text)
    told = "#programs-of-the-source" in text or path.name in ("CONTRIBUTING.md", "CHANGELOG.md")
    assert told or not names, names


def test_the_first_link_to_code_is_the_program() -> None:
    assert re.findall(r"\]\((src/[^)]+)\)", README)[0] == "src/lth_runner/experiment.py"


# --- tables of groups and keys


def options() -> Iterator[tuple[str, str]]:
    for path in sorted(conf_dir().rglob("*.yaml")):
        group = path.parent.relative_to(conf_dir()).as_posix()
        if group not in (".", "skeleton") and not group.startswith("hydra/"):
            yield group, path.stem


@pytest.mark.parametrize("group", sorted({group for group, _ in options()}))
def test_the_table_of_groups_names_options_that_there_are(group: str) -> None:
    known = {name for of, name in options() if of in group or group in of}
    lines = table(section(RUNNING, "Choosing an experiment"))
    found = [value[0] for key, value in lines.items() if group in key.replace("+", "").split(", ")]
    named = set(re.findall(r"`([a-z0-9_]+)`", " ".join(found)))
    assert named <= known


@pytest.mark.parametrize("path", option_page.pages(), ids=lambda path: path.name)
def test_what_pages_have_of_the_yaml_files_is_current(path: Path) -> None:
    assert path.read_text() == option_page.pages()[path], "make options"


def test_every_option_is_on_the_page_of_options_with_what_its_file_says() -> None:
    page = (ROOT / "docs/options.md").read_text()
    for group, option in options():
        text = section(page, group)
        assert f"| `{option}` | " in text, f"{group}={option}"
        assert f"| `{option}` |  |" not in text, f"the file of {group}={option} says nothing"


@pytest.mark.parametrize("group", re.findall(r"make options: keys of (\w\S+) -->", CONFIGURATION))
def test_every_key_is_explained_by_its_file_or_another(group: str) -> None:
    for row in keys.rows(group, None):
        said = all((row.accepted, row.meaning))
        assert said, f"{row.name} of {group}={[*row.keys]} has no '#: accepted -- meaning'"


def test_a_line_says_which_options_lack_a_key_of_the_default_one() -> None:
    assert DOCUMENTED["dataset.size"][0].endswith("; only in `digits`, `digits28`")
    assert DOCUMENTED["train.optimizer.betas"][0].endswith("; not in `sgd`")
    assert DOCUMENTED["rewind.bn"][0].endswith("`keep`")


def test_every_pruner_says_what_its_line_in_the_table_has() -> None:
    cells = table((ROOT / "docs/pruners.md").read_text().split("<!-- end -->")[0])
    assert cells.keys() == {name for group, name in options() if group == "pruner"}
    assert not [name for name, line in cells.items() if not all(line)]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with values; a list, an empty mapping and a part to be named are values."""
    if isinstance(value, dict) and value and value != {"_target_": "???"}:
        for key, item in value.items():
            if not str(key).startswith("_"):
                yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif path:
        yield path, value


def composed(*words: str) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        plain = OmegaConf.to_container(compose("config", overrides=list(words)), resolve=True)
    assert isinstance(plain, dict)
    for part in ("search", "masking", "budgets", "choices"):
        plain["pruner"].pop(part, None)
    return plain


DOCUMENTED = {  # of a key that has several lines the first, which is that of the default
    key: cells
    for line in reversed(CONFIGURATION.splitlines())
    for key, cells in table(line).items()
    if len(cells) == 3
}
WITH_KEYS = (
    "model", "dataset", "train", "train/learning_rate", "pruner", "rewind", "origin",
    "coordinates", "covers", "record",
)  # fmt: skip
CHOICES = [[f"{of}={name}" for of, name in options() if of == group] for group in WITH_KEYS]


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    needed = {
        "model=torchvision": ["model.name=x"],
        "model=custom": ["model._target_=x"],
        "model=hf": ["model.path=x"],
        "rewind=partial": ["rewind.only=[x]"],
        "origin=file": ["origin.path=x"],
        "origin=run": ["origin.run=x"],
        "origin=generated": ["origin.run=x"],
        "dataset=weight_flow": ["dataset.run=x"],
        "model=velocity": ["+dataset.num_conditions=0"],
        "origin=torchvision": ["origin.name=x"],
        "origin=hf": ["origin.path=x"],
        "pruner=given": ["pruner.ticket=x"],
        "model=transformer": ["model.vocabulary=9", "model.length=9"],
        "model=causal_transformer": ["model.vocabulary=9", "model.length=9"],
        "model=masked_transformer": ["model.vocabulary=9", "model.length=9"],
    }
    for name in ("text", "sst2", "trec"):  # whatever model stands beside them
        needed[f"dataset={name}"] = ["+dataset.shape=[1]"]
    needed["dataset=glue"] = ["dataset.task=x", "+dataset.shape=[1]"]
    needed["dataset=hf"] = [
        "+dataset.shape=[1]",
        "dataset.path=x",
        "dataset.tokenizer.path=x",
    ]
    needed["dataset=squad"] = [
        "+dataset.shape=[1]",
        "+dataset.num_classes=2",
        "dataset.tokenizer.path=x",
    ]
    needed["dataset=tagged"] = ["+dataset.shape=[1]", "dataset.tokenizer.path=x"]
    needed["dataset=hf_images"] = ["dataset.path=x"]
    needed["dataset=token_files"] = ["+dataset.shape=[1]", "+dataset.num_classes=2"]
    needed["dataset=trec"] += ["dataset/tokenizer=file", "dataset.tokenizer.path=x"]
    for name in (
        "characters",
        "masked_characters",
        "corpus",
        "masked_corpus",
        "cipher_records",
        "cipher_answers",
    ):
        needed[f"dataset={name}"] = ["+dataset.shape=[1]", "+dataset.num_classes=2"]
    for name in ("corpus", "masked_corpus"):
        needed[f"dataset={name}"] += ["dataset.tokenizer.path=x"]
    existing = set()
    for chosen in itertools.zip_longest(*CHOICES):  # an option of each group at a time
        words = [word for option in chosen if option for word in (option, *needed.get(option, []))]
        found = composed(*words)
        existing |= {key for key, _ in leaves(found) if key.split(".")[0] != "control"}
    existing -= {"origin", "coordinates", "record"}  # null or empty: there is no such part
    existing = {key for key in existing if not key.startswith("coordinates.covers.")}  # as covers
    assert existing == set(DOCUMENTED)


def test_documented_defaults_are_the_defaults() -> None:
    plain = dict(leaves(composed()))
    assert len(plain.keys() & DOCUMENTED.keys()) > 40
    for key in plain.keys() & DOCUMENTED.keys():
        text = re.split(r"(?<=`); ", DOCUMENTED[key][0])[0]
        if text.startswith("follows "):
            text = f"`{plain[text.split('`')[1]]}`"
        text = text.strip("`")
        value = yaml.safe_load(text)
        value = float(text) if re.fullmatch(r"[\d.]+e-\d+", text) else value
        assert value == plain[key], key


def test_what_lth_status_takes_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        lth_status(["--help"])
    taken = set(re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE))
    assert set(table((ROOT / "docs/status.md").read_text())) == taken


# --- the files of a real run


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the shipped probes."""
    outputs = tmp_path_factory.mktemp("outputs")
    small = [word for word in SMALL if not word.startswith("probe=")]
    said = lth_run(*small, "record=local", f"paths.outputs={outputs}", pictures=True)
    assert said.status == 0, said.err
    [folder] = folders(outputs)
    return folder


@pytest.mark.parametrize("name", ["rounds.jsonl", "metrics.jsonl"])
def test_every_field_of_a_row_is_documented_and_the_reverse(name: str, real: Path) -> None:
    found = {key for row in rows(real / name) for key in row}
    assert found == set(table(section(FILES, name)))


def test_every_field_of_the_other_files_is_documented_and_the_reverse(real: Path) -> None:
    status = set(table(section(FILES, "status.json")))
    assert status == set(status_of(real)) | ONLY_WHILE_RUNNING
    environment = json.loads((real / "environment.json").read_text())
    assert set(environment) == set(table(section(FILES, "environment.json")))
    ticket = read_ticket(real / "tickets/round-02.safetensors")
    of_delta = {"pruned"}  # of coordinates=delta alone
    assert {*ticket.metadata, "seal", *of_delta} == set(table(section(FILES, "Ticket files")))


def test_every_file_of_a_run_is_documented(real: Path) -> None:
    listed = " ".join(re.findall(r"^\| (.*?) \|", FILES.split("## rounds.jsonl")[0], re.MULTILINE))
    for path in real.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}`" in listed


# --- from Python


def test_the_python_of_the_docs_runs_and_the_second_time_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = ROOT / "docs/examples"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "argv", ["own_network.py"])
    runpy.run_path(str(examples / "own_network.py"), run_name="__main__")
    assert "355 weights kept" in capsys.readouterr().out
    [folder] = folders(tmp_path / "outputs", "own_network")
    assert len(rows(folder / "rounds.jsonl")) == 2 * (1 + 3 * 2)
    with no_training():
        runpy.run_path(str(examples / "own_network.py"), run_name="__main__")
    shown = [(ROOT / "docs/python.md").read_text(), section(README, "From Python")]
    source = "\n".join(block for text in shown for block in blocks(text, "python"))
    script = tmp_path / "docs_python.py"
    script.write_text(source)
    program = compile(source, str(script), "exec")
    monkeypatch.syspath_prepend(examples)
    try:
        module = {"__name__": "docs_python"}
        exec(program, module)
        assert module["last"].mask.num_kept == round(0.2 * module["last"].mask.num_prunable)
        assert int(module["mask"].num_kept) == 355
        assert len(module["values"]) == 2
        with no_training():
            exec(program, {"__name__": "docs_python"})
    finally:
        sys.modules.pop("own_network", None)
