"""The pages in a real browser: nothing complains, keys work, nothing is wider than the screen.

Slow, and needs Chromium: ``PULLBACK_BROWSER=1 python -m pytest tests/reports/test_in_browser.py``. With
``PULLBACK_SCREENS=folder`` it leaves pictures of the pages there, to be looked at.
"""

import copy
import importlib.util
import json
import os
from pathlib import Path

import pytest

from pullback.reports import read_rows, write_cohort, write_report, write_thumbnail
from pullback.reports.volume import write_volume_page
from reports.browser import Browser, find_browser

pytestmark = [
    pytest.mark.skipif(os.environ.get("PULLBACK_BROWSER") != "1", reason="slow; PULLBACK_BROWSER=1 runs it"),
    pytest.mark.skipif(find_browser() is None, reason="there is no Chromium"),
]
SIZES = {"desktop": {}, "dark": {"dark": True}, "phone": {"width": 390, "height": 844, "phone": True}}
SETTLE = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
EXPLORES = "document.documentElement.classList.contains('explores')"


@pytest.fixture(scope="module")
def browser():
    with Browser(find_browser()) as one:
        yield one


@pytest.fixture
def quiet(browser):
    """The browser, and the promise that nothing went wrong in it."""
    browser.problems.clear()
    yield browser
    assert browser.problems == []


def keep(browser: Browser, name: str) -> None:
    if folder := os.environ.get("PULLBACK_SCREENS"):
        browser.screen(Path(folder) / f"{name}.png")


@pytest.fixture
def report(make_view, tmp_path) -> Path:
    write_report(tmp_path / "report.html", make_view((40, 48, 36)))
    return tmp_path / "report.html"


@pytest.mark.parametrize("size", SIZES)
def test_a_report_fits_every_screen(quiet, report, size):
    quiet.open(report, **SIZES[size])
    quiet.wait(EXPLORES)
    quiet.run(SETTLE)
    assert quiet.run("document.documentElement.scrollWidth <= innerWidth")
    keep(quiet, f"report-{size}")


def test_slices_follow_keys_and_sliders(quiet, report):
    quiet.open(report)
    quiet.wait(EXPLORES)
    at = "[...document.querySelectorAll('#explorer input[type=range]')].map((one) => Number(one.value))"
    quiet.run("document.querySelector('#explorer canvas').focus()")
    before = quiet.run(at)  # axial, coronal, sagittal: z, y, x
    for key in ("ArrowLeft", "ArrowUp", "PageUp", "PageUp"):
        quiet.press(key)
    quiet.run(SETTLE)
    assert quiet.run(at) == [before[0] + 2, before[1] + 1, before[2] + 1]
    quiet.run("document.querySelector('[data-place]').click()")
    quiet.run(SETTLE)
    assert quiet.run("document.activeElement.tagName") == "CANVAS"


@pytest.mark.parametrize(("key", "mode"), [("f", "flicker"), ("o", "overlay"), ("d", "difference"), ("s", "slider")])
def test_keys_choose_the_view(quiet, report, key, mode):
    quiet.open(report)
    quiet.wait(EXPLORES)
    quiet.press(key)
    quiet.press("b")
    quiet.run(SETTLE)
    assert quiet.run("document.documentElement.dataset.mode") == mode
    assert quiet.run("document.documentElement.dataset.partner") == "before"


