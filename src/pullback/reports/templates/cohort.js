// Sorting, filters and marks of the table of many registrations.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const table = document.getElementById("pairs");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const search = document.getElementById("search");
  const marks = document.getElementById("marks");
  const STORE = "pullback-marks " + location.pathname;
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const visible = () => [...body.rows].filter((row) => !row.hidden);

  // Storage may be forbidden; then marks last as long as the page.
  let kept = {};
  try { kept = JSON.parse(localStorage.getItem(STORE)) ?? {}; } catch { kept = {}; }
  const keep = () => { try { localStorage.setItem(STORE, JSON.stringify(kept)); } catch { /* see above */ } };

  const show = () => {
    const verdicts = new Set([...document.querySelectorAll(".verdict-box:checked")].map((box) => box.value));
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const mark = row.dataset.mark ?? "none";
      row.hidden = !verdicts.has(row.dataset.verdict) || (marks.value !== "all" && marks.value !== mark)
        || !wanted.every((word) => words.get(row).includes(word));
      count += !row.hidden;
    }
    const checked = rows.filter((row) => row.dataset.mark).length;
    document.getElementById("shown").textContent = `${count} of ${rows.length} shown, ${checked} checked`;
  };

  const mark = (row, value) => {
    if (value) row.dataset.mark = value;
    else delete row.dataset.mark;
    for (const button of row.querySelectorAll("[data-mark]")) {
      button.setAttribute("aria-pressed", String(button.dataset.mark === value));
    }
  };

  const setMark = (row, value) => {
    mark(row, value);
    if (value) kept[row.dataset.folder] = value;
    else delete kept[row.dataset.folder];
    keep();
  };

  const valueOf = (row, column) => {
    const value = row.cells[column + 1].dataset.value ?? "";
    return value === "" || Number.isNaN(Number(value)) ? value.toLowerCase() : Number(value);
  };

  // What has no number goes last, whichever way the others are sorted.
  const sort = (head, column) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const known = rows.map((row, index) => ({ row, index, value: valueOf(row, column) }));
    known.sort((a, b) => {
      if ((a.value === "") !== (b.value === "")) return a.value === "" ? 1 : -1;
      const order = typeof a.value === "number" && typeof b.value === "number"
        ? a.value - b.value : String(a.value).localeCompare(String(b.value), undefined, { numeric: true });
      return (up ? order : -order) || a.index - b.index;
    });
    body.append(...known.map((one) => one.row));
  };

  const current = () => document.activeElement?.closest("tbody tr");
  const go = (row) => {
    if (!row) return;
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "center" });
  };
  const step = (by) => {
    const shown = visible();
    const at = shown.indexOf(current());
    go(shown[at < 0 ? 0 : Math.max(0, Math.min(shown.length - 1, at + by))]);
  };
  // The next one is found before the mark may hide this one.
  const judge = (value) => {
    const row = current();
    if (!row) return;
    const shown = visible();
    const next = shown[shown.indexOf(row) + 1] ?? row;
    setMark(row, value);
    show();
    go(next);
  };

  const KEYS = {
    j: () => step(1), k: () => step(-1), a: () => judge("accept"), r: () => judge("reject"), u: () => judge(null),
    Enter: () => current()?.querySelector("a")?.click(), "/": () => search.focus(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input[type=search], select");
    if (typing && event.key === "Escape") step(0);
    if (typing || (event.key === "Enter" && event.target.matches("button, a, input"))) return;
    if (!KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  for (const button of table.tHead.querySelectorAll("button")) {
    button.addEventListener("click", () => sort(button.closest("th"), Number(button.dataset.column)));
  }
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    const button = event.target.closest("[data-mark]:not(tr)");
    if (button) {
      setMark(row, row.dataset.mark === button.dataset.mark ? null : button.dataset.mark);
      show();
    } else if (!event.target.closest("a")) row.focus({ preventScroll: true });
  });
  const titles = [...table.tHead.rows[0].cells].map((head) => head.textContent);
  for (const row of rows) {
    [...row.cells].slice(3).forEach((cell, index) => { cell.dataset.title = titles[index + 3]; });
    mark(row, kept[row.dataset.folder]);
  }
  for (const input of document.querySelectorAll(".verdict-box, #marks")) input.addEventListener("change", show);
  search.addEventListener("input", show);
  const size = document.getElementById("size");
  size.addEventListener("input", () => document.body.style.setProperty("--picture", size.value + "px"));

  document.getElementById("save").addEventListener("click", () => {
    const cell = (text) => '"' + String(text).replaceAll('"', '""') + '"';
    const lines = rows.map((row) => [row.dataset.folder, row.dataset.verdict, row.dataset.mark ?? ""].map(cell).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(["folder,verdict,mark\n" + lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = "marks.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
  show();
})();
