"""Studies: named runs in one yaml, of which later ones read what earlier ones found."""

from lth_runner.study.plan import Point, Stage, Study

__all__ = ["Point", "Stage", "Study"]
