"""Plots from a fixture: each file there, its words in it, stale ones found."""

import pytest

from pyrovm.bench import plots
from pyrovm.bench.figures import Bars, Curve
from pyrovm.bench.results import Results

BARS = Bars("q", "start-up", "Start of a program", "ms", {"pyrovm": (4, 9), "crun": (12, 15)}, True)
CURVE = Curve(
    "q", "density", "Many clones", "alive", "clones/s", {"pyrovm": [(10, 200), (20, 190)]}
)


@pytest.fixture
def results():
    return Results([], [], [], [], [CURVE], [BARS], [])


def test_every_chart_is_plotted_for_light_and_dark_pages_and_as_png(results, tmp_path):
    paths = plots.write(results, tmp_path / "new")
    assert sorted(path.name for path in paths) == [
        *("density-dark.svg", "density.png", "density.svg"),
        *("start-up-dark.svg", "start-up.png", "start-up.svg"),
    ]
    light, dark = ((tmp_path / "new" / f"start-up{s}.svg").read_text() for s in ("", "-dark"))
    for words in ("Start of a program", "pyrovm", "crun", "ms: p50, and its tail"):
        assert f">{words}<" in light
        assert f">{words}<" in dark
    assert plots.LIGHT.paper in light
    assert plots.DARK.paper in dark
    assert (tmp_path / "new" / "density.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_data_gives_the_same_file(results, tmp_path):
    plots.write(results, tmp_path)
    before = (tmp_path / "density.svg").read_bytes()
    plots.write(results, tmp_path)
    assert (tmp_path / "density.svg").read_bytes() == before


def test_a_plot_of_other_data_or_none_is_stale(results, tmp_path):
    assert "start-up.svg" in plots.stale(results, tmp_path)
    plots.write(results, tmp_path)
    assert plots.stale(results, tmp_path) == []
    changed = {"pyrovm": (5.0, 9.0), "crun": (12.0, 15.0)}
    results.bars[:] = [Bars("q", "start-up", "Start of a program", "ms", changed, True)]
    assert plots.stale(results, tmp_path) == ["start-up.svg", "start-up-dark.svg"]
