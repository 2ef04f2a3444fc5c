"""Names in pictures are written as they are."""

from __future__ import annotations

import pytest

from lth_runner.runs.pages import drawing

NAME = "a $^$ b"  # which is no formula


@pytest.mark.parametrize("place", ["legend", "of the figure", "axis", "title", "line"])
def test_a_name_with_dollar_signs_is_no_formula(place: str) -> None:
    figure = drawing.new_figure(3, 2)
    axes = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    axes.plot([1, 1000], [1, 2], label=NAME)
    axes.set_xscale("log")  # whose numbers stay formulas
    if place == "legend":
        axes.legend()
    elif place == "of the figure":
        figure.legend()
    elif place == "axis":
        drawing.tidy(axes, xlabel="", ylabel=NAME)
    elif place == "title":
        axes.set_title(NAME, loc="left")
    else:
        axes.annotate(NAME, (1, 1))
    assert drawing.png(figure)
    assert drawing.svg(figure, "names")
    assert all(label.get_parse_math() for label in axes.get_xticklabels())
