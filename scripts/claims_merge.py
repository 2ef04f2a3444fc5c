"""What is said of merged networks, held against small ones here.

Written before scripts/merged.py was run. Of MiniLM's seeds 0 to 2 the sums of two tasks and their
TIES with a weight of 1 were known then, and of seed 0 every method on two tasks; of the digits
seed 0 alone (docs/finetuning.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from claim import Claim, Group
from fields import Runs, about, decided
from measures import Found, above, change, level

from lth_runner.runs.evidence.merges import Merged, Merges, find_merges

MERGE, DIGITS = "merge", "digits_merge"
COMMANDS = {
    MERGE: "lth-run +study=merge 'study.second=[trec,subj]', then python scripts/merged.py "
    "outputs/merge",
    DIGITS: 'lth-run +study=digits_merge \'study.seeds=["0","1","2","3","4"]\', then python '
    "scripts/merged.py outputs/digits_merge --head output --tasks digits_low digits_high",
}
TASKS = {MERGE: ("sst2", "trec", "subj"), DIGITS: ("digits_low", "digits_high")}
TITLES = {"sst2": "SST-2", "trec": "TREC", "digits_low": "0 to 4", "digits_high": "5 to 9"}
LOTA, FULL, APART = ("LoTA",), ("full",), ("LoTA", "LoTTO")
POINT = 0.01  # accuracy
SUM, TIES_ONE = "sum, w = 1", "TIES keeping 20 %, w = 1"
ARITHMETIC = "task arithmetic, w by validation"
TIES, DARE = "TIES keeping 20 %, w by validation", "DARE dropping 90 %, w by validation"


@dataclass(frozen=True)
class By:
    """One way to merge: tasks, how they were trained, and the method as pages call it."""

    tasks: tuple[str, ...]
    ways: tuple[str, ...]
    told: str = SUM

    def found(self, runs: Runs) -> tuple[Merges, Merged] | None:
        """Finds it among all merges; ``ways`` of one word are every task's."""
        ways = self.ways * len(self.tasks) if len(self.ways) == 1 else self.ways
        for merges in find_merges(list(runs.values())):
            parts = merges.parts
            if tuple(p.task for p in parts) == self.tasks and tuple(p.way for p in parts) == ways:
                return next(((merges, one) for one in merges.merged if one.told == self.told), None)
        return None

    def kept(self, runs: Runs, task: str | None = None) -> dict[int, float]:
        """What is gained to the tasks' own trainings, by seed: on average over them, or of one."""
        found = self.found(runs)
        if found is None:
            return {}
        merges, one = found
        places = [i for i, part in enumerate(merges.parts) if task in (None, part.task)]
        return {
            seed: fmean(one.values[i][seed] - merges.alone[i][seed] for i in places)
            for seed in one.weights
        }


@dataclass(frozen=True)
class Keeps:
    """What one way gains to the tasks' own trainings less what another does, seed by seed."""

    first: By
    second: By
    limit: float = 0.0
    task: str | None = None

    def __call__(self, runs: Runs) -> Found | None:
        ours, theirs = (one.kept(runs, self.task) for one in (self.first, self.second))
        gaps = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
        if not gaps:
            return None
        ours, theirs = ({seed: one[seed] for seed in gaps} for one in (ours, theirs))
        apart = about(gaps, 0.0)
        text = f"{level(ours)} against {level(theirs)}: {change(apart)}"
        return above(text, apart, self.limit)


@dataclass(frozen=True)
class Holds:
    """What one task gains in a merged network to its own training; above a limit."""

    by: By
    task: str
    limit: float

    def __call__(self, runs: Runs) -> Found | None:
        own = self.by.kept(runs, self.task)
        if not own:
            return None
        apart = about(own, 0.0)
        return above(f"{level(own)}: {change(apart)}", apart, self.limit)


@dataclass(frozen=True)
class Meets:
    """How often the first two tasks' changes meet, in times of chance; or pull apart there."""

    by: By
    conflicts: bool

    def __call__(self, runs: Runs) -> Found | None:
        found = self.by.found(runs)
        if found is None or not found[0].meetings:
            return None
        met = found[0].meetings[0]
        own = dict(met.conflicts if self.conflicts else met.times_chance)
        limit = 0.5 if self.conflicts else 1.0
        apart = about(own, limit)
        text = f"{level(own, 1, 3)}: {change(apart, 1, 3)}"
        return decided(text, apart, 0.0, below=self.conflicts, points=False)


HIGHER, CLOSE = "difference above 0", "less than 1 point below"
MEAN = "on average over the tasks, to each by itself"
Rows = list[tuple[str, str, str, str, object]]


def _by(one: By, told: str) -> By:
    return By(one.tasks, one.ways, told)


