"""The parts of the page made of words and numbers."""

from collections.abc import Mapping
from typing import Any

from pullback.reports.charts import bar, history_charts
from pullback.reports.formats import (
    MISSING,
    TIMES,
    duration,
    finite,
    fixed_point,
    flat,
    gap,
    lookup,
    mapping,
    memory,
    number,
    sequence,
    signed,
    start_of,
    words,
)
from pullback.reports.intensities import is_photograph
from pullback.reports.markup import Markup, name_of, tag
from pullback.reports.sections import section
from pullback.reports.view import RegistrationView

Summary = Mapping[str, Any]

VERDICTS = {
    "good": ("✓", "Good", "No automatic check found a fault. The pictures have the last word."),
    "doubtful": ("!", "Doubtful", "Look at the pictures before using this result."),
    "failed": ("✕", "Failed", "Do not use this result."),
}
UNKNOWN_VERDICT = ("?", "No verdict", "The result was not judged; look at the pictures.")
ARROW = "\N{RIGHTWARDS ARROW}"
FEW_LABELS = 12
"""Up to this many labels the table of their Dice stands open."""

INPUT_ROWS = (
    ("path", "File"),
    ("shape", "Voxels"),
    ("spacing_mm", "Spacing"),
    ("orientation", "Orientation"),
    ("channels", "Drawn as"),
)


def verdict_banner(summary: Summary) -> Markup:
    """The verdict with its reasons in words; a sign and a word carry it, not the colour alone."""
    value = str(lookup(summary, "verdict", "value") or "")
    sign, word, advice = VERDICTS.get(value.lower(), UNKNOWN_VERDICT)
    kind = value.lower() if value.lower() in VERDICTS else "unknown"
    reasons = [tag("li", reason) for reason in sequence(summary, "verdict", "reasons")]
    body = tag("div", tag("h2", word), tag("ul", reasons) if reasons else None, tag("p", advice))
    return tag(
        "section",
        tag("span", sign, class_="sign", aria_hidden="true"),
        body,
        class_=f"verdict {kind}",
        aria_label=f"Verdict: {word}",
    )


def key_numbers(summary: Summary) -> Markup | None:
    """A row of tiles; what is not known has no tile."""
    tiles = [
        _similarity_tile(summary),
        _dice_tile(summary),
        _landmark_tile(summary),
        _jacobian_tile(summary),
        _consistency_tile(summary),
        _time_tile(summary),
        _memory_tile(summary),
    ]
    kept = [one for one in tiles if one is not None]
    return tag("dl", kept, class_="tiles", aria_label="Key numbers") if kept else None


def meaning_of_before(summary: Summary) -> Markup | None:
    """A sentence on the figures before registration, where they are not those of the headers' alignment."""
    start = start_of(summary)
    if start is None:
        return None
    text = "All figures and pictures \N{LEFT DOUBLE QUOTATION MARK}before\N{RIGHT DOUBLE QUOTATION MARK} are with "
    rest = ", not as the headers say: by those the objects hardly overlap."
    return tag("p", text, tag("b", start), rest, class_="quiet")


def input_notes(view: RegistrationView) -> Markup | None:
    """What had to be assumed about the inputs."""
    items = []
    for side in ("fixed", "moving"):
        notes = sequence(view.summary, side, "notes") or sequence(getattr(view, side).header, "notes")
        items += [tag("li", tag("b", f"{side.capitalize()}: "), note) for note in notes]
    if not items:
        return None
    return tag(
        "aside", tag("h2", "About the inputs"), tag("ul", items), class_="notes", aria_label="Notes on the inputs"
    )


def inputs(view: RegistrationView) -> Markup:
    """The two images side by side."""
    head = tag("tr", tag("td"), [tag("th", side.capitalize(), scope="col") for side in ("fixed", "moving")])
    known = {side: _input_facts(view, side) for side in ("fixed", "moving")}
    rows = [
        tag("tr", tag("th", word, scope="row"), [tag("td", known[side][key], class_="text") for side in known])
        for key, word in INPUT_ROWS
        if any(known[side][key] != MISSING for side in known)
    ]
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="facts")
    return section("inputs", "Inputs", body=tag("div", table, class_="scroll"))


def timings(summary: Summary) -> Markup | None:
    """Seconds per stage as bars."""
    stages = {str(key): finite(value) for key, value in mapping(summary, "timings_seconds").items()}
    parts = {key: value for key, value in stages.items() if value is not None and key != "total"}
    if not parts:
        return None
    longest = max(parts.values()) or 1.0
    rows = [
        tag(
            "tr",
            tag("th", key.replace("_", " "), scope="row"),
            tag("td", bar(value / longest), class_="wide"),
            tag("td", duration(value)),
        )
        for key, value in parts.items()
    ]
    total = stages.get("total")
    if total is not None:
        rows.append(tag("tr", tag("th", "total", scope="row"), tag("td"), tag("td", duration(total)), class_="total"))
    return section("timings", "Time", body=tag("table", tag("tbody", rows), class_="bars"))


