"""One-shot pruning of a language model: what is read off its runs, as claims, table and picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evidence import command, extent, hardware
from matplotlib.figure import Figure
from measures import Found, above, change, level
from tables import table

from lth_runner.runs.evidence.estimate import Estimate, one_sample, sample, two_sample
from lth_runner.runs.evidence.means import mean, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun, asked_sparsity
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.lines import Frame, Line, Reference, paint

NAME = "smollm2_oneshot"
PERPLEXITY, BEFORE = "test_perplexity", "before_perplexity"
METHODS = {  # pruner and scope, as they are called on the page
    ("magnitude_at_init", "layerwise"): "magnitude by layer",
    ("magnitude_at_init", "global"): "magnitude, global",
    ("wanda", "rows"): "Wanda",
    ("sparsegpt", "layerwise"): "SparseGPT",
}
TWO_OF_FOUR, GLOBAL = "2:4", "global"
PATTERNS = {"n_of_m": TWO_OF_FOUR, "global": GLOBAL}  # by scope; others are the method's own
Runs = Mapping[str, FinishedRun]


@dataclass(frozen=True)
class Cell:
    """Tickets of one method: a sparsity, 2:4 or global, measured as they are or retrained.

    Runs that retrain have measured their tickets before it too.
    """

    pruner: str
    sparsity: float
    pattern: str | None = None
    retrained: bool = False

    def is_of(self, run: FinishedRun) -> bool:
        """Whether a run is about these tickets."""
        return (
            run.pruner == self.pruner
            and asked_sparsity(run) == self.sparsity
            and PATTERNS.get(str(run.option("pruner", "scope"))) == self.pattern
            and (is_retrained(run) or not self.retrained)
        )


def is_retrained(run: FinishedRun) -> bool:
    return bool(run.option("pruner", "retrain"))


def pruned(run: FinishedRun) -> dict[int, float]:
    """The tickets' perplexity by seed, as pruned: not retrained, or not yet."""
    return run.values(TICKET, 1, BEFORE if is_retrained(run) else PERPLEXITY)


def retrained(run: FinishedRun) -> dict[int, float]:
    return run.values(TICKET, 1, PERPLEXITY) if is_retrained(run) else {}


def difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """Ours less theirs, which is taken as it stands if it is one; one of ours decides nothing."""
    if len(ours) == 1:
        return Estimate(1, mean(ours.values()) - mean(theirs.values()))
    if len(theirs) == 1:
        return one_sample(sample(list(ours.values())), *theirs.values())
    return two_sample(*(sample(list(of.values())) for of in (ours, theirs)))


@dataclass(frozen=True)
class Lower:
    """The perplexity of the first less that of the second: below 0."""

    first: Cell
    second: Cell
    reads: str = BEFORE  # what is drawn behind its rows

    def __call__(self, runs: Runs) -> Found | None:
        if not self.first.is_of(runs["first"]) or not self.second.is_of(runs["second"]):
            return None
        ours, theirs = pruned(runs["first"]), pruned(runs["second"])
        if not ours or not theirs:
            return None
        gap = difference(ours, theirs)
        text = f"{level(ours, 1)} against {level(theirs, 1)}: {change(gap, 1)}"
        return above(text, -gap, 0.0, points=False)


@dataclass(frozen=True)
class Collapsed:
    """The perplexity of the tickets as a multiple of the pretrained network's, which is known."""

    cell: Cell
    factor: float

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        if not self.cell.is_of(run):
            return None
        ours, dense = pruned(run), run.values(TICKET, 0, BEFORE)
        if not ours or not dense:
            return None
        times = {seed: value / mean(dense.values()) for seed, value in ours.items()}
        over = one_sample(sample(list(times.values())), self.factor)
        text = f"{level(ours, 1)} of {level(dense, 1)}: {mean(times.values()):,.1f} times"
        return above(f"{text}, {change(over, 1, 1)} to {self.factor:g}", over, 0.0, points=False)


