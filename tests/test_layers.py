"""Imports flow one way: between the packages, from the edge down to the values, and inside each."""

from __future__ import annotations

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lth_runner

SOURCE = Path(lth_runner.__file__).parent
LAYERS = [
    "values",
    "problem schedule",
    "score parts cutting",
    "allocate",
    "search",
    "control masking store",
    "training probe",
    "runs",
    "export",
    "study",
    "experiment",
    "cli __main__",
    "api",
]
LEVEL = {unit: level for level, units in enumerate(LAYERS) for unit in units.split()}


def modules():
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if parts != ("__init__",):
            yield path, parts


@functools.cache  # hundreds of files
def imports(path):
    """The import statements of a file, those apart that its own import runs."""
    tree = ast.parse(path.read_text())
    kinds = (ast.Import, ast.ImportFrom)
    at_start = [node for node in tree.body if isinstance(node, kinds)]
    return at_start, [node for node in ast.walk(tree) if isinstance(node, kinds)]


def imported(path, parts, *, at_start=False):
    """Full names of what a module imports; with ``at_start``, only what its own import runs."""
    first, everywhere = imports(path)
    for node in first if at_start else everywhere:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            package = ("lth_runner", *parts)[: -node.level] if node.level else ()
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def units(names):
    """The parts of the package that imported names belong to."""
    ours = (name.split(".")[1] for name in names if name.startswith("lth_runner."))
    return {name for name in ours if not name.startswith("__")}  # __version__ is no part


@functools.cache
def edges():
    found = {}
    for path, parts in modules():
        found.setdefault(parts[0], set()).update(units(imported(path, parts)) - {parts[0]})
    return found


def test_every_part_has_a_layer():
    assert set(edges()) == set(LEVEL)


@pytest.mark.parametrize("unit", LEVEL)
def test_no_import_points_upward(unit):
    upward = {other for other in edges()[unit] if LEVEL[other] > LEVEL[unit]}
    assert not upward, f"{unit} imports from layers above: {sorted(upward)}"


def test_no_packages_import_each_other_in_a_circle():
    try:
        TopologicalSorter(edges()).prepare()
    except CycleError as error:
        pytest.fail(str(error))


@functools.cache
def modules_by_name():
    found = {".".join(parts): (path, parts) for path, parts in modules()}
    return {name: of for name, of in found.items() if not name.endswith("__init__")}


def module_edges():
    """Which module imports which; a package's own __init__ stands for no module of it."""
    known = modules_by_name()
    for name, (path, parts) in known.items():
        wanted = (full.partition(".")[2] for full in imported(path, parts) if ours(full))
        yield name, {other for full in wanted if (other := defining(full, known)) != name} - {None}


def ours(full):
    return full.startswith("lth_runner.")


def defining(full, known):
    """The module that an imported name lies in, or None where a package hands it out."""
    return next((name for name in (full, full.rpartition(".")[0]) if name in known), None)


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(dict(module_edges())).prepare()
    except CycleError as error:
        pytest.fail(str(error))


def test_no_module_imports_the_package_that_it_lies_in():
    for name, (path, parts) in modules_by_name().items():
        package = ".".join(["lth_runner", *parts[:-1]])
        for full in imported(path, parts) if len(parts) > 1 else ():
            inside = full.rpartition(".")[0] == package
            is_module = full.partition(".")[2] in modules_by_name()
            assert not inside or is_module, f"{name} imports {full} from its own package"


def test_what_runs_show_is_worked_out_without_drawing_it():
    found = [(path, parts) for path, parts in modules() if parts[:2] == ("runs", "evidence")]
    assert found
    for path, parts in found:
        for full in imported(path, parts):
            drawing = ("lth_runner.runs.pages", "lth_runner.runs.report", "matplotlib", "torch")
            assert not full.startswith(drawing), path


def test_what_pages_are_made_of_knows_none_of_them():
    kit = [(path, parts) for path, parts in modules() if parts[:2] == ("runs", "pages")]
    assert kit
    for path, parts in kit:
        for full in imported(path, parts):
            assert not full.startswith(("lth_runner.runs.report", "lth_runner.runs.study_pages"))


def test_the_reading_sees_every_way_to_import(tmp_path):
    text = (
        "import lth_runner.a\nfrom lth_runner import b as c\nfrom lth_runner.d.e import f\n"
        "from ..g import h\ndef late():\n    from lth_runner.i import j\n    import torch\n"
    )
    path = tmp_path / "module.py"
    path.write_text(text)
    assert units(imported(path, ("package", "module"))) == set("abdgi")
    assert "torch" in list(imported(path, ("package", "module")))
    assert "torch" not in list(imported(path, ("package", "module"), at_start=True))


def loaded_with(entry):
    """The libraries that come with a module as it is imported."""
    waiting, seen, outside = [entry], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = SOURCE.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not path.is_file():
            continue
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # a package runs before what is in it
        for full in imported(path, tuple(name.split(".")), at_start=True):
            head, _, rest = full.partition(".")
            if head == "lth_runner":
                waiting += [rest, rest.rpartition(".")[0]] if "." in rest else [rest]
            else:
                outside.add(head)
    assert len(seen) > 1
    return outside


SHOWN_WITH = {"torchvision", "matplotlib", "scipy", "sklearn", "wandb", "pandas"}


@pytest.mark.parametrize("entry", ["cli.main", "cli.export", "cli.report", "cli.status"])
def test_the_command_line_answers_without_loading_torch(entry):
    assert not loaded_with(entry) & (SHOWN_WITH | {"torch", "hydra"})


def test_a_run_begins_without_what_only_shows_or_reads_results():
    assert not loaded_with("cli.launch") & SHOWN_WITH


def test_no_module_loads_the_libraries_of_language_models_when_it_is_imported():
    late = {"transformers", "tokenizers", "huggingface_hub", "gguf"}
    for path, parts in modules():
        outside = {full.partition(".")[0] for full in imported(path, parts, at_start=True)}
        assert not outside & late, path


def test_no_module_of_the_tests_stands_in_for_one_of_the_scripts():
    root = Path(__file__).parents[1]
    scripts = {path.name for path in (root / "scripts").glob("*.py")}
    assert not scripts & {path.name for path in (root / "tests").glob("*.py")}
