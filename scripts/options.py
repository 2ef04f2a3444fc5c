"""What pages have from the yaml files and docstrings: options, keys, pruners, layers.

make options                     # writes it
python scripts/options.py --check    # says whether it is what the yaml files say; writes nothing

docs/options.md is written whole, and of conf/probe/full.yaml the list. In the other pages a part
is, between a line ``<!-- make options: what -->`` and the next ``<!-- end -->``; what stands around
is by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import keys
import layers
import pruners
import yaml

from lth_runner.cli.help import ADDED

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/options.md"
FULL = ROOT / "conf/probe/full.yaml"  # a list that only repeats its folder
PART = re.compile(r"(?<=<!-- make options: )(.*?)( -->\n\n).*?(?=\n\n<!-- end -->)", re.DOTALL)
HEAD = """# Options

What `group=option` accepts, by group; written by `make options`
([of the source](running.md#programs-of-the-source)) from the heads of the files in `conf/`, which
say more. Keys and their values: [configuration.md](configuration.md). `+group=option` where a group
has a plus.
"""
APART = ("skeleton",)  # parts of other options


def options() -> Iterator[tuple[str, Path]]:
    """Lists (group, file), the groups in order."""
    conf = ROOT / "conf"
    for path in sorted(conf.rglob("*.yaml"), key=lambda one: (one.parent.as_posix(), one.stem)):
        group = path.parent.relative_to(conf).as_posix()
        if group != "." and group not in APART and not group.startswith("hydra"):
            yield group, path


def first_sentence(path: Path) -> str:
    """The first sentence of a file's opening comment, on one line."""
    lines = []
    for line in path.read_text().splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#") or line.startswith("#:"):
            break
        lines.append(line[1:].strip())
    text = " ".join(lines)
    ends = re.search(r"\.(?=\s+[A-Z(`\d]|$)", text)
    return text[: ends.end()] if ends else text


def page() -> str:
    """The whole page."""
    parts, last = [HEAD], None
    for group, path in options():
        if group != last:
            sign = "+" if group in ADDED else ""
            parts.append(f"## {group}\n\n| `{sign}{group}=` | what it is |\n|---|---|")
            last = group
        said = first_sentence(path).replace("|", "\\|")
        parts[-1] += f"\n| `{path.stem}` | {said} |"
    return "\n".join([parts[0], "\n\n".join(parts[1:])]) + "\n"


def defaults() -> dict[str, str]:
    """Which option of each group `lth-run` alone takes, those of groups within options too."""
    chosen, waiting = dict[str, str](), [("", ROOT / "conf/config.yaml")]
    for within, path in waiting:
        for entry in yaml.safe_load(path.read_text()).get("defaults", []):
            for group, option in entry.items() if isinstance(entry, dict) else ():
                if isinstance(option, str) and not group.startswith("override"):
                    chosen[f"{within}{group}"] = option
                    file = ROOT / f"conf/{within}{group}/{option}.yaml"
                    waiting.append((f"{within}{group}/", file))
    return chosen | {"record": "default"}  # a list in the root: any of them together


def written(text: str) -> str:
    """A page with the parts between its marks as the yaml files have them."""
    of: dict[str, Callable[[str], str]] = {
        "keys of": lambda group: keys.table(group, defaults().get(group)),
        "pruners": lambda _: pruners.tables(),
        "layers": lambda _: layers.table(),
    }

    def part(match: re.Match[str]) -> str:
        what = re.fullmatch(r"(keys of|pruners|layers) ?(.*)", match[1])
        if what is None:
            raise SystemExit(f"there is no '{match[1]}' to be written")
        return match[1] + match[2] + of[what[1]]("" if what[2] == "the root" else what[2])

    return PART.sub(part, text)


def full(text: str) -> str:
    """conf/probe/full.yaml: what it lists, and probes that do not say why they are not in it."""
    head, listed = text.split("defaults:\n")
    names = re.findall(r"  - (\w+)\n", listed)
    there = {
        path.stem for path in FULL.parent.glob("*.yaml") if not keys.field(path, "Not in full")
    }
    kept = [name for name in names if name in there]
    added = sorted(there - {*names, FULL.stem})
    return head + "defaults:\n" + "".join(f"  - {name}\n" for name in (*kept, *added))


def pages() -> dict[Path, str]:
    """The files that are written, or of which parts are."""
    marked = map(ROOT.joinpath, ("docs/configuration.md", "docs/pruners.md", "CONTRIBUTING.md"))
    of_keys = {path: written(path.read_text()) for path in marked}
    return {PAGE: page(), **of_keys, FULL: full(FULL.read_text())}


def main() -> int:
    changed = {path: text for path, text in pages().items() if path.read_text() != text}
    if sys.argv[1:] == ["--check"]:
        for path in changed:
            print(f"{path.relative_to(ROOT)} is to be written anew: make options")
        return 1 if changed else 0
    for path, text in changed.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