@dataclass(frozen=True)
class Recovered:
    """The perplexity after the retraining less that before it, seed by seed: below 0."""

    cell: Cell
    reads: str = BEFORE  # what is drawn behind its rows

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        if not self.cell.is_of(run):
            return None
        before, after = pruned(run), retrained(run)
        changes = [after[seed] - before[seed] for seed in before.keys() & after.keys()]
        if not changes:
            return None
        gap = one_sample(sample(changes), 0.0)
        text = f"{level(before, 1)} to {level(after, 1)}: {change(gap, 1)}"
        return above(text, -gap, 0.0, points=False)


@dataclass(frozen=True)
class Narrowed:
    """How far the first lies above the second, after the retraining less before it: below 0."""

    first: Cell
    second: Cell
    reads: str = BEFORE  # what is drawn behind its rows

    def __call__(self, runs: Runs) -> Found | None:
        one, other = runs["first"], runs["second"]
        if not self.first.is_of(one) or not self.second.is_of(other):
            return None
        fields = [read(run) for read in (pruned, retrained) for run in (one, other)]
        seeds = sorted(set.intersection(*(set(of) for of in fields)))
        if not seeds:
            return None
        before = {seed: fields[0][seed] - fields[1][seed] for seed in seeds}
        after = {seed: fields[2][seed] - fields[3][seed] for seed in seeds}
        gap = one_sample(sample([after[seed] - before[seed] for seed in seeds]), 0.0)
        text = f"gap of {level(before, 1)} to {level(after, 1)}: {change(gap, 1)}"
        return above(text, -gap, 0.0, points=False)


@dataclass(frozen=True)
class OneShot:
    """A section of docs/results.md: perplexity by method and sparsity, as tables and a picture."""

    title: str
    name: str
    commands: tuple[str, ...]
    note: str

    def own(self, runs: Sequence[FinishedRun]) -> list[FinishedRun]:
        """The runs of this name, without unfinished ones of which a finished one tells all."""
        own = [run for run in runs if run.name == self.name]
        known = {_asked(run) for run in own if run.state == "done"}
        known |= {(*asked[:-1], False) for asked in known}  # retrained ones were measured before
        return [run for run in own if run.state == "done" or _asked(run) not in known]

    def tickets(
        self, runs: Sequence[FinishedRun], read: Callable[[FinishedRun], dict[int, float]]
    ) -> dict[str, dict[str, dict[int, float]]]:
        """Method -> column, by growing sparsity -> perplexity by seed, of the best run of it."""
        found: dict[str, dict[str, dict[int, float]]] = {name: {} for name in METHODS.values()}
        ordered = sorted(self.own(runs), key=lambda run: asked_sparsity(run) or 0.0)
        for run in ordered:
            scope = str(run.option("pruner", "scope"))
            pattern = scope == "n_of_m"
            usual = "rows" if run.pruner == "wanda" else "layerwise"
            method = METHODS.get((run.pruner, usual if pattern else scope))
            if method is None:
                continue
            column = TWO_OF_FOUR if pattern else f"{100 * (asked_sparsity(run) or 0):g} %"
            if values := read(run):
                found[method].setdefault(column, values)
        return {method: of for method, of in found.items() if of}

    def dense(self, runs: Sequence[FinishedRun], field: str) -> dict[int, float]:
        """The network that nothing is pruned of, by seed, over all runs that have it."""
        found: dict[int, float] = {}
        for run in self.own(runs):
            found = run.values(TICKET, 0, field) | found
        return found

    def written(self, runs: Sequence[FinishedRun], shown: Mapping[str, str]) -> str:
        """The section's Markdown below its title; ``shown``: file name -> what it shows."""
        asked = ", ".join(f"`{one}`" for one in self.commands)
        own = self.own(runs)
        if not own:
            return f"Not measured here: {asked}."
        parts = [self.note]
        pretrained = self.dense(runs, BEFORE)
        still, after = self.tickets(runs, pruned), self.tickets(runs, retrained)
        if pretrained:
            parts += [f"As pretrained: {sole(pretrained)}."]
        if still:
            columns = _columns(still)
            parts += ["Pruned, not retrained:", table(["method", *columns], [
                [name, *(sole(of.get(column, {})) for column in columns)]
                for name, of in still.items()
            ])]  # fmt: skip
        if after:
            dense = self.dense(runs, PERPLEXITY)
            parts += ["Before and after the retraining:", table(
                ["method", "weights", "before", "after"],
                [*([["dense", "all", sole(pretrained), sole(dense)]] if dense else []),
                 *([name, column, sole(still[name][column]), sole(values)]
                   for name, of in after.items() for column, values in of.items())],
            )]  # fmt: skip
        words = dict.fromkeys(map(command, own))
        facts = [f"Commands: {', '.join(f'`{one}`' for one in words)}"]
        facts += dict.fromkeys(hardware(run) for run in own)
        facts += [extent(run) for run in own if run.state != "done"]
        pictures = [f"![{text}](images/{name})" for name, text in shown.items()]
        return "\n\n".join([*parts, *pictures, "; ".join(facts) + "."])

    def drawn(self, runs: Sequence[FinishedRun]) -> dict[str, tuple[Figure, str]]:
        """File stem -> figure and what it shows."""
        found = self.tickets(runs, pruned)
        lines = []
        for index, (name, of) in enumerate(found.items()):
            line = Line(name, drawing.colour(index), marker=drawing.marker(index))
            by_column = {c: list(v.values()) for c, v in of.items() if c != TWO_OF_FOUR}
            lines.append(
                line.through(
                    (float(column.split()[0]), mean(values), std(values) or 0.0)
                    for column, values in by_column.items()
                )
            )
        if not any(line.x for line in lines):
            return {}
        figure = drawing.new_figure(6.4, 4.2)
        axes = figure.add_subplot()
        dense = self.dense(runs, BEFORE)
        references = [Reference(mean(dense.values()), style="--")] if dense else []
        frame = Frame("test perplexity (log scale)", "weights removed (%)", logarithmic_y=True,
                      references=references)  # fmt: skip
        paint(axes, [line for line in lines if line.x], frame)
        axes.legend(frameon=False)
        text = "perplexity by sparsity, not retrained; dashed: as pretrained"
        return {f"{self.name}_perplexity": (figure, f"{self.title}: {text}")}


