"""The page of many: outliers first, nothing lost, nothing believed."""

import copy
import json
import time

import numpy as np
import PIL.Image
import pytest

from pullback.reports import read_result, read_rows, write_cohort, write_thumbnail
from pullback.reports.outliers import OUTLIER_SCORE, robust_distances, score
from reports.test_report_page import EVIL, Page


@pytest.fixture
def make_folder(tmp_path, summary):
    """Folders as `register` leaves them, with changes to the summary."""

    def make(name, *, thumbnail=True, **changes):
        folder = tmp_path / name
        folder.mkdir()
        content = copy.deepcopy(summary)
        for key, value in changes.items():
            content[key] = value
        (folder / "result.json").write_text(json.dumps(content))
        (folder / "report.html").write_text("report")
        if thumbnail:
            noise = np.random.default_rng(len(name)).integers(0, 255, (132, 400, 3), dtype=np.uint8)
            PIL.Image.fromarray(noise // 2).save(folder / "thumbnail.jpg", quality=30)
        return folder

    return make


def labels(value):
    return {"mean_dice_after": value, "per_label": {}}


def rows_of(page):
    return [attributes["data-folder"].rsplit("/", 1)[-1] for attributes in page.of("tr") if "data-folder" in attributes]


def test_a_distance_is_in_robust_standard_deviations():
    values = np.random.default_rng(0).normal(5.0, 2.0, 2000)
    assert robust_distances(values).std() == pytest.approx(1.0, rel=0.05)
    assert not robust_distances([1.0] * 6).any()
    assert robust_distances([0.0] * 9 + [1.0])[-1] > OUTLIER_SCORE  # most are equal, and still one stands out


def test_only_the_bad_side_counts():
    others = [{"labels": labels(0.7 + 0.01 * n)} for n in range(9)]
    low, high = ({"labels": labels(value)} for value in (0.1, 0.99))
    scores = score([*others, low, high, None])
    assert scores[9].value > OUTLIER_SCORE
    assert scores[9].metric == "Dice"
    assert scores[10].value == 0
    assert scores[11].metric is None


def test_noise_is_no_outlier():
    many = [{"inverse_consistency": {"mean_voxels": 0.0}, "jacobian": {"sd_log": 0.1 + 1e-9 * n}} for n in range(6)]
    odd = {"inverse_consistency": {"mean_voxels": 1e-13}, "jacobian": {"sd_log": 0.1001}}
    assert {one.value for one in score([*many, odd])} == {0.0}


def test_values_of_different_similarities_are_not_compared():
    many = [{"similarity": {"name": "lncc", "after": 0.5 + 0.01 * n}} for n in range(9)]
    one = {"similarity": {"name": "mi", "after": 0.01}}
    assert score([*many, one])[-1].value == 0


def test_outliers_come_first(make_folder, tmp_path):
    good = [make_folder(f"good{n}", labels=labels(0.7 + 0.01 * n)) for n in range(8)]
    odd = make_folder("odd", labels=labels(0.2))
    doubtful = make_folder("doubtful", verdict={"value": "doubtful", "reasons": ["because"]})
    failed = make_folder("failed", verdict={"value": "failed", "reasons": ["of this"]})
    broken = make_folder("broken")
    (broken / "result.json").write_text("{")
    rows = read_rows([*good, odd, doubtful, failed, broken])
    assert [row.verdict for row in rows[:4]] == ["unreadable", "failed", "doubtful", "good"]
    assert rows[3].folder == odd
    write_cohort(tmp_path / "cohort.html", rows)
    page = Page((tmp_path / "cohort.html").read_text(encoding="utf-8"))
    assert rows_of(page)[:4] == ["broken", "failed", "doubtful", "odd"]
    assert len(page.of("img")) == len(rows)
    assert "good0/report.html" in [link["href"] for link in page.of("a")]


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"verdict": 3}', "\udcff", "[" * 100_000])
def test_a_damaged_result_is_a_row_that_says_so(make_folder, tmp_path, content):
    folder = make_folder("one")
    if content is None:
        (folder / "result.json").unlink()
    else:
        (folder / "result.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    (row,) = read_rows([folder])
    assert row.verdict == "unreadable"
    assert "result.json" in row.problem
    with pytest.raises((FileNotFoundError, ValueError), match=r"result\.json"):
        read_result(folder)


@pytest.mark.parametrize("value", [None, [], "x", {"value": EVIL}, {"value": None, "reasons": 3}])
def test_odd_verdicts_are_unknown_or_unreadable(make_folder, tmp_path, value):
    rows = read_rows([make_folder("one", verdict=value)])
    assert rows[0].verdict in ("unknown", "unreadable")
    write_cohort(tmp_path / "cohort.html", rows)
    Page((tmp_path / "cohort.html").read_text(encoding="utf-8"))


def test_names_from_outside_stay_text(make_folder, tmp_path):
    name = '"><script>alert(1)<& #?%'.replace("/", "")
    folder = make_folder(
        name, fixed={"name": EVIL}, moving={"name": EVIL}, verdict={"value": "failed", "reasons": [EVIL]}
    )
    write_cohort(tmp_path / "cohort.html", read_rows([folder]), title=EVIL)
    text = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<script>alert" not in text
    assert len(page.of("script")) == 1
    assert not any(attributes.get("src") == "x" for attributes in page.of("img"))
    (link,) = page.of("a")
    assert not set(link["href"]) & set('"<>#? ')


def test_a_thumbnail_that_is_none_is_left_out(make_folder, tmp_path):
    folders = [make_folder(name, thumbnail=False) for name in ("a", "b", "c")]
    (folders[1] / "thumbnail.jpg").write_text("<svg onload=alert(1)>")
    (folders[2] / "thumbnail.jpg").write_bytes(b"\xff\xd8\xff" + bytes(300_000))
    write_cohort(tmp_path / "cohort.html", read_rows(folders))
    page = Page((tmp_path / "cohort.html").read_text(encoding="utf-8"))
    assert page.of("img") == []


def test_no_registration_at_all(tmp_path):
    write_cohort(tmp_path / "cohort.html", read_rows([]))
    assert "No registrations." in Page((tmp_path / "cohort.html").read_text(encoding="utf-8")).texts


def test_five_hundred_are_quick_and_small(make_folder, tmp_path):
    folders = [make_folder(f"sub-{n:03d}", labels=labels(0.7 + 0.0001 * n)) for n in range(500)]
    start = time.perf_counter()
    write_cohort(tmp_path / "cohort.html", read_rows(folders))
    assert time.perf_counter() - start < 20
    assert (tmp_path / "cohort.html").stat().st_size < 20_000_000


@pytest.mark.parametrize("shape", [(24, 30, 20), (40, 28), (12, 10, 1), (1, 1, 1)])
def test_thumbnails(make_view, tmp_path, shape, monkeypatch):
    monkeypatch.setattr("pullback.reports.slices.PIXELS_3D", (64, 64))
    write_thumbnail(tmp_path / "thumbnail.jpg", make_view(shape))
    with PIL.Image.open(tmp_path / "thumbnail.jpg") as image:
        assert image.width <= 425
        assert image.height <= 133
    assert (tmp_path / "thumbnail.jpg").stat().st_size < 30_000


def test_a_folder_with_stray_bytes_in_its_name_has_its_link(make_folder, tmp_path):
    write_cohort(tmp_path / "cohort.html", read_rows([make_folder("one\udcff")]))
    (link,) = Page((tmp_path / "cohort.html").read_text(encoding="utf-8")).of("a")
    assert link["href"] == "one%FF/report.html"
