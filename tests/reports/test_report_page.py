"""The page: whole, self-contained, safe and tolerant."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from pullback.data import Image, LabelMap, Points
from pullback.reports import write_report
from pullback.reports.drawings import Drawings
from pullback.reports.formats import TIMES, number
from pullback.reports.page import render
from pullback.reports.places import where

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&"\'\u202e$title{{x}}'
ADDRESSES = ("src", "href", "data", "action", "poster", "srcset", "formaction", "background")
VOID = {"meta", "link", "img", "input", "br"}
SECTIONS = {"compare", "overlay", "checkerboard", "contours", "difference", "deformation", "inputs"}


@pytest.fixture(autouse=True)
def small_pictures(request, monkeypatch):
    """Pictures of a few pixels, but where their size is the point."""
    if "full_size" not in request.fixturenames:
        monkeypatch.setattr("pullback.reports.slices.PIXELS_3D", (64, 64))
        monkeypatch.setattr("pullback.reports.slices.PIXELS_2D", (64, 64))


@pytest.fixture
def full_size():
    """Keeps the pictures as large as users get them."""


class Page(HTMLParser):
    """Counts what is in a page and checks that its elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    @property
    def text(self):
        return " ".join(self.texts)


def check(text: str) -> Page:
    """What holds for every report."""
    page = Page(text)
    for _, attributes in page.elements:
        for name in ADDRESSES:
            address = attributes.get(name) or "#"
            assert address.startswith(("data:", "#")), address[:80]
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import", text)
    assert all("alt" in attributes for attributes in page.of("img"))
    assert len(page.ids) == len(set(page.ids))
    targets = [attributes["href"][1:] for attributes in page.of("a")]
    assert set(targets) <= set(page.ids)
    assert len(page.of("script")) == 2 + ("volumes" in page.ids)
    assert len(page.of("h1")) == 1
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.text)
    return page


@pytest.mark.parametrize("shape", [(24, 30, 20), (40, 28)])
def test_a_full_report(tmp_path, make_view, shape):
    path = tmp_path / "report.html"
    write_report(path, make_view(shape))
    page = check(path.read_text(encoding="utf-8"))
    assert set(page.ids) >= SECTIONS | {"landmarks", "labels", "timings", "settings", "history", "initialisation"}
    for shown in (
        "Good",
        "0.200",
        "0.700",
        "0.800",
        "3.4 s",
        "1.23 GB",
        "converged",
        "A note on the fixed image.",
        "1 voxel is folded",
    ):
        assert shown in page.text
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_slices_are_chosen_by_radio_buttons_in_3d_only(make_view):
    groups = [{one["name"] for one in check(render(make_view(shape))).of("input") if one["type"] == "radio"}
              for shape in ((24, 30, 20), (40, 28))]  # fmt: skip
    assert groups == [{"mode", "partner", "slice"}, {"mode", "partner"}]


@pytest.mark.parametrize(
    "summary", [{}, {"verdict": {"value": "good"}}, {"verdict": None, "history": None, "labels": 3}]
)
def test_whatever_is_missing_is_left_out(make_view, summary):
    page = check(render(make_view(summary=summary, extras=False)))
    assert set(page.ids) >= SECTIONS
    assert not set(page.ids) & {"landmarks", "labels", "timings", "history", "initialisation"}


def test_every_key_may_be_missing_or_empty(make_view, summary):
    view = make_view((12, 9))
    for key in summary:
        check(render(replace(view, summary={name: value for name, value in summary.items() if name != key})))
        check(render(replace(view, summary=summary | {key: None})))
        if isinstance(summary[key], dict):
            check(render(replace(view, summary=summary | {key: {}})))
            check(render(replace(view, summary=summary | {key: dict.fromkeys(summary[key])})))
            check(render(replace(view, summary=summary | {key: without_numbers(summary[key])})))


def without_numbers(values):
    """The same mapping with NaN for every number."""
    return {key: float("nan") if isinstance(value, float) else value for key, value in values.items()}


@pytest.mark.parametrize("value", ["good", "doubtful", "failed", "unheard of", None])
def test_the_verdict_is_said_in_words(make_view, value):
    page = check(render(make_view((12, 9), summary={"verdict": {"value": value, "reasons": ["Because of this."]}})))
    expected = {"good": "Good", "doubtful": "Doubtful", "failed": "Failed"}.get(value, "No verdict")
    assert expected in page.texts
    assert "Because of this." in page.texts


def poisoned(value):
    """The same structure with every text made evil, keys too."""
    if isinstance(value, dict):
        return {key: poisoned(one) for key, one in value.items()} | {EVIL: EVIL}
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    return EVIL if isinstance(value, str) else value


def test_nothing_that_comes_from_outside_becomes_markup(make_view, summary):
    header = {"name": EVIL, "notes": (EVIL,)}
    view = make_view(summary=poisoned(summary), header=header)
    named = Points(view.fixed_points.coordinates, names=[EVIL, EVIL])
    text = render(replace(view, fixed_points=named))
    page = check(text)
    assert "<script>alert" not in text
    assert not any(attributes.get("src") == "x" for attributes in page.of("img"))
    assert json.loads(re.search(r'id="result">(.*?)</script>', text, re.DOTALL)[1])["command"] == EVIL