def initialisation(summary: Summary) -> Markup | None:
    """The starting alignments that were tried."""
    candidates = [one for one in sequence(summary, "initialisation", "candidates") if isinstance(one, Mapping)]
    chosen = lookup(summary, "initialisation", "chosen")
    if chosen is None and not candidates:
        return None
    rows = []
    for one in candidates or [{"name": chosen, "score": lookup(summary, "initialisation", "score")}]:
        is_chosen = one.get("name") == chosen
        mark = tag("span", "chosen", class_="chip") if is_chosen else None
        rows.append(
            tag(
                "tr",
                tag("th", one.get("name"), scope="row"),
                tag("td", fixed_point(one.get("score"), 4)),
                tag("td", mark, class_="text"),
                class_="chosen" if is_chosen else None,
            )
        )
    head = tag("tr", [tag("th", word, scope="col") for word in ("Start", "Score", "")])
    why = lookup(summary, "initialisation", "why")
    said = tag("p", f"The start {why}.") if why else None
    body = [said, tag("table", tag("thead", head), tag("tbody", rows))]
    return section("initialisation", "Starting alignment", body=body)


def history(summary: Summary) -> Markup | None:
    """Similarity by step."""
    name = str(lookup(summary, "similarity", "name") or "similarity")
    charts = history_charts(sequence(summary, "history"), name)
    if not charts:
        return None
    why = lookup(summary, "similarity", "why")
    return section(
        "history", "Similarity by step", body=[tag("p", f"{name}: {why}", class_="quiet") if why else None, charts]
    )


def dice_table(view: RegistrationView) -> Markup | None:
    """Dice per label, the worst first; many are folded away."""
    summary = view.summary
    per_label = {str(key): value for key, value in mapping(summary, "labels", "per_label").items()}
    if not per_label:
        return _no_common_label(summary)
    order = sorted(per_label, key=lambda label: finite(lookup(per_label, label, "after")) or 0.0)
    rows = [_dice_row(_label_name(view, label), per_label[label]) for label in order]
    head = tag("tr", [tag("th", word, scope="col") for word in ("Label", "", "Before", "After", "Change")])
    table = tag("table", tag("thead", head), tag("tbody", rows), class_="bars")
    title = tag("summary", f"Dice of {len(order)} labels, lowest first")
    protocol = lookup(summary, "labels", "protocol")
    note = tag("p", words(protocol), class_="quiet") if protocol else None
    marks = tag("p", "Bars are Dice after registration, from 0 to 1; the thin mark is Dice before.", class_="quiet")
    folded = tag("details", title, note, marks, tag("div", table, class_="scroll tall"), open=len(order) <= FEW_LABELS)
    return section("labels", "Labels", body=folded)


def _no_common_label(summary: Summary) -> Markup | None:
    """A sentence where both images have labels, but none that both have."""
    if not isinstance(lookup(summary, "labels", "per_label"), Mapping):
        return None
    return section("labels", "Labels", body=tag("p", "The two label maps share no label, so there is no Dice."))


def settings(summary: Summary) -> Markup | None:
    """The command and every setting."""
    command = lookup(summary, "command")
    rows = flat(mapping(summary, "settings"))
    rows = [(key, words(summary[key])) for key in ("model", "seed", "threads", "device") if key in summary] + rows
    if command is None and not rows:
        return None
    code = tag("pre", tag("code", _arguments(words(command))), class_="command", tabindex=0) if command else None
    table = tag("dl", [tag("div", tag("dt", key), tag("dd", value)) for key, value in rows], class_="settings")
    return section("settings", "Command and settings", body=[code, table])


def _arguments(command: str) -> list[Any]:
    """The words of a command, each of which stays on one line if it fits."""
    return [piece for word in command.split(" ") for piece in (tag("span", word, class_="argument"), " ")][:-1]


def _input_facts(view: RegistrationView, side: str) -> dict[str, Any]:
    """Facts from the summary, or else from the image itself."""
    image = getattr(view, side)
    given, grid = mapping(view.summary, side), image.grid
    is_mean = image.num_channels > 1 and not is_photograph(image)
    shape, spacing = sequence(given, "shape") or list(grid.shape), sequence(given, "spacing_mm")
    spacing = spacing or grid.spacing_mm.tolist()
    return {
        "path": name_of(words(given["path"])) if given.get("path") else MISSING,
        "shape": f" {TIMES} ".join(words(one) for one in shape),
        "spacing_mm": f" {TIMES} ".join(number(one, 4) for one in spacing) + " mm",
        "orientation": words(given["orientation"]) if given.get("orientation") else MISSING,
        "channels": f"mean of {image.num_channels} channels" if is_mean else MISSING,
    }


