"""What the site has beside docs/: the README, the notebooks, public names, and linked source.

mkdocs calls ``on_files`` and ``on_page_markdown`` (``hooks`` in mkdocs.yml). Links in the documents
are those of the repository, and lead to the page of the site that shows the same.
"""

from __future__ import annotations

import importlib
import inspect
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()[^)#\s]+")
AT_THE_ROOT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LANGUAGES = {
    **{".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cff": "yaml", ".json": "json"},
    **{".c": "c", ".h": "c", ".sh": "bash", ".csv": "text", "": "text"},
}
SHOWN = (".md", ".ipynb", ".png", ".svg")


def page_of(path: str) -> str:
    """Returns the page, or the picture, of the site that shows a file or folder of the project."""
    if path in AT_THE_ROOT:
        return AT_THE_ROOT[path]
    if path.startswith("docs/") and path.endswith(SHOWN):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
    return f"source/{path}/index.md" if (ROOT / path).is_dir() else f"source/{path}.md"


def documents() -> dict[str, str]:
    """Returns the text of each document, by the file of the project that it is in."""
    paths = [*map(ROOT.joinpath, AT_THE_ROOT), *(ROOT / "docs").glob("*.md")]
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    for path in (ROOT / "docs/notebooks").glob("*.ipynb"):
        found[path.relative_to(ROOT).as_posix()] = notebook(json.loads(path.read_text()))
    return found


def notebook(content: dict) -> str:
    """Returns a notebook's cells; its outputs are not kept in the project."""
    cells = []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        cells.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(cells) + "\n"


def target(link: str, document: str) -> str | None:
    """Returns the path in the project that a link of a document leads to, if there is one."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(document), link))
    inside = not path.startswith("..") and not link.startswith("/")
    return path if inside and (ROOT / path).exists() else None


def source(path: str) -> Iterator[tuple[str, str]]:
    """Yields pages, by name: a file as it is; a folder as a list, then what is in it."""
    here = ROOT / path
    head = f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n\n# {path}\n\n"
    if here.is_file():
        text = here.read_text().rstrip("\n")
        yield page_of(path), f"{head}``````{LANGUAGES.get(here.suffix, 'text')}\n{text}\n``````\n"
        return
    inside = [p for p in sorted(here.iterdir()) if p.suffix in LANGUAGES and p.name[0] not in "._"]
    inside = [p for p in inside if p.is_file() or list(p.glob("*.*"))]
    links = [f"- [{p.name}]({p.name}{'/index' if p.is_dir() else ''}.md)" for p in inside]
    yield page_of(path), head + "\n".join(links) + "\n"
    for p in inside:
        yield from source(p.relative_to(ROOT).as_posix())


def names() -> str:
    """Returns the page of the public names of ``lth_runner``: signatures and docstrings."""
    package = importlib.import_module("lth_runner")
    parts = [
        "# Public names\n\nAll of `import lth_runner as lth`, from their docstrings. What they are"
        " for, with examples: [From Python](python.md).\n"
    ]
    for name in sorted(package.OFFERED, key=str.lower):
        offered = getattr(package, name)
        parts.append(f"## {name}\n\n{described(name, offered)}")
        if inspect.isclass(offered):
            for verb, member in vars(offered).items():
                told = getattr(member, "__func__", member)
                if verb[0] != "_" and inspect.isfunction(told) and told.__doc__:
                    parts.append(f"### {name}.{verb}\n\n{described(verb, told)}")
    return "\n".join(parts)


def described(name: str, offered: Callable) -> str:
    """Returns a signature and a docstring, both as they are in the source."""
    try:
        quoted = str(inspect.signature(offered))
        signature = name + re.sub(r"(: |-> )'([^']*)'", r"\1\2", quoted)  # annotations as written
    except (TypeError, ValueError):  # of C, or of an exception
        signature = name
    return f"```python\n{signature}\n```\n\n``````text\n{inspect.getdoc(offered)}\n``````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file of docs/ is."""
    pages = {"names.md": names()}
    for document, text in documents().items():
        if not (document.startswith("docs/") and document.endswith(".md")):
            pages[page_of(document)] = text
        for link in LINK.findall(text):
            path = target(link, document)
            if path is not None and page_of(path).startswith("source/"):
                pages.update(source(path))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points a document's links at pages of the site."""
    here = page.file.src_uri
    of = {page_of(document): document for document in documents()}.get(here)
    if of is None:
        return markdown
    markdown = indented(markdown)

    def led(match: re.Match[str]) -> str:
        path = target(match[0], of)
        if path is None:
            return match[0]  # mkdocs warns of what leads nowhere
        return posixpath.relpath(page_of(path), posixpath.dirname(here) or ".")

    return LINK.sub(led, markdown)


def indented(markdown: str) -> str:
    """Indents what belongs to an item of a list by four, which Python's Markdown asks for."""
    lines, wide, code = [], 0, False
    for line in markdown.split("\n"):
        item = re.match(r"(-|\d+\.) ", line)
        if line.startswith("```"):
            code, wide = not code, 0
        elif item and not code:
            wide = len(item[0])
        elif line and line[0] != " ":
            wide = 0
        elif wide and line.strip():
            line = " " * (4 - wide) + line
        lines.append(line)
    return "\n".join(lines)
