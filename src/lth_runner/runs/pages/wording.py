"""How numbers, measures and arms are written, the same on every page and in every table."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.runs.evidence.estimate import Estimate
from lth_runner.runs.evidence.needed import (
    MOST_SEEDS,
    samples_hinder,
    samples_needed,
    seeds_needed,
)
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.values.measure import Measure

MARKED = "shown to match, else not refuted (of one seed: within the tolerance), else the last"
NEARLY_ALL = 0.9  # a mask that covers less of the parameters is told by its share of all
ARMS = {
    TICKET: "the ticket",
    "reinit": "its re-initialisation",
    "shuffle": "its shuffled mask",
    "random": "a random ticket",
}


# --- numbers


def kept(fraction: float) -> str:
    """Writes 0.0687 as '6.9 %': one decimal from 1 % on, more below, none that is zero."""
    return f"{_trimmed(100 * fraction, fraction)} %"


def removed(density: float) -> str:
    """Writes a density as sparsity, with the decimals of its kept fraction: 0.0687 -> '93.1 %'."""
    return f"{_trimmed(100 * (1 - density), density)} %"


def _trimmed(percent: float, density: float) -> str:
    decimals = 1 if density >= 0.01 else 2 if density >= 0.001 else 3
    return f"{percent:.{decimals}f}".rstrip("0").rstrip(".")


def signed(value: float, form: str) -> str:
    """Writes a number with its sign, a true minus: '−0.31' for the form '.2f'."""
    return f"{value:+{form}}".replace("-", "−")


def with_interval(
    value: float, ends: Sequence[float | None] | None, form: str, unit: str = "",
    *, scale: float = 1.0,
) -> str:  # fmt: skip
    """Writes a number with its interval, where there is one: '+0.20 points [−0.11, +0.51]'."""
    told = f"{scale * value:{form}}{unit}"
    if ends is not None and None not in ends:
        low, high = (f"{scale * end:{form}}" for end in ends if end is not None)
        told += f" [{low}, {high}]"
    return told.replace("-", "−")


def shortened(text: str, length: int) -> str:
    """Cuts a text down to so many letters."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def capital(text: str) -> str:
    """Writes a clause as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def joined(parts: Sequence[str]) -> str:
    """Joins parts as a sentence lists them: 'a, b and c'."""
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]


def ends(parts: Sequence[str]) -> str:
    """Joins four parts at most as a sentence lists them; of more writes the ends: 'a to f'."""
    return joined(parts) if len(parts) <= 4 else f"{parts[0]} to {parts[-1]}"


def counted(number: int, one: str, several: str = "") -> str:
    """Writes a number with its noun: '1 seed', '3 seeds'."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


# --- values of a measure


def label(measure: Measure) -> str:
    """Writes a measure's name as a sentence has it."""
    return measure.name.replace("_", " ")


def axis(measure: Measure, split: str = "test") -> str:
    """Writes the label of an axis: 'test accuracy (%)', 'test perplexity (lower is better)'."""
    facts = [measure.unit] if measure.unit else []
    facts += ["lower is better"] if measure.better == "lower" else []
    return f"{split} {label(measure)}" + (f" ({', '.join(facts)})" if facts else "")


def digits(measure: Measure, value: float) -> int:
    """Decimals of a table: two of a percentage, else so many that three or four digits are told."""
    size = abs(measure.scale * value)
    return 2 if measure.unit == "%" or 10 <= size < 100 else 1 if size >= 100 else 3


def reached(
    measure: Measure, level: Level, decimals: int | None = None, *, unit: bool = True,
    joint: str = " ± ",
) -> str:  # fmt: skip
    """Writes a level's mean with its standard deviation: '97.96 ± 0.16 %'."""
    if level.mean is None:
        return f"no {label(measure)}"
    return averaged(measure, level.mean, level.std, decimals, unit=unit, joint=joint)


def averaged(
    measure: Measure, mean: float, std: float | None, decimals: int | None = None, *,
    unit: bool = True, joint: str = " ± ",
) -> str:  # fmt: skip
    """Writes a mean with its standard deviation, where there is one."""
    places = digits(measure, mean) if decimals is None else decimals
    spread = "" if std is None else f"{joint}{measure.scale * std:.{places}f}"
    text = f"{measure.scale * mean:.{places}f}{spread}"
    return f"{text} {measure.unit}" if unit and measure.unit else text


def cell(measure: Measure, level: Level | None, joint: str = " ± ") -> str:
    """Writes a level in a column: '97.96 ± 0.16', with '!' where a replicate diverged."""
    if level is None or (level.mean is None and not level.num_diverged):
        return "-"
    if level.mean is None:
        return "diverged"
    return f"{reached(measure, level, unit=False, joint=joint)}{'!' if level.num_diverged else ''}"