def _of_two(tasks: tuple[str, ...]) -> Rows:
    lota, full, apart = (By(tasks, ways) for ways in (LOTA, FULL, APART))
    first, second = (TITLES[task] for task in tasks)
    return [
        ("ties", f"LoTA at 10 %, two tasks: TIES less task arithmetic, w by validation, {MEAN}",
         "above 0", HIGHER, Keeps(_by(lota, TIES), _by(lota, ARITHMETIC))),
        ("ties-full", f"trained in full, two tasks: TIES less task arithmetic, {MEAN}",
         "above 0", HIGHER, Keeps(_by(full, TIES), _by(full, ARITHMETIC))),
        ("dare", f"LoTA at 10 %, two tasks: DARE less task arithmetic, w by validation, {MEAN}",
         "as good", CLOSE, Keeps(_by(lota, DARE), _by(lota, ARITHMETIC), -POINT)),
        ("dare-full", f"trained in full, two tasks: DARE less task arithmetic, {MEAN}",
         "as good", CLOSE, Keeps(_by(full, DARE), _by(full, ARITHMETIC), -POINT)),
        ("grid", f"LoTA at 10 %, two tasks: w by validation less the sum, {MEAN}", "above 0",
         HIGHER, Keeps(_by(lota, ARITHMETIC), lota)),
        ("sparse", f"two tasks, the sum: LoTA at 10 % less trained in full, {MEAN}", "above 0",
         HIGHER, Keeps(lota, full)),
        ("apart", f"two tasks, the sum: masks that share no place less LoTA's own, {MEAN}",
         "above 0", HIGHER, Keeps(apart, lota)),
        *((f"apart-{task}", f"{TITLES[task]} in the sum of two changes that share no place, less "
           "by itself", "nothing is lost", CLOSE, Holds(apart, task, -POINT)) for task in tasks),
        ("meet", f"LoTA at 10 %: weights that {first} and {second} both change, in times of chance",
         "not told", "above 1", Meets(lota, conflicts=False)),
        ("conflict", "the share of these that is changed in opposite directions", "not told",
         "below 0.5", Meets(lota, conflicts=True)),
    ]  # fmt: skip


def _of_three(tasks: tuple[str, ...]) -> Rows:
    three = By(tasks, LOTA)
    return [
        ("grid-three", f"LoTA at 10 %, three tasks: w by validation less the sum, {MEAN}",
         "above 0", HIGHER, Keeps(_by(three, ARITHMETIC), three)),
        ("ties-three", f"LoTA at 10 %, three tasks: TIES with w = 1 less the sum, {MEAN}",
         "above 0", HIGHER, Keeps(_by(three, TIES_ONE), three)),
        ("number", f"LoTA at 10 %: what {TITLES[tasks[0]]} keeps of the sum of two tasks less of "
         "three", "above 0", HIGHER, Keeps(By(tasks[:2], LOTA), three, task=tasks[0])),
    ]  # fmt: skip


def _claims(name: str) -> tuple[Claim, ...]:
    tasks = TASKS[name]
    rows = _of_two(tasks[:2]) + (_of_three(tasks) if len(tasks) > 2 else [])
    return tuple(
        Claim(f"{name}-{row}", text, published, rule, COMMANDS[name], {"run": (name, None)},
              measure, together=True)  # type: ignore[arg-type]
        for row, text, published, rule, measure in rows
    )  # fmt: skip


SAID = (
    "Ilharco et al., ICLR 2023, arXiv:2212.04089 (task arithmetic); Yadav et al., NeurIPS 2023, "
    "arXiv:2306.01708 (TIES); Yu et al., ICML 2024, arXiv:2311.03099 (DARE); Panda et al., 2024, "
    "arXiv:2406.16797 (changes that share no place). "
)


MERGE_CLAIMS = {
    "Merged task vectors": Group(
        f"{SAID}Here all-MiniLM-L6-v2, 60 steps on each of SST-2, TREC and SUBJ; differences seed "
        "by seed. Known before the rules: the sums of two tasks and of masks apart, and all "
        "methods on two tasks of seed 0.",
        _claims(MERGE),
        found="Nothing that three seeds decide but that sparse changes meet twice as often as "
        "chance has it: masks that share no place save nothing to be seen. Two tasks lose 0.2 to 2 "
        "points on average, by whichever way, three 10 to 13, SST-2 above all.",
    ),
    "Merged task vectors on digits": Group(
        f"{SAID}Here LeNet-300-100 from one draw, 200 steps on scikit-learn's digits 0 to 4 and 5 "
        "to 9; differences seed by seed. Known before the rules: seed 0.",
        _claims(DIGITS),
        found="Networks of two layers from a draw lose 10 to 20 points by merging, whichever way; "
        "of masks that share no place as much as of others, so that it is not places that are in "
        "each other's way. What two sparse changes share they mostly change alike.",
    ),
}
