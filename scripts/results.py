"""Published figures beside ours: the tables and pictures of docs/results.md, from finished runs.

    make results
    python scripts/results.py outputs docs/results.md

Reads run folders and trains nothing. Between the two marks of the page every line is rewritten; a
claim that fails stays in the table as failed, and one without runs says so. The claims are in
claims.py, what is read off runs for them in measures.py.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from claims import CLAIMS, Claim, Group
from measures import Found, change

from lth_runner.errors import UserError
from lth_runner.report import drawing
from lth_runner.report.figures import curve_figure
from lth_runner.report.pruners import Effort, find_pruners
from lth_runner.report.rows import TICKET, Run
from lth_runner.report.sweep import Line
from lth_runner.report.verdict import Level

BEGIN, END = "<!-- results: written by `make results` -->", "<!-- /results -->"
NOT_MEASURED = "not measured here"
HEADER = ("claim", "published", "ours", "counts as agreement", "verdict", "command", "hardware")
FAMILIES = "lenet300_mnist_families"
FAMILIES_COMMAND = (
    f"lth-run +experiment=lenet300_mnist_sanity +sweep=families name={FAMILIES} control=none"
)
# names of runs whose curve is committed, once they are done
PICTURES = ("lenet300_mnist_imp", "resnet20_imp", "resnet20_rewind_init", "resnet20_lrr")
# where a run lay and how it was shown, but not what it was
ELSEWHERE = ("paths.", "dataset.root=", "record", "hydra", "name=")


@dataclass(frozen=True)
class Row:
    """A claim held against the runs; `found` is None where they do not reach it."""

    claim: Claim
    found: Found | None
    runs: tuple[Run, ...]

    @property
    def verdict(self) -> str:
        return NOT_MEASURED if self.found is None else self.found.answer

    def cells(self) -> tuple[str, ...]:
        claim, found = self.claim, self.found
        parts = [] if found is None else [found.ours]
        parts += [extent(run) for run in self.runs if run.state != "done"]
        measured = found is not None
        commands = dict.fromkeys(command(run) for run in self.runs) if measured else {}
        machines = dict.fromkeys(hardware(run) for run in self.runs) if measured else {}
        verdict = f"**{self.verdict}**" if measured else self.verdict
        return (
            claim.text, claim.published, "; ".join(parts), claim.rule, verdict,
            ", ".join(f"`{one}`" for one in commands or [claim.command]), ", ".join(machines),
        )  # fmt: skip


def held(claim: Claim, runs: Sequence[Run]) -> Row:
    """The claim against the first of its runs that reach it: finished before unfinished ones."""
    per_role = {
        role: [run for run in runs if run.name == name and pruner in (None, run.pruner)]
        for role, (name, pruner) in claim.runs.items()
    }
    for chosen in itertools.product(*per_role.values()):
        found = claim.measure(dict(zip(per_role, chosen, strict=True)))
        if found is not None:
            return Row(claim, found, chosen)
    started = tuple(run for found_runs in per_role.values() for run in found_runs[:1])
    return Row(claim, None, started)


def readable(runs: Iterable[Run]) -> list[Run]:
    """Runs at full scale, best evidence first: done, more replicates, more rows, the latest."""
    full = [run for run in runs if not _train(run).get("shrink_to")]
    return sorted(
        full,
        key=lambda run: (
            run.state == "done", run.num_replicates, len(run.rows), str(run.status.get("updated")),
        ),
        reverse=True,
    )  # fmt: skip


def extent(run: Run) -> str:
    """How far an unfinished run is."""
    rounds = run.rounds(TICKET)
    so_far = "no round yet" if not rounds else f"rounds {rounds[0]} to {rounds[-1]} so far"
    return f"{run.name} is {run.state}: {so_far}"


def command(run: Run) -> str:
    """The run's own command, without where things lie on the machine it ran on."""
    words = str(run.status.get("command") or f"lth-run +experiment={run.name}").split()
    return " ".join(word for word in words if not word.startswith(ELSEWHERE) and "=/" not in word)


def hardware(run: Run) -> str:
    of = run.environment
    threads = of.get("threads")
    parts = [of.get("device_name") or of.get("device") or "not recorded"]
    parts += [f"torch {of['torch']}"] if of.get("torch") else []
    parts += [f"{threads} thread{'s' * (threads != 1)}"] if threads else []
    return ", ".join(map(str, parts))