def difference_unit(measure: Measure) -> str:
    """Writes the unit of a difference, with its space: percentages differ by points."""
    unit = "points" if measure.unit == "%" else measure.unit
    return f" {unit}" if unit else ""


def amount(measure: Measure, value: float) -> str:
    """Writes a difference without a sign: '0.5 points'."""
    return f"{measure.scale * value:.3g}{difference_unit(measure)}"


def gain(measure: Measure, pair: Estimate) -> str:
    """Writes a difference, positive if better, with its interval: '+0.20 points [−0.1, +0.5]'."""
    return with_interval(
        pair.difference, pair.bounds(), f"+.{digits(measure, pair.difference)}f",
        difference_unit(measure), scale=measure.scale,
    )  # fmt: skip


def p_value(p: float | None) -> str:
    """Writes a p-value, or that there is none."""
    if p is None:
        return "no p-value"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def unknown_spread(pair: Estimate) -> str:
    """Says why a difference has no interval, as a clause."""
    if pair.n == 1:
        return "one seed does not tell how much seeds differ, two or more do"
    return f"{pair.n} seeds that all give the same to the digit do not tell how much seeds differ"


def deciding(pair: Estimate, limit: float, sampled: str = "samples") -> str:
    """Says how many seeds, or test samples, would decide about a limit."""
    if pair.error is None:
        return unknown_spread(pair)
    assumed = "(power 80 %, were the difference seen the true one)"
    if (num := seeds_needed(pair, limit)) is not None:
        return f"about {num} seeds would decide it {assumed}"
    if pair.samples is None or not samples_hinder(pair, limit):
        return (
            f"more than {MOST_SEEDS} seeds would decide it, were the difference seen the true one"
        )
    no_seeds = (
        f"no number of seeds up to {MOST_SEEDS} would decide it on {pair.samples.num} {sampled}"
    )
    if (wanted := samples_needed(pair, limit)) is None:
        return f"{no_seeds}; it takes more of both"
    return f"{no_seeds}; about {wanted:,} {sampled} would with {counted(pair.n, 'seed')} {assumed}"


# --- what is compared


def word(verdict: Verdict, level: Level) -> str:
    """Writes a level's word; in brackets where a denser one breaks the row."""
    return str(level.matches) if verdict.counts(level) else f"({level.matches})"


def out_of_row(mark: str = "(shown), (undecided)") -> str:
    """Explains the brackets of a table."""
    return (
        f"{mark}: by itself, and not counted: a denser one breaks the row that matches must make "
        "from the dense network on."
    )


def arm_words(arm: str) -> str:
    """Writes an arm as a sentence names it."""
    return ARMS.get(arm, f"the control {arm}")


def gone(verdict: Verdict, density: float) -> tuple[str, str]:
    """Writes what is removed as a number and its meaning: '96.5 %', 'of the weights'.

    Where a mask covers less than nine tenths of the network, the number is the share of all.
    """
    of_covered = removed(density)
    if verdict.covered is None or verdict.covered >= NEARLY_ALL:
        return of_covered, "of the weights"
    share = kept(verdict.covered * (1 - density))
    return share, f"of all parameters ({of_covered} of the covered weights)"


def coverage(run: FinishedRun, density: float | None) -> str:
    """Says what share of all parameters a mask covers and removes; empty if a run tells neither."""
    if run.covered is None:
        return ""
    text = f"a mask covers {kept(run.covered)} of all parameters"
    if density is None:
        return text
    return f"{text}, the sparsest removes {kept(run.covered * (1 - density))} of all"


def unlearned(run: FinishedRun) -> str:
    """Says what is reached without a look at the inputs; empty where a run does not tell."""
    measure, most = run.measure, run.majority
    if most is None:
        return ""
    guessed = "" if measure.chance is None else f", guessing {measure.text(measure.chance)}"
    return f"the most frequent class alone reaches {measure.text(most)}{guessed}"


def matches(verdict: Verdict, arm: str = TICKET) -> tuple[str, str]:
    """Writes the sparsities of the sparsest shown match, and of the sparsest not refuted."""
    return match(verdict, verdict.shown(arm)), match(verdict, verdict.possible(arm))


def match(verdict: Verdict, best: Level | None) -> str:
    """Writes the sparsity of a sparsest match, or what stands for it where there is none."""
    if best is None:
        return "at chance" if verdict.at_chance else "none"
    return removed(best.density)
