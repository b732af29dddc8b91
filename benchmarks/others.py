"""What is no 1 mm brain: heads, two contrasts, slabs, crops, mice, rescans, hippocampi, prostates, histology, slices.

One table each. A set runs in one fresh process after one unmeasured registration, because most of its registrations are
short beside starting Python; its peak memory is that of the whole set so far.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path

from common import Column, DataAbsentError, Row, Table, data_folder, image_and_labels, mean_of, parser_of
from jobs import Job, labelled, run_batch
from made_contrasts import MadeContrasts
from made_labels import MadeLabels
from made_slabs import SLABS, MadeSlabs

MOUSE_FAILURE = 0.45
"""Label Dice after the affine below which a mouse counts as failed. Greedy's and ANTs' affine reach 0.53 to 0.81
(``reference/peers-measured.md``), the headers' alignment 0.20: a map this far below the worst right one is another
pose, not another animal."""
HIPPOCAMPUS_STEP = 10
"""Every so manieth of the 380 ordered pairs, by default."""
RESCANS = (("1003", "1023"), ("1004", "1024"), ("1005", "1025"), ("1018", "1038"), ("1019", "1039"))
HEADS, BRAINS = ("1000", "1001"), ("1000", "1001", "1002", "1004", "1007", "1009", "1010", "1012")
"""With and without a skull."""
PEOPLE = (("1003", "1008"), ("1004", "1005"), ("1006", "1017"), ("1002", "1001"))
"""Pairs for two contrasts, brains without skulls."""
RIGHT_MM = 2.0
"""Mean error at points of one person's brain below which the map of a slab is right: a voxel."""
WHOLE_HIPPOCAMPUS, LEFT_HIPPOCAMPUS = (1, 2), (48,)
"""In the crops, all of which lie in place on the left side, and in whole brains."""
HIPPOCAMPUS_FOUND = 0.4
"""Dice of the hippocampus after the affine from which a crop is in its place; elsewhere it is 0 to 0.1."""
RIGHT_POSE = 0.33
"""Label Dice after the affine from which the pose of two people's brains is right; wrong ones stay below 0.25."""

LEAD = (Column("pair", "fixed <- moving"), Column("what", "similarity asked"))
DICE = (
    Column("dice_before", "header Dice", 3),
    Column("dice_linear", "after affine", 4),
    Column("dice_after", "after all", 4),
)
POINTS = (
    Column("error_before", "start px", 1),
    Column("error_linear", "after affine px", 2),
    Column("error_after", "after all px", 2),
    Column("median_error_after", "median px", 2),
)
POINTS_MM = (
    Column("error_before", "start mm", 1),
    Column("error_linear", "after affine mm", 2),
    Column("error_after", "after all mm", 2),
)
TAIL = (
    Column("verdict", "verdict"),
    Column("reasons", "reasons"),
    Column("similarity", "similarity"),
    Column("initialisation", "start"),
    Column("seconds", "call s", 1),
    Column("folded_voxels", "folded voxels", 0),
    Column("sd_log_jacobian", "sd log J", 3),
    Column("inverse_mean_voxels", "inverse mean voxels", 4),
    Column("peak_memory_mb", "peak MB", 0),
    Column("error", "error"),
)


@dataclass(frozen=True)
class Study:
    """A set of registrations and what to say about them.

    Attributes:
        title: Of its table.
        jobs: What to run.
        scores: The columns of its scores.
        about: Remarks on the rows, when all are there.
    """

    title: str
    jobs: Sequence[Job]
    scores: Sequence[Column] = DICE
    about: Callable[[Sequence[Row]], list[str]] = lambda rows: []