def _asked(run: FinishedRun) -> tuple[object, ...]:
    """What tells runs of this section apart."""
    scope = run.option("pruner", "scope")
    return run.pruner, asked_sparsity(run), scope, is_retrained(run)


def _columns(found: Mapping[str, Mapping[str, object]]) -> list[str]:
    named = dict.fromkeys(column for of in found.values() for column in of)
    return sorted(named, key=lambda column: (column == TWO_OF_FOUR, column))


def sole(values: Mapping[int, float]) -> str:
    """Mean, standard deviation and n, in as many decimals as tell something."""
    if not values:
        return ""
    return level(values, 1, 2 if mean(values.values()) < 1000 else 0)


EXPERIMENT = f"lth-run +experiment={NAME} model.path=smollm2"
WANDA = f"{EXPERIMENT} pruner=wanda pruner.search.score.batch_size=16"
SPARSEGPT = f"{EXPERIMENT} pruner=sparsegpt pruner.search.solve.batch_size=16"
MAGNITUDE = f"{EXPERIMENT} pruner=magnitude_at_init"
ONE_SHOT = OneShot(
    title="One-shot pruning of a language model",
    name=NAME,
    commands=(MAGNITUDE, WANDA, SPARSEGPT),
    note="SmolLM2-135M-Instruct from a GGUF file of 4 bits a weight, its attention and "
    "feed-forward matrices pruned; perplexity of the last 2 % of the manual that Python brings, in "
    "windows of 128 tokens. Wanda and SparseGPT see 16 others, drawn by seed; for magnitudes the "
    "seed draws among equal weights, of which a 4-bit file has many. Retraining: 8 steps of two "
    "windows.",
)
