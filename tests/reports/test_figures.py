"""Figures for papers: right places, right scales, three formats."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pullback.data import Image
from pullback.reports import figures
from pullback.reports.intensities import window_of
from pullback.transforms import Affine, DisplacementField, Translation, identity


@pytest.fixture
def field(make_view):
    view = make_view((16, 18, 12))
    return view, DisplacementField(0.5 * view.displacement, view.fixed.grid)


def pictures(figure):
    return [axes.images[-1].get_array() for axes in figure.axes if axes.images and axes.get_title()]


def test_importing_pullback_leaves_matplotlib_alone():
    code = "import sys, pullback, pullback.reports.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_kind_in_every_plane(field, plane):
    view, map_ = field
    where = {"plane": plane, "position_mm": 1.0}
    made = [
        figures.differences(view.fixed, view.before, view.warped, **where),
        figures.methods(view.fixed, {"A": view.before, "B": view.warped, "C": view.fixed}, **where),
        figures.grids(view.fixed, {"affine": Affine(np.diag([1.1, 1, 1, 1])), "field": map_}, **where),
        figures.displacement_and_inverse(view.fixed, map_, ~map_, **where),
        figures.overlay(view.fixed, view.warped, **where),
        figures.sequence(view.fixed, view.moving, [Translation.by([1.0, 0, 0]), map_], **where),
    ]
    titles = [[axes.get_title() for axes in one.axes if axes.get_title()] for one in made]
    assert titles[0] == ["Fixed", "Before", "After"]
    assert titles[1] == ["Fixed", "A", "B", "C"]
    assert titles[2] == ["affine", "field"]
    assert titles[3][:3] == ["Displacement", "Inverse", "Composition"]
    assert titles[4] == ["Template", "Registered", "Registered on template"]
    assert titles[5] == ["Fixed", "Moving", "After 1", "After 2"]


def test_the_flat_have_figures_too(make_view):
    view = make_view((20, 16))
    figures.differences(view.fixed, view.before, view.warped)
    map_ = DisplacementField(view.displacement, view.fixed.grid)
    figures.grids(view.fixed, {"one": map_})
    figures.sequence(view.fixed, view.moving, [map_])
    with pytest.raises(ValueError, match="is 2-D"):
        figures.overlay(view.fixed, view.warped, plane="coronal")


def test_what_agrees_differs_by_nothing(make_view):
    view = make_view((16, 18, 12))
    figure = figures.methods(view.fixed, {"same": view.fixed})
    assert not np.asarray(figure.axes[3].images[0].get_array()).any()


def test_what_was_warped_is_drawn_by_the_window_of_the_moving_image(make_view):
    view = make_view((16, 18, 12))
    moving = Image(100 + 100 * view.moving.tensor, view.moving.grid)
    cut = Image(moving.tensor.clone(), moving.grid)
    cut.tensor[:, :9] = 0.0  # outside the field of view
    right = window_of(moving).scale(figures.slice_of(view.fixed).cut(cut.tensor)[0])
    for figure, at in (
        (figures.methods(view.fixed, {"one": cut}, moving=moving), 1),
        (figures.differences(view.fixed, moving, cut, moving=moving), 2),
        (figures.overlay(view.fixed, cut, moving=moving), 1),
    ):
        assert np.allclose(figure.axes[at].images[0].get_array(), right)
    photo = Image(torch.rand(3, 16, 18, 12), moving.grid, {"format": "raster"})
    plain = Image(photo.tensor, photo.grid)
    figure = figures.methods(view.fixed, {"one": plain}, moving=photo)
    assert np.allclose(pictures(figure)[1], pictures(figures.methods(view.fixed, {"one": photo}))[1])
    with pytest.raises(ValueError, match="3 channels, but the moving image"):
        figures.methods(view.fixed, {"one": plain}, moving=moving)


def test_outside_the_field_of_view_no_difference_is_drawn(make_view):
    view = make_view((16, 18, 12))
    cut = Image(view.fixed.tensor.clone(), view.fixed.grid)
    cut.tensor[:, :9] = 0.0
    seen = (cut.tensor == view.fixed.tensor)[0]
    figure = figures.differences(view.fixed, cut, cut, moving=view.fixed, seen=[seen, seen])
    assert not np.asarray(figure.axes[4].images[0].get_array()).any()
    assert figure.axes[4].images[0].get_clim() == (-0.05, 0.05)
    assert np.asarray(figures.methods(view.fixed, {"a": cut}).axes[3].images[0].get_array()).any()


def test_titles_are_no_mathematics(make_view, tmp_path):
    view = make_view((16, 18, 12))
    figures.save_figure(tmp_path / "a.svg", figures.methods(view.fixed, {r"$x_{a$": view.fixed}))
    assert "$x_{a$" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_a_composition_with_the_inverse_is_a_straight_grid(make_view):
    view = make_view((16, 18, 12))
    shift = Translation.by([2.0, 1.0, 0.0])
    figure = figures.displacement_and_inverse(view.fixed, shift, ~shift)
    assert figure.axes[5].get_title() == "mean 0, max 0 mm"
    for line in figure.axes[2].lines:
        assert min(np.ptp(line.get_xdata()), np.ptp(line.get_ydata())) < 1e-9
    (x, y), (x0, y0) = (figure.axes[at].lines[0].get_xydata()[0] for at in (0, 2))
    assert (x - x0, y - y0) == (pytest.approx(-2.0), pytest.approx(-1.0))  # right is left, up is up


def test_a_sequence_composes_with_the_later_inside(make_view):
    view = make_view((16, 18, 12))
    steps = [Translation.by([3.0, 0, 0]), Translation.by([0, 2.0, 0])]
    figure = figures.sequence(view.fixed, view.moving, steps)
    both = figures.sequence(view.fixed, view.moving, [steps[0] @ steps[1]])
    assert np.allclose(pictures(figure)[3], pictures(both)[2], atol=1e-6)


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_three_formats_and_the_same_bytes_twice(make_view, tmp_path, suffix, start):
    view = make_view((10, 12, 8))
    written = []
    for number in (0, 1):
        path = tmp_path / f"{number}{suffix}"
        figures.save_figure(path, figures.overlay(view.fixed, view.warped), dpi=50)
        written.append(path.read_bytes())
    assert written[0].startswith(start)
    assert written[0] == written[1]


def test_what_cannot_be_drawn_is_refused(make_view, make_grid, tmp_path):
    view = make_view((10, 12, 8))
    other = Image(torch.zeros(1, 10, 12, 8), make_grid((10, 12, 8), 2.0))
    with pytest.raises(ValueError, match="lies on"):
        figures.overlay(view.fixed, other)
    with pytest.raises(ValueError, match="Did you mean 'coronal'"):
        figures.overlay(view.fixed, view.warped, plane="coronel")
    with pytest.raises(ValueError, match="axial slices lie from"):
        figures.overlay(view.fixed, view.warped, position_mm=99.0)
    with pytest.raises(ValueError, match="opacity"):
        figures.overlay(view.fixed, view.warped, strength=2.0)
    with pytest.raises(ValueError, match="empty"):
        figures.sequence(view.fixed, view.moving, [])
    with pytest.raises(ValueError, match="empty"):
        figures.grids(view.fixed, {})
    figure = figures.grids(view.fixed, {"still": identity(3)})
    with pytest.raises(ValueError, match=r"suffix '\.gif'"):
        figures.save_figure(tmp_path / "a.gif", figure)
    with pytest.raises(ValueError, match="dpi"):
        figures.save_figure(tmp_path / "a.png", figure, dpi=3)
    assert list(tmp_path.iterdir()) == []