def main() -> None:
    """Run the studies that are asked for."""
    options = _options()
    for name in options.only or STUDIES:
        try:
            study = STUDIES[name](options)
        except DataAbsentError:
            continue
        jobs = [replace(job, threads=options.threads) for job in study.jobs[: options.pairs]]
        table = Table(
            name,
            study.title,
            (*LEAD, *study.scores, *TAIL),
            folder=options.results,
            settings=_settings(options),
            group="what",
            expected=len(jobs),
        )
        print(f"{name}: {len(jobs)} registrations, after one that is not measured")
        for job, answer in zip(jobs, run_batch(jobs, warm=True), strict=True):
            table.add({"pair": job.name, "what": job.similarity, **answer})
        for text in [*study.about([row for row in table.rows if "error" not in row]), *_verdicts(table.rows)]:
            table.remark(text)


def _options() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="*", choices=tuple(STUDIES), help="these sets only")
    parser.add_argument("--pairs", type=int, help="only the first so many registrations of each set")
    parser.add_argument("--all-pairs", action="store_true", help="mouse: all 182 ordered pairs")
    parser.add_argument("--all", action="store_true", help="hippocampus: all 380 ordered pairs")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> dict[str, object]:
    return {
        "threads": options.threads,
        "plan": "Plan(): start found by search, affine, deformable; similarity as the table says",
        "Dice": "mean over the labels that both images have, labels by nearest neighbour",
        "Jacobian": "central differences of the displacement on the fixed grid, over the fixed image above 0",
        "call s": "images in memory to transforms in memory",
        "process": "one for the whole set, its first registration repeated",
    }


def _verdicts(rows: Sequence[Row]) -> list[str]:
    counts = {value: sum(row.get("verdict") == value for row in rows) for value in ("good", "doubtful", "failed")}
    errors = sum("error" in row for row in rows)
    words = ", ".join(f"{count} {value}" for value, count in counts.items())
    return [f"Verdicts: {words}" + (f"; {errors} ended with an error." if errors else ".")]


def heads(options: argparse.Namespace) -> Study:
    """Two heads with skull, both ways; Jacobian over the brain."""
    folder = data_folder("brains", "heads-2mm")
    jobs = [
        labelled(
            f"{a} <- {b}",
            image_and_labels(folder, a),
            image_and_labels(folder, b),
            region=str(folder / f"{a}_brain-mask.nii.gz"),
        )
        for a, b in (("1000", "1001"), ("1001", "1000"))
    ]
    return Study("Heads with skull, 2 mm", jobs)


def extracted(options: argparse.Namespace) -> Study:
    """Brains without their skulls onto heads with theirs, both ways, the same person among them."""
    folders = {kind: data_folder("brains", f"{kind}-2mm") for kind in ("heads", "native")}
    jobs = []
    for head in HEADS:
        for brain in BRAINS:
            ends = image_and_labels(folders["heads"], head), image_and_labels(folders["native"], brain)
            jobs.append(labelled(f"head {head} <- brain {brain}", *ends))
            jobs.append(labelled(f"brain {brain} <- head {head}", *reversed(ends)))
    return Study("Brains without their skulls onto heads and back, native space, 2 mm", jobs, about=_about_extracted)


def _about_extracted(rows: Sequence[Row]) -> list[str]:
    own = [row for row in rows if len(set(row["pair"].replace("<- ", "").split()[1::2])) == 1]
    others = [row for row in rows if row not in own]
    means = [
        f"{mean_of(rows, 'dice_linear'):.3f} after the affine, {mean_of(rows, 'dice_after'):.3f} after all"
        for rows in (others, own)
        if rows
    ]
    return [f"Dice of {len(others)} pairs of two people and {len(own)} of one: {'; '.join(means)}."]


