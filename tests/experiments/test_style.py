"""One style for all figures: its colours alone, told apart in grey, the same bytes each time."""

import ast
import io
import itertools
import re
from pathlib import Path

import matplotlib
import matplotlib.colors
import numpy as np
import pytest

from ntkreg.experiments import _report, _style

FOLDER = Path(_style.__file__).parent
DRAWING = sorted(p for p in FOLDER.rglob("*.py") if "_style" in p.read_text())
PLAIN = {"black", "white", "none"}


@_style.styled
def drawn():
    fig, (left, right) = _style.panels(2, columns=2)
    values = np.random.default_rng(0).uniform(1, 2, size=(3, 5))
    for (name, look), scale in zip(_style.METHODS.items(), itertools.count(1)):
        _style.with_interval(left, [1, 10, 100], scale * values, label=f"{name}, γ", **look)
    _style.guide(left, [1, 10, 100], 2.0, 0.5, "predicted")
    _style.at_sizes(left, [1, 10, 100], "samples n")
    _style.plain_ticks(left.yaxis)
    _style.legend(left, above=0.5)
    right.imshow(values)
    return fig


def saved(fig, kind: str) -> bytes:
    file = io.BytesIO()
    _style.save(fig, file, kind)
    return file.getvalue()


def colours(source: str) -> list[str]:
    """Colours that are written out: hexadecimal ones anywhere, and values of arguments so named."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and "color" in (node.arg or ""):
            found += [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
        elif isinstance(node, ast.Constant) and re.fullmatch(r"#[0-9a-fA-F]{3,8}", str(node.value)):
            found.append(node.value)
    return [name for name in found if matplotlib.colors.is_color_like(name) and name not in PLAIN]


@pytest.mark.parametrize("file", DRAWING, ids=lambda path: path.stem)
def test_colours_come_from_the_style(file):
    assert file.stem == "_style" or not colours(file.read_text())


@pytest.mark.parametrize(
    "source", ['plot(color="0.3")', 'A = ("#D55E00",)', 'd = dict(edgecolors="red")']
)
def test_a_colour_of_one_s_own_is_seen(source):
    assert colours(source)


@pytest.mark.parametrize("name", _report.EXPERIMENTS)
def test_figures_are_made_in_the_style(name):
    assert hasattr(_report.experiment(name).figure, "__wrapped__")


@pytest.mark.parametrize("kind", _style.FORMATS)
def test_a_figure_drawn_twice_is_the_same_bytes_whatever_matplotlib_is_set_to(kind):
    first = saved(drawn(), kind)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.grid": True}):
        assert saved(drawn(), kind) == first


def test_the_style_is_in_force_for_its_figures_only():
    before = dict(matplotlib.rcParams)
    fig = drawn()
    saved(fig, "pdf")
    assert dict(matplotlib.rcParams) == before
    assert fig.axes[0].xaxis.label.get_fontsize() == _style.RC["axes.labelsize"]


def test_a_pdf_has_its_fonts_and_no_date():
    pdf = saved(drawn(), "pdf")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


def test_methods_and_categories_are_told_apart_in_grey():
    pairs = {(look["marker"], str(look["linestyle"])) for look in _style.METHODS.values()}
    assert len(pairs) == len(_style.METHODS)
    looks = _style.categories(range(8)).values()
    for key in ("color", "marker", "linestyle"):
        assert len({str(look[key]) for look in looks}) == 8


def test_ordinal_looks_grow_darker_to_the_colour_itself():
    looks = list(_style.ordinal([10, 20, 40], _style.BLUE).values())
    grey = [np.dot(matplotlib.colors.to_rgb(look["color"]), (0.3, 0.59, 0.11)) for look in looks]
    assert grey == sorted(grey, reverse=True) and len(set(grey)) == 3
    assert looks[-1]["color"].upper() == _style.BLUE
    (only,) = _style.ordinal([10], _style.BLUE).values()
    assert only["color"].upper() == _style.BLUE


def test_bars_run_from_the_low_to_the_high_end():
    _, (ax,) = _style.panels(1, columns=1)
    _style.with_ends(ax, [1, 2], [1.0, 2.0], [0.5, 2.5], [3.0, 4.0])
    (bars,) = ax.containers[0][2]
    np.testing.assert_allclose([np.array(s)[:, 1] for s in bars.get_segments()], [[0.5, 3], [2, 4]])


@pytest.mark.parametrize(("scale", "ends"), [("linear", (-1, 20)), ("log", (0.1, 100))])
def test_room_is_made_in_the_scale_of_the_axis(scale, ends):
    _, (ax,) = _style.panels(1, columns=1)
    ax.set(yscale=scale, ylim=(1, 10) if scale == "log" else (1, 11))
    _style.room(ax, above=1.0 if scale == "log" else 0.9, below=1.0 if scale == "log" else 0.2)
    np.testing.assert_allclose(ax.get_ylim(), ends)


def test_no_room_is_made_on_an_axis_without_data():
    _, (ax,) = _style.panels(1, columns=1)
    _style.plain_ticks(ax.yaxis)
    ax.plot([], [], label="nothing crossed")
    _style.legend(ax, above=0.5)
    assert np.isfinite(ax.get_ylim()).all()


def test_sizes_too_near_each_other_have_ticks_without_names():
    _, (ax,) = _style.panels(1, columns=1)
    _style.at_sizes(ax, [1, 2, 1000, 1001, 4000], "width")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "1000", "", "4000"]
    _style.at_sizes(ax, [7], "width")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["7"]


def test_numbers_and_powers_are_written_as_in_print():
    assert [_style.number(v) for v in (0.0, 0.003, 1e-5, 1e-100)] == [
        "0", "0.003", "$10^{-5}$", "$10^{-100}$",
    ]  # fmt: skip
    assert _style.power("d", 1.204) == ": $d^{1.20}$" and _style.power("d", np.nan) == ""