def families(runs: Sequence[Run]) -> str:
    """Accuracy, steps and seconds of one pruner of each family, by sparsity."""
    found = find_pruners([run for run in runs if run.name == FAMILIES])
    if not found:
        return f"Not measured here: `{FAMILIES_COMMAND}`."
    body = []
    for comparison in found:
        lines = {line.label: line for line in comparison.sweep.lines}
        for effort in sorted(comparison.efforts, key=lambda one: (one.sparsity, one.label)):
            body.append(_family(effort, lines[effort.label]))
    machines = ", ".join(dict.fromkeys(hardware(run) for run in runs if run.name == FAMILIES))
    unfinished = [extent(run) for run in runs if run.name == FAMILIES and run.state != "done"]
    header = (
        "sparsity (%)", "pruner", "test accuracy (%)", "against dense (points)",
        "steps to the mask", "seconds to it", "steps of the ticket", "its seconds",
    )  # fmt: skip
    notes = "; ".join([f"`{FAMILIES_COMMAND}`, {machines}", *unfinished])
    return f"{table(header, body)}\n\n{notes}. Trainings to the mask count in full."


def _family(effort: Effort, line: Line) -> tuple[str, ...]:
    levels = line.verdict.of(TICKET)
    near = min(levels, key=lambda one: abs(one.sparsity - effort.sparsity), default=None)
    against = near.against_dense if near else None
    return (
        f"{100 * effort.sparsity:.1f}", effort.label, _accuracy(near),
        "" if against is None else change(against), f"{effort.steps:,.0f}",
        f"{effort.total:,.0f}", f"{effort.own_steps:,.0f}", f"{effort.own_seconds:,.0f}",
    )  # fmt: skip


def _accuracy(found: Level | None) -> str:
    if found is None or found.mean is None:
        return ""
    spread = "" if found.std is None else f" ± {100 * found.std:.2f}"
    return f"{100 * found.mean:.2f}{spread} (n = {found.n})"


def pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Draws the curve of each finished run of `PICTURES` into the folder."""
    drawn = []
    for name in PICTURES:
        run = next((one for one in runs if one.name == name and one.state == "done"), None)
        if run is not None:
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / f"{name}_curve.png"
            target.write_bytes(drawing.png(curve_figure([run])))
            drawn.append(target)
    return drawn


def table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *body]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in x) + " |" for x in lines
    )


def block(runs: Sequence[Run], claims: Mapping[str, Group], images: Sequence[Path]) -> str:
    """What stands between the marks."""
    rows = {title: [held(claim, runs) for claim in group.claims] for title, group in claims.items()}
    verdicts = [row.verdict for group in rows.values() for row in group]
    counts = [
        f"{verdicts.count(one)} {one}" for one in ("agrees", "fails", "undecided", NOT_MEASURED)
    ]
    parts = [f"{len(verdicts)} claims: {', '.join(counts)}."]
    for title, group in rows.items():
        parts += [
            f"## {title}",
            claims[title].sources,
            table(HEADER, [row.cells() for row in group]),
        ]
    parts += ["## Families at high sparsity on MNIST", families(runs)]
    parts += [
        f"![Test accuracy against weights remaining: {x.stem}](images/{x.name})" for x in images
    ]
    return "\n\n".join(parts)


def rewritten(page: str, content: str) -> str:
    """The page with everything between its marks replaced; raises `UserError` without the marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise UserError(f"the page lacks its marks: put {BEGIN} and {END} where the tables go")
    return f"{head}{BEGIN}\n\n{content}\n\n{END}{tail}"


def load(outputs: Path) -> list[Run]:
    return [Run.load(file.parent) for file in sorted(outputs.rglob("rounds.jsonl"))]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("outputs", nargs="?", type=Path, default=Path("outputs"))
    parser.add_argument("page", nargs="?", type=Path, default=Path("docs/results.md"))
    arguments = parser.parse_args(argv)
    try:
        runs = readable(load(arguments.outputs))
        images = pictures(runs, arguments.page.parent / "images")
        page = rewritten(arguments.page.read_text(), block(runs, CLAIMS, images))
    except UserError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2
    arguments.page.write_text(page)
    print(f"written: {arguments.page}, from {len(runs)} runs")
    return 0


def _train(run: Run) -> Mapping[str, object]:
    section = run.config.get("train")
    return section if isinstance(section, Mapping) else {}


if __name__ == "__main__":
    sys.exit(main())