def contrasts(options: argparse.Namespace) -> Study:
    """Two contrasts of two people: brains, heads, brains onto heads; all but T1 made from T1."""
    made = MadeContrasts()
    folders = {kind: data_folder("brains", f"{kind}-2mm") for kind in ("heads", "native")}

    def end(kind: str, person: str, contrast: str) -> dict[str, Path]:
        files = image_and_labels(folders[kind], person)
        mask = folders[kind] / f"{person}_brain-mask.nii.gz" if kind == "heads" else None
        return files | {"image": made.make(contrast, files["image"], mask)}

    both = [pair for other in ("T2", "FLAIR", "PET") for pair in (("T1", other), (other, "T1"))]
    sides = [("native", "native", *people, *pair) for people in PEOPLE for pair in (*both, ("T2", "FLAIR"))]
    sides += [("heads", "heads", *people, *pair) for people in permutations(HEADS) for pair in both]
    sides += [("heads", "native", head, "1003", "T1", other) for head in HEADS for other in ("T2", "FLAIR", "PET")]
    sides += [("native", "heads", "1008", head, other, "T1") for head in HEADS for other in ("T2", "FLAIR", "PET")]
    words = {"heads": "head", "native": "brain"}
    jobs = [
        labelled(f"{words[a]} {p} {c} <- {words[b]} {q} {d}", end(a, p, c), end(b, q, d)) for a, b, p, q, c, d in sides
    ]
    return Study("Two contrasts, made from T1, two people, 2 mm", jobs, about=partial(_about_contrasts, made))


def _about_contrasts(made: MadeContrasts, rows: Sequence[Row]) -> list[str]:
    """Remarks; holding `made`, whose files the registrations read, until they are over."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        a, _, c, _, b, _, d = row["pair"].split()
        kinds.setdefault(f"{a} {c} <- {b} {d}", []).append(row)
    means = [
        f"{kind} {mean_of(group, 'dice_linear'):.3f}, {mean_of(group, 'dice_after'):.3f}"
        for kind, group in kinds.items()
    ]
    wrong = [row for row in rows if row["dice_linear"] < RIGHT_POSE]
    harmed = [row for row in rows if row not in wrong and row["dice_after"] < row["dice_linear"]]
    good = [row["pair"] for row in (*wrong, *harmed) if row["verdict"] == "good"]
    return [
        f"Dice after the affine and after all: {'; '.join(means)}.",
        f"Wrong poses (Dice after the affine below {RIGHT_POSE}): {', '.join(r['pair'] for r in wrong) or 'none'}; "
        f"worse after deforming: {', '.join(r['pair'] for r in harmed) or 'none'}; of these called good: "
        f"{', '.join(good) or 'none'}.",
    ]


def slabs(options: argparse.Namespace) -> Study:
    """A few thick slices onto the whole of one person and back, in the same contrast and in others."""
    contrasts, made = MadeContrasts(), MadeSlabs()
    folders = {kind: data_folder("brains", f"{kind}-2mm") for kind in ("heads", "native")}
    jobs = []
    for kind, word, person in (("native", "brain", "1003"), ("native", "brain", "1006"), ("heads", "head", "1000")):
        whole = folders[kind] / f"{person}_image.nii.gz"
        mask = folders[kind] / f"{person}_brain-mask.nii.gz" if kind == "heads" else None
        for contrast in ("T1", "T2", "FLAIR"):
            for slab in SLABS:
                part, *points = made.make(slab, contrasts.make(contrast, whole, mask), mask)
                ends = [(str(whole), str(points[0]), f"{word} {person}"), (str(part), str(points[1]), slab)]
                for (a, p, fixed), (b, q, moving) in (ends, ends[::-1]):
                    jobs.append(Job(f"{fixed} <- {moving}, {contrast}", a, b, fixed_points=p, moving_points=q))
    title = "Slabs of one person, heads and brains, native space, 2 mm; other contrasts made from T1"
    return Study(title, jobs, POINTS_MM, partial(_about_slabs, (contrasts, made)))


def _about_slabs(made: object, rows: Sequence[Row]) -> list[str]:
    """Remarks; holding `made`, whose files the registrations read, until they are over."""
    means = []
    for contrast in ("T1", "T2", "FLAIR"):
        group = [row for row in rows if row["pair"].endswith(contrast)]
        means.append(f"{contrast} {mean_of(group, 'error_linear'):.2f}, {mean_of(group, 'error_after'):.2f}")
    wrong = [row for row in rows if row["error_after"] >= RIGHT_MM]
    good = [row["pair"] for row in wrong if row["verdict"] == "good"]
    return [
        f"Mean error in mm, at points of the brain in the slab, after the affine and after all: {'; '.join(means)}.",
        f"Off by {RIGHT_MM:g} mm or more: {', '.join(row['pair'] for row in wrong) or 'none'}; of these called good: "
        f"{', '.join(good) or 'none'}.",
    ]


def crops(options: argparse.Namespace) -> Study:
    """Crops of a hippocampus of the validation split onto somebody's brain and head, and back."""
    made, crops = MadeLabels(), data_folder("hippocampus")
    jobs = []
    for name in json.loads((crops / "split.json").read_text())["validation"]:
        file = f"{name}.nii.gz"
        crop = {"image": crops / "images" / file, "labels": made.make(crops / "labels" / file, WHOLE_HIPPOCAMPUS)}
        for kind, word, person in (("native", "brain", "1000"), ("heads", "head", "1001")):
            whole = image_and_labels(data_folder("brains", f"{kind}-2mm"), person)
            whole["labels"] = made.make(whole["labels"], LEFT_HIPPOCAMPUS)
            jobs.append(labelled(f"{word} {person} <- {name}", whole, crop))
            jobs.append(labelled(f"{name} <- {word} {person}", crop, whole))
    title = "Crops of a hippocampus (35 x 50 x 36 mm, validation split) onto the brain and the head of others, and back"
    return Study(title, jobs, about=partial(_about_crops, made))