def test_the_json_is_valid_whatever_the_summary_holds(make_view, tmp_path):
    odd = {"path": tmp_path, "nan": float("nan"), "array": np.arange(2), "tensor": torch.ones(()), "set": {1}}
    text = render(make_view((12, 9), summary={"settings": odd}))
    data = json.loads(re.search(r'id="result">(.*?)</script>', text, re.DOTALL)[1])
    assert data["settings"] == {"path": str(tmp_path), "nan": None, "array": [0, 1], "tensor": 1.0, "set": [1]}


def test_file_names_with_stray_bytes_can_be_written(make_view, tmp_path):
    write_report(tmp_path / "report.html", make_view((12, 9), header={"name": "scan\udcff"}))
    check((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_a_failed_report_leaves_the_old_one(make_view, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *_: (_ for _ in ()).throw(OSError("broken")))
    with pytest.raises(OSError, match="broken"):
        write_report(path, make_view((12, 9)))
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("shape", [(12, 10, 1), (1, 12, 10), (1, 1, 1), (5, 1), (1, 1), (2, 3, 2)])
def test_thin_images(make_view, shape):
    check(render(make_view(shape)))


@pytest.mark.parametrize("value", [0.0, 7.0, float("nan"), float("inf")])
def test_constant_and_broken_numbers(make_view, value):
    view = make_view((10, 8, 6))
    flat = Image(torch.full_like(view.fixed.tensor, value), view.fixed.grid)
    jacobian = torch.full(flat.grid.shape, value)
    field = torch.full_like(view.displacement, value)
    check(render(replace(view, fixed=flat, moving=flat, before=flat, warped=flat, jacobian=jacobian,
                         displacement=field)))  # fmt: skip


def test_a_linear_result_has_no_deformation_to_show(make_view):
    view = make_view((10, 8, 6))
    page = check(render(replace(view, displacement=torch.zeros_like(view.displacement))))
    assert "The result is linear" in page.text


def test_differences_between_contrasts_are_not_shown(make_view, summary):
    summary["similarity"] = {"name": "mi", "before": 0.1, "after": 0.2}
    with_mi, with_lncc = (check(render(make_view((12, 9), summary=one))) for one in (summary, None))
    assert "different contrast" in with_mi.text
    drawn = [sum("ifference" in image["alt"] for image in page.of("img")) for page in (with_mi, with_lncc)]
    assert drawn[0] == 0 < drawn[1]


def test_photographs_and_other_channels(make_view):
    view = make_view((14, 11), extras=False)
    for header in ({"name": "photo.png", "format": "raster"}, {"name": "diffusion"}):
        image = Image(view.fixed.tensor.expand(3, -1, -1), view.fixed.grid, header)
        page = check(render(replace(view, fixed=image, moving=image, before=image, warped=image)))
        assert page.texts.count("mean of 3 channels") == (0 if "format" in header else 2)


def test_labels_of_one_image_alone_are_no_comparison(make_view):
    view = replace(make_view((14, 11)), before_labels=None, warped_labels=None)
    assert "Edges" in check(render(view)).texts
    assert "Label outlines" in check(render(make_view((14, 11)))).texts


def test_volumes_are_there_to_be_cut_in_3d_only(make_view):
    text = render(make_view((24, 30, 20)))
    data = json.loads(re.search(r'id="volumes">(.*?)</script>', text, re.DOTALL)[1])
    assert data["shape"] == [24, 30, 20]
    assert set(data["pictures"]) == {
        *("fixed", "before", "warped", "jacobian", "fixed_labels", "before_labels", "warped_labels")
    }
    assert data["points"]["names"] == ["one", "two"]
    assert len(data["places"]) == len(re.findall("data-place=", text))
    assert "volumes" not in Page(render(make_view((12, 9)))).ids


def test_the_worst_places_are_named(make_view):
    view = make_view((24, 30, 20))
    moved = Points(view.fixed_points.coordinates + torch.tensor([[0.0, 0, 0], [3.0, 0, 0]]), names=["one", "two"])
    shifted = LabelMap(view.fixed_labels.tensor.roll(2, 1), view.fixed.grid)
    view = replace(view, warped_points=moved, warped_labels=shifted, summary={}, label_names={1: "<core>"})
    page = check(render(view))
    for shown in ("Label 1 <core>", "Landmark two", "3 mm apart", "Folded"):
        assert shown in page.texts
    assert page.texts.index("Landmark two") < page.texts.index("Landmark one")


def test_label_maps_without_a_common_label_have_no_dice(make_view, summary):
    view = make_view((12, 9), summary=summary | {"labels": {"mean_dice_after": None, "per_label": {}}})
    view = replace(view, warped_labels=LabelMap(view.fixed_labels.tensor * 7, view.fixed.grid))
    texts = check(render(view)).texts
    assert "The two label maps share no label, so there is no Dice." in texts
    assert not any(text.startswith(("Label 1", "Label 7")) for text in texts)
    assert "Label Dice" not in texts


def test_extremes_of_volume_are_those_within_the_object_that_the_numbers_are_about(make_view):
    view = make_view((12, 9))
    jacobian = torch.ones(12, 9)
    jacobian[5, 4], jacobian[0, 0], jacobian[6, 4] = 0.7, 0.3, 1.4
    inside = torch.zeros(12, 9, dtype=torch.bool)
    inside[4:8, 3:6] = True
    texts = check(render(replace(view, jacobian=jacobian, fixed_object=inside))).texts
    assert any(text.startswith("0.7,") for text in texts)
    inside[0, 0] = True
    texts = check(render(replace(view, jacobian=jacobian, fixed_object=inside))).texts
    assert any(text.startswith("0.3,") for text in texts)


def test_an_axis_of_one_voxel_has_no_sides(make_view):
    drawings = Drawings(make_view((24, 1, 20)))
    assert where(drawings, np.array([4.0, 0.0, 10.0])).split(" in label")[0] == "left"


def test_an_inverse_that_misses_by_rounding_alone_misses_by_nothing(make_view, summary):
    known = {"mean_mm": 1.56e-15, "max_mm": 2e-14, "mean_voxels": 1e-15, "max_voxels": 2e-14}
    texts = check(render(make_view((12, 9), summary=summary | {"inverse_consistency": known}))).texts
    assert "max 0 mm; mean 0, max 0 voxels" in texts


def test_outside_the_field_of_view_nothing_differs(make_view, summary):
    view = make_view((40, 36), extras=False)
    cut = Image(view.fixed.tensor.clone(), view.fixed.grid)
    cut.tensor[:, :20] = 0.0
    view = replace(view, before=cut, warped=cut, moving=view.fixed)
    assert "Large difference" in check(render(view)).texts
    seen = torch.ones(40, 36, dtype=torch.bool)
    seen[:20] = False
    page = check(render(replace(view, before_seen=seen, warped_seen=seen)))
    assert "Large difference" not in page.texts
    assert "+5 %" in page.texts
    drawings = Drawings(replace(view, warped_seen=seen))
    assert np.allclose(drawings.comparable("warped", drawings.planes[0]), drawings.levels("fixed", drawings.planes[0]))


def test_what_before_means_is_said_where_it_is_not_the_headers(make_view, summary):
    view = make_view((12, 9), summary=summary | {"before": "centres of mass together"})
    texts = check(render(view)).texts
    assert "centres of mass together" in texts
    assert texts.count("Before: centres of mass together") == 4
    plain = check(render(replace(view, summary=summary | {"before": "as the headers say"}))).texts
    assert not any(one.startswith("Before:") or "hardly overlap" in one for one in plain)


def test_levels_are_named_as_register_names_them(make_view, summary):
    levels = [
        {"stage": "affine", "level": "40x48x36", "steps": 2, "values": [0.1, 0.2], "reason": "converged"},
        {"stage": "deformable", "level": "1/2", "steps": 2, "values": [0.1, 0.2], "reason": "converged"},
        {"stage": "deformable", "level": "1/1", "steps": 2, "values": [0.1, 0.2], "reason": "converged"},
    ]
    page = check(render(make_view((12, 9), summary=summary | {"history": levels})))
    assert {f"40 {TIMES} 48 {TIMES} 36", "1/2", "full"} <= set(page.texts)


def test_a_pair_that_agrees_has_few_places(make_view):
    view = make_view((10, 8, 6), extras=False, summary={})
    still = replace(view, warped=view.fixed, displacement=torch.zeros_like(view.displacement))
    assert "places" not in check(render(still)).ids


@pytest.mark.usefixtures("full_size")
def test_a_report_stays_small(make_view):
    assert len(render(make_view((80, 96, 80), extras=False))) < 5_000_000


def test_views_check_their_parts(make_view, make_grid):
    view = make_view((10, 8, 6))
    other = Image(torch.rand(1, 10, 8, 6), make_grid((10, 8, 6), 2.0))
    with pytest.raises(ValueError, match="`warped` lies on"):
        replace(view, warped=other)
    with pytest.raises(ValueError, match="`displacement` has shape"):
        replace(view, displacement=view.displacement[:2])
    with pytest.raises(ValueError, match="`jacobian` has shape"):
        replace(view, jacobian=view.jacobian[None])
    with pytest.raises(ValueError, match="`warped_points` holds 1 points"):
        replace(view, warped_points=Points(np.zeros((1, 3))))
    alone = replace(view, before_points=None, warped_points=None)
    flat = Points(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="2 coordinates a point"):
        replace(alone, fixed_points=flat)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1234"), (0.1 + 0.2, "0.3"), (-0.00123456, "\N{MINUS SIGN}0.00123"), ("x", "\N{EN DASH}"),
     (1e-9, "1.00e\N{MINUS SIGN}09"), (float("inf"), "\N{EN DASH}"), (99999.4, "99999")],
)  # fmt: skip
def test_numbers_are_written_for_people(value, text):
    assert number(value) == text