def test_the_radiological_side_is_on_the_left(quiet, report):
    """A click on the left of the axial slice goes to the patient's right."""
    quiet.open(report)
    quiet.wait(EXPLORES)
    quiet.run("document.querySelector('#explorer canvas').scrollIntoView({block: 'center'})")
    box = json.loads(quiet.run("JSON.stringify(document.querySelector('#explorer canvas').getBoundingClientRect())"))
    place = {"x": box["left"] + 3, "y": box["top"] + 3, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        quiet.send("Input.dispatchMouseEvent", type=kind, buttons=1, **place)
    quiet.run(SETTLE)
    x, y = quiet.run("document.getElementById('readout').textContent").split("x y z: ")[1].split(", ")[:2]
    assert float(x) > 0 < float(y)


def test_a_flat_report_works_without_slices(quiet, make_view, tmp_path):
    write_report(tmp_path / "report.html", make_view((60, 48)))
    quiet.open(tmp_path / "report.html")
    assert quiet.run("document.querySelectorAll('#compare img').length") == 3
    assert not quiet.run(EXPLORES)


def test_paper_has_no_controls(quiet, report, tmp_path):
    quiet.open(report)
    quiet.wait(EXPLORES)
    quiet.paper(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    quiet.send("Emulation.setEmulatedMedia", media="print")
    shown = "(name) => [...document.querySelectorAll(name)].some((one) => one.offsetParent !== null)"
    assert not quiet.run(f"['#explorer', '.controls', '.toolbar', '.card button'].some({shown})")
    assert quiet.run(f"['#compare .gallery img'].some({shown})")


@pytest.fixture
def cohort(make_view, summary, tmp_path) -> Path:
    view = make_view((24, 30, 20))
    for number, verdict in enumerate(["good"] * 7 + ["doubtful", "failed"]):
        folder = tmp_path / f"sub-{number}"
        folder.mkdir()
        content = copy.deepcopy(summary) | {"verdict": {"value": verdict, "reasons": ["a reason"]}}
        content["labels"]["mean_dice_after"] = 0.6 + 0.01 * number
        (folder / "result.json").write_text(json.dumps(content))
        write_thumbnail(folder / "thumbnail.jpg", view)
    write_cohort(tmp_path / "cohort.html", read_rows([tmp_path / f"sub-{number}" for number in range(10)]))
    return tmp_path / "cohort.html"


@pytest.mark.parametrize("size", SIZES)
def test_the_cohort_fits_every_screen(quiet, cohort, size):
    quiet.open(cohort, **SIZES[size])
    quiet.run(SETTLE)
    assert quiet.run("document.documentElement.scrollWidth <= innerWidth")
    keep(quiet, f"cohort-{size}")


def test_the_cohort_is_sorted_filtered_and_marked(quiet, cohort):
    quiet.open(cohort)
    names = "[...document.querySelectorAll('tbody tr')].filter((r) => !r.hidden).map((r) => r.dataset.folder.slice(-1))"
    assert quiet.run(names)[:3] == ["9", "8", "7"]
    quiet.run("[...document.querySelectorAll('thead button')].find((one) => one.textContent === 'Dice').click()")
    assert quiet.run(names) == [*"012345678", "9"]
    quiet.run("[...document.querySelectorAll('thead button')].find((one) => one.textContent === 'Dice').click()")
    assert quiet.run(names) == [*"876543210", "9"]
    quiet.run("document.querySelector('.verdict-box[value=good]').click()")
    assert quiet.run(names) == ["8", "7", "9"]
    for key in ("j", "a", "r"):
        quiet.press(key)
    assert quiet.run("[...document.querySelectorAll('tr[data-mark]')].map((r) => r.dataset.mark)") == [
        "accept",
        "reject",
    ]
    quiet.press("/")
    for letter in "sub-7":
        quiet.press(letter, code=0)
    assert quiet.run(names) == ["7"]


@pytest.mark.skipif(importlib.util.find_spec("nilearn") is None, reason="NiiVue comes with nilearn")
def test_the_volume_view_loads_when_asked(quiet, make_view, tmp_path):
    view = make_view((24, 30, 20))
    write_volume_page(tmp_path / "volume.html", view.fixed, view.warped, moving=view.moving)
    quiet.open(tmp_path / "volume.html")
    assert quiet.run("typeof niivue") == "undefined"
    quiet.run("document.getElementById('load').click()")
    quiet.wait("document.documentElement.dataset.ready || !document.getElementById('load').disabled")
    assert quiet.run("document.documentElement.dataset.ready") == "yes"
    keep(quiet, "volume")