def _about_crops(made: object, rows: Sequence[Row]) -> list[str]:
    """Remarks; holding `made`, whose files the registrations read, until they are over."""
    means = []
    for word, are_fixed in (("crop fixed", True), ("crop moving", False)):
        group = [row for row in rows if row["pair"].startswith("hippocampus") == are_fixed]
        means.append(f"{word} {mean_of(group, 'dice_linear'):.3f}, {mean_of(group, 'dice_after'):.3f}")
    found = [row for row in rows if row["dice_linear"] >= HIPPOCAMPUS_FOUND]
    good = [row["pair"] for row in rows if row not in found and row["verdict"] == "good"]
    return [
        f"Dice of the hippocampus after the affine and after all: {'; '.join(means)}.",
        f"Found (Dice after the affine from {HIPPOCAMPUS_FOUND}): {len(found)} of {len(rows)}; others called good: "
        f"{', '.join(good) or 'none'}.",
    ]


def mouse(options: argparse.Namespace) -> Study:
    """In-vivo mouse brains: all others to the first, or all pairs."""
    folder = data_folder("mouse")
    names = [path.name for path in sorted((folder / "images").iterdir())]
    pairs = list(permutations(names, 2)) if options.all_pairs else [(names[0], other) for other in names[1:]]
    jobs = [_in_folders(folder / "images", folder / "labels", a, b) for a, b in pairs]
    return Study("Mouse brains, T2, 0.15 mm", jobs, about=_about_mice)


def _about_mice(rows: Sequence[Row]) -> list[str]:
    failures = [row for row in rows if row["dice_linear"] < MOUSE_FAILURE]
    missed = [row["pair"] for row in failures if row["verdict"] == "good"]
    named = ", ".join(f"{row['pair']} ({row['dice_linear']:.3f}, {row['verdict']})" for row in failures)
    alarms = [row["pair"] for row in rows if row not in failures and row["verdict"] == "failed"]
    return [
        f"Failures (Dice after the affine below {MOUSE_FAILURE}, where the worst right map of greedy and ANTs has 0.53 "
        f"and the headers' alignment 0.20): {len(failures)} of {len(rows)}: {named or 'none'}.",
        f"Failures called good: {', '.join(missed) or 'none'}; "
        f"right maps called failed: {', '.join(alarms) or 'none'}.",
    ]


def _in_folders(images: Path, labels: Path, fixed: str, moving: str) -> Job:
    short = [name.removeprefix("tg4510_tp3_").removesuffix(".nii.gz") for name in (fixed, moving)]
    sides = ({"image": images / name, "labels": labels / name} for name in (fixed, moving))
    return labelled(" <- ".join(short), *sides)