def _tile(name: str, value: Any, note: Any = None) -> Markup:
    return tag(
        "div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", note, class_="note") if note else None
    )


def _change(before: Any, after: Any, unit: str = "", decimals: int = 3) -> Markup:
    """``before → after``, the second one in weight; only the latter where there is no former."""
    last = tag("b", fixed_point(after, decimals))
    unit_ = tag("span", unit, class_="unit") if unit else None
    if finite(before) is None:
        return Markup(last + (unit_ or ""))
    arrow = tag("span", f" {ARROW} ", class_="arrow")
    return Markup(tag("span", fixed_point(before, decimals), class_="was") + arrow + last + (unit_ or ""))


def _similarity_tile(summary: Summary) -> Markup | None:
    before, after = lookup(summary, "similarity", "before"), lookup(summary, "similarity", "after")
    if finite(after) is None:
        return None
    note = None if finite(before) is None else f"change {signed(float(after) - float(before))}"
    return _tile(f"Similarity ({lookup(summary, 'similarity', 'name') or 'unnamed'})", _change(before, after), note)


def _dice_tile(summary: Summary) -> Markup | None:
    before, after = (lookup(summary, "labels", f"mean_dice_{when}") for when in ("before", "after"))
    if finite(after) is None:
        return None
    count = len(mapping(summary, "labels", "per_label"))
    return _tile("Label Dice", _change(before, after), f"mean of {count} labels" if count else "mean of the labels")


def _landmark_tile(summary: Summary) -> Markup | None:
    points = mapping(summary, "points")
    if finite(points.get("mean_mm_after")) is None:
        return None
    notes = [
        f"{word} {number(points[key])} mm"
        for key, word in (("median_mm_after", "median"), ("max_mm_after", "max"))
        if finite(points.get(key)) is not None
    ]
    value = _change(points.get("mean_mm_before"), points["mean_mm_after"], "mm", 2)
    return _tile("Landmark error", value, ", ".join(["mean", *notes]))


def _jacobian_tile(summary: Summary) -> Markup | None:
    jacobian = mapping(summary, "jacobian")
    low, high = jacobian.get("minimum"), jacobian.get("maximum")
    if finite(low) is None and finite(high) is None:
        return None
    percent = finite(jacobian.get("percent_nonpositive"))
    note = None if percent is None else "no folding" if percent == 0 else f"{number(percent, 2)} % at or below 0"
    spread = finite(jacobian.get("sd_log"))
    note = note if spread is None else f"{note + ', ' if note else ''}SD of log {number(spread, 2)}"
    return _tile("Jacobian", f"{number(low)} … {number(high)}", note)


def _consistency_tile(summary: Summary) -> Markup | None:
    known = mapping(summary, "inverse_consistency")
    if finite(known.get("mean_mm")) is None:
        return None
    value = [tag("b", gap(known["mean_mm"])), tag("span", "mm", class_="unit")]
    voxels = f"mean {gap(known.get('mean_voxels'), 2)}, max {gap(known.get('max_voxels'), 2)} voxels"
    most = f"max {gap(known.get('max_mm'), 2)} mm; " if finite(known.get("max_mm")) is not None else ""
    return _tile("Inverse consistency", value, most + voxels if finite(known.get("mean_voxels")) is not None else most)


def _time_tile(summary: Summary) -> Markup | None:
    total = lookup(summary, "timings_seconds", "total")
    if finite(total) is None:
        return None
    threads, device = summary.get("threads"), summary.get("device")
    notes = [f"{threads} thread{'' if threads == 1 else 's'}" if threads else None, str(device) if device else None]
    return _tile("Time", tag("b", duration(total)), ", ".join(one for one in notes if one))


def _memory_tile(summary: Summary) -> Markup | None:
    peak = summary.get("peak_memory_mb")
    return None if finite(peak) is None else _tile("Peak memory", tag("b", memory(peak)))


def _label_name(view: RegistrationView, label: str) -> str:
    return view.label_name(int(label)) if label.lstrip("-").isdecimal() else label


def _dice_row(label: str, entry: Any) -> Markup:
    before, after = finite(lookup(entry, "before")), finite(lookup(entry, "after"))
    change = MISSING if before is None or after is None else signed(after - before)
    return tag(
        "tr",
        tag("th", name_of(label), scope="row"),
        tag("td", bar(after or 0.0, before), class_="wide"),
        tag("td", fixed_point(before)),
        tag("td", fixed_point(after)),
        tag("td", change),
    )
