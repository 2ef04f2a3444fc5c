"""docs/options.md: every option of every group, with what its yaml says of itself first.

make options                     # writes it
python scripts/options.py --check    # says whether it is what the yaml files say; writes nothing
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/options.md"
HEAD = """# Options

What `group=option` accepts, by group; written by `make options` from the heads of the files in
`conf/`, which say more. Keys and their values: [configuration.md](configuration.md).
`+group=option` where a group has a plus.
"""
ADDED = ("augment", "dataset/transforms", "experiment", "pruner/rename", "scale", "study", "sweep")
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
        if not line.startswith("#"):
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


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        return 0 if PAGE.read_text() == page() else 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