def rescans(options: argparse.Namespace) -> Study:
    """Two scans of one person in native space, both ways."""
    folder = data_folder("brains", "native-2mm")
    pairs = [pair for a, b in RESCANS for pair in ((a, b), (b, a))]
    jobs = [labelled(f"{a} <- {b}", image_and_labels(folder, a), image_and_labels(folder, b)) for a, b in pairs]
    return Study("Rescans of one person, native space, 2 mm (about 0.75 after the affine is expected)", jobs)


def hippocampus(options: argparse.Namespace) -> Study:
    """Hippocampus crops of the test split; left and right sides are mixed."""
    folder = data_folder("hippocampus")
    names = [f"{name}.nii.gz" for name in json.loads((folder / "split.json").read_text())["test"]]
    pairs = list(permutations(names, 2))[:: 1 if options.all else HIPPOCAMPUS_STEP]
    jobs = [_in_folders(folder / "images", folder / "labels", a, b) for a, b in pairs]
    which = "all" if options.all else f"every {HIPPOCAMPUS_STEP}th"
    return Study(f"Hippocampus, test split, {which} of 380 ordered pairs, sides mixed", jobs)


def prostate(options: argparse.Namespace) -> Study:
    """MR onto ultrasound of one patient, by mutual information, self-similarities and as chosen; gland Dice."""
    folder = data_folder("prostate")
    jobs = []
    for similarity in ("mi", "mind", "auto"):
        for path in sorted((folder / "mr-images").iterdir()):
            fixed, moving = (
                {
                    "image": folder / f"{modality}-images" / path.name,
                    "labels": folder / f"{modality}-labels" / path.name,
                }
                for modality in ("ultrasound", "mr")
            )
            name = path.name.removesuffix(".nii.gz")
            jobs.append(labelled(name, fixed, moving, label_volume=0, similarity=similarity))
    return Study("Prostate, MR onto ultrasound, gland only", jobs)


def histology(options: argparse.Namespace) -> Study:
    """Two stains, both ways; landmark errors in pixels."""
    folder = data_folder("histology")
    stems = sorted(path.stem for path in folder.glob("*.jpg"))
    jobs = []
    for similarity in ("auto", "mi"):
        for a, b in permutations(stems, 2):
            (fixed, fixed_points), (moving, moving_points) = (
                [str(folder / f"{stem}{suffix}") for suffix in (".jpg", ".csv")] for stem in (a, b)
            )
            name = " <- ".join(stem.rsplit("_", 1)[-1] for stem in (a, b))
            landmarks = {"fixed_points": fixed_points, "moving_points": moving_points}
            jobs.append(replace(Job(name, fixed, moving, similarity=similarity), **landmarks))
    about = "78 landmarks; the best affine through the landmarks themselves leaves 6.7 px."
    return Study("Histology, two stains, 2-D, colour as read", jobs, POINTS, lambda rows: [about])


def slices(options: argparse.Namespace) -> Study:
    """Labelled axial slices, all others to the first."""
    folder = data_folder("slices", "labelled")
    subjects = [f"{number:02d}" for number in range(1, 15)]
    first = image_and_labels(folder, subjects[0])
    jobs = [labelled(f"{subjects[0]} <- {s}", first, image_and_labels(folder, s)) for s in subjects[1:]]
    return Study("Labelled axial slices, 2-D, 1 mm", jobs, about=_about_slices)


def _about_slices(rows: Sequence[Row]) -> list[str]:
    return [f"Dice by headers {mean_of(rows, 'dice_before'):.3f}, after all {mean_of(rows, 'dice_after'):.3f}."]


STUDIES: dict[str, Callable[[argparse.Namespace], Study]] = {
    "heads": heads,
    "extracted": extracted,
    "contrasts": contrasts,
    "slabs": slabs,
    "crops": crops,
    "mouse": mouse,
    "rescans": rescans,
    "hippocampus": hippocampus,
    "prostate": prostate,
    "histology": histology,
    "slices": slices,
}


if __name__ == "__main__":
    main()
