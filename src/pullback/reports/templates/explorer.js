// Slices of the volumes in #volumes, drawn where the reader wants them.
(() => {
  "use strict";
  const source = document.getElementById("volumes");
  const explorer = document.getElementById("explorer");
  if (!source || !explorer) return;
  const data = JSON.parse(source.textContent);
  const root = document.documentElement;
  const PARTNERS = { before: "Before", warped: "After" };
  const FLICKER_MS = 700;
  const GRIP_PIXELS = 16;
  const SLAB_MM = 4;
  const COLOURS = { fixed: "#1ae659", moving: "#ff40e6", both: "#ffffff" };
  const at = [...data.start];
  const volumes = {};
  let blink = false;
  let swapped = false;

  const box = (name) => document.getElementById("show-" + name);
  const shows = (name) => Boolean(box(name)?.checked);
  const mode = () => root.dataset.mode;
  const partner = () => root.dataset.partner;
  const cut = () => Number(document.getElementById("cut").value) / 100;
  const hex = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));
  const DIVERGING = data.diverging.map(hex);
  const ALARM = hex(data.alarm);

  // -1 to 1 on the diverging table.
  const diverging = (value) => {
    const place = (Math.max(-1, Math.min(1, value)) + 1) / 2 * (DIVERGING.length - 1);
    const low = Math.min(Math.floor(place), DIVERGING.length - 2);
    return [0, 1, 2].map((c) => DIVERGING[low][c] + (place - low) * (DIVERGING[low + 1][c] - DIVERGING[low][c]));
  };
  const table = (size, value) => Array.from({ length: size }, (_, index) => diverging(value(index)));
  const DIFFERENCES = table(511, (index) => (index - 255) / 102);
  const half = data.jacobian.levels / 2;
  const JACOBIANS = table(data.jacobian.levels, (level) => (level - half) / (half - 1) * 2);
  JACOBIANS[0] = ALARM;

  // One sprite to one array, x fastest. More than 255 labels need two bytes: the high one is green, and blue is empty;
  // in a grey picture green and blue are the same.
  const read = async (address) => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    const [nx, ny, nz] = data.shape;
    const [width, height] = data.tile;
    const wide = data.labels.length > 255;
    const volume = wide ? new Uint16Array(nx * ny * nz) : new Uint8Array(nx * ny * nz);
    let target = 0;
    for (let z = 0; z < nz; z++) {
      const left = (z % data.columns) * width;
      const top = Math.floor(z / data.columns) * height;
      for (let y = 0; y < ny; y++) {
        let pixel = 4 * ((top + y) * image.width + left);
        for (let x = 0; x < nx; x++, pixel += 4) {
          volume[target++] = pixels[pixel] + (wide && pixels[pixel + 1] !== pixels[pixel + 2] ? 256 * pixels[pixel + 1] : 0);
        }
      }
    }
    return volume;
  };

  // The slice through the crosshair as a picture: patient right on the left, up is up.
  const slice = (name, axes) => {
    const volume = volumes[name];
    if (!volume) return null;
    const strides = [1, data.shape[0], data.shape[0] * data.shape[1]];
    const [across, up, through] = axes;
    const [columns, rows] = [data.shape[across], data.shape[up]];
    const values = new volume.constructor(columns * rows);
    const first = at[through] * strides[through];
    for (let row = 0, target = 0; row < rows; row++) {
      let from = first + (rows - 1 - row) * strides[up] + (columns - 1) * strides[across];
      for (let column = 0; column < columns; column++, from -= strides[across]) values[target++] = volume[from];
    }
    return values;
  };

  const paint = (count, colour) => {
    const pixels = new Uint8ClampedArray(4 * count);
    for (let index = 0; index < count; index++) {
      const [red, green, blue] = colour(index);
      pixels[4 * index] = red;
      pixels[4 * index + 1] = green;
      pixels[4 * index + 2] = blue;
      pixels[4 * index + 3] = 255;
    }
    return pixels;
  };

  const views = data.planes.map(({ name, axes }) => {
    const figure = explorer.querySelector(`[data-plane="${name}"]`);
    const small = document.createElement("canvas");
    small.width = data.shape[axes[0]];
    small.height = data.shape[axes[1]];
    return {
      name, axes, figure, small,
      canvas: figure.querySelector("canvas"),
      shown: figure.querySelector(".shown"),
      slider: figure.querySelector("input"),
      output: figure.querySelector("output"),
    };
  });

  // A picture of one kind, as large as the volume's voxels.
  const compose = (view, kind) => {
    const fixed = slice("fixed", view.axes);
    const moving = slice(partner(), view.axes);
    const one = kind === "fixed" ? fixed : moving;
    let colour = (index) => [one[index], one[index], one[index]];
    if (kind === "overlay") colour = (index) => [moving[index], fixed[index], moving[index]];
    if (kind === "difference") {
      const seen = slice(`${partner()}_seen`, view.axes);
      colour = (index) => DIFFERENCES[seen && !seen[index] ? 255 : moving[index] - fixed[index] + 255];
    }
    if (shows("volume") && volumes.jacobian) {
      const levels = slice("jacobian", view.axes);
      const under = colour;
      colour = (index) => {
        const grey = under(index);
        const tint = JACOBIANS[levels[index]];
        return levels[index] === 0 ? ALARM : grey.map((value, c) => 0.55 * value + 0.85 * tint[c]);
      };
    }
    const pixels = paint(fixed.length, colour);
    view.small.getContext("2d").putImageData(new ImageData(pixels, view.small.width), 0, 0);
    return view.small;
  };

  // Borders between labels, along the edges of voxels: key -> line.
  const borders = (values, columns, rows) => {
    const found = new Set();
    for (let row = 0, index = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, index++) {
        if (column + 1 < columns && values[index] !== values[index + 1]) found.add(2 * index);
        if (row + 1 < rows && values[index] !== values[index + columns]) found.add(2 * index + 1);
      }
    }
    return found;
  };

  const drawBorders = (context, keys, columns, scale, colour) => {
    context.beginPath();
    for (const key of keys) {
      const index = key >> 1;
      const [row, column] = [Math.floor(index / columns), index % columns];
      context.moveTo((column + (key & 1 ? 0 : 1)) * scale[0], (row + (key & 1 ? 1 : 0)) * scale[1]);
      context.lineTo((column + 1) * scale[0], (row + 1) * scale[1]);
    }
    context.strokeStyle = colour;
    context.stroke();
  };

  const drawOutlines = (view, context, scale) => {
    const [columns, rows] = [view.small.width, view.small.height];
    const [one, other] = ["fixed", partner()].map((side) => {
      const labels = slice(side + "_labels", view.axes);
      return labels ? borders(labels, columns, rows) : new Set();
    });
    const both = new Set([...one].filter((key) => other.has(key)));
    const only = (keys) => [...keys].filter((key) => !both.has(key));
    context.lineWidth = Math.max(1, 1.2 * devicePixelRatio);
    context.lineCap = "square";
    drawBorders(context, both, columns, scale, COLOURS.both);
    drawBorders(context, only(one), columns, scale, COLOURS.fixed);
    drawBorders(context, only(other), columns, scale, COLOURS.moving);
  };

  const toPixels = (view, voxel, scale) =>
    [0, 1].map((c) => (data.shape[view.axes[c]] - 0.5 - voxel[view.axes[c]]) * scale[c]);

  const drawPoints = (view, context, scale) => {
    const moved = data.points[partner()];
    const through = view.axes[2];
    context.lineWidth = 1.5 * devicePixelRatio;
    (data.points.fixed ?? []).forEach((voxel, number) => {
      if (Math.abs(voxel[through] - at[through]) * data.spacing[through] > SLAB_MM) return;
      const [x, y] = toPixels(view, voxel, scale);
      const radius = 4 * devicePixelRatio;
      if (moved) {
        const [a, b] = toPixels(view, moved[number], scale);
        context.strokeStyle = COLOURS.both;
        context.beginPath();
        context.moveTo(x, y);
        context.lineTo(a, b);
        context.stroke();
        context.fillStyle = COLOURS.moving;
        context.beginPath();
        context.arc(a, b, radius / 2, 0, 7);
        context.fill();
      }
      context.strokeStyle = COLOURS.fixed;
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.stroke();
    });
  };

  const drawCross = (view, context, scale, width, height) => {
    const [x, y] = toPixels(view, at, scale).map(Math.round);
    const gap = 7 * devicePixelRatio;
    context.fillStyle = "rgb(255 210 80 / 0.75)";
    const thick = Math.max(1, Math.round(devicePixelRatio));
    context.fillRect(0, y, x - gap, thick);
    context.fillRect(x + gap, y, width, thick);
    context.fillRect(x, 0, thick, y - gap);
    context.fillRect(x, y + gap, thick, height);
  };

  const word = (kind) => (kind === "fixed" ? "Fixed" : PARTNERS[partner()]);

  const draw = (view) => {
    const { canvas, small } = view;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((size) => Math.round(size * devicePixelRatio));
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    const put = (kind) => context.drawImage(compose(view, kind), 0, 0, width, height);
    const [front, back] = swapped ? ["moving", "fixed"] : ["fixed", "moving"];
    let title = word(front);
    if (mode() === "overlay" || mode() === "difference") {
      put(mode());
      title = mode() === "overlay" ? "Fixed green, " + word("moving").toLowerCase() + " magenta" : word("moving") + " minus fixed";
    } else if (mode() === "flicker") {
      title = word(blink ? back : front);
      put(blink ? back : front);
    } else {
      put(front);
      const x = Math.round(cut() * width);
      context.save();
      context.beginPath();
      context.rect(x, 0, width, height);
      context.clip();
      put(back);
      context.restore();
      context.fillStyle = "#fff";
      context.fillRect(x, 0, Math.max(1, Math.round(devicePixelRatio)), height);
      context.beginPath();
      context.arc(x, 0.8 * height, 5 * devicePixelRatio, 0, 7);
      context.fill();
      title += " | " + word(back).toLowerCase();
    }
    const scale = [width / small.width, height / small.height];
    if (shows("outlines")) drawOutlines(view, context, scale);
    if (shows("points")) drawPoints(view, context, scale);
    if (shows("cross")) drawCross(view, context, scale, width, height);
    view.shown.textContent = title;
    const through = view.axes[2];
    view.slider.value = at[through];
    view.output.textContent = "xyz"[through] + " = " + text(world()[through], 0) + " mm";
    view.slider.setAttribute("aria-valuetext", view.output.textContent);
  };

  const text = (value, digits) => {
    const rounded = value.toFixed(digits);
    return (Number(rounded) === 0 ? (0).toFixed(digits) : rounded).replace("-", "\u2212");
  };
  const world = () => data.toWorld.slice(0, 3).map((row) => row[3] + at.reduce((sum, voxel, axis) => sum + row[axis] * voxel, 0));
  const value = (name) => volumes[name]?.[at[0] + data.shape[0] * (at[1] + data.shape[1] * at[2])];
  const label = (name) => (value(name) ? data.labels[value(name) - 1] : "none");

  const describe = () => {
    const parts = ["x y z: " + world().map((one) => text(one, 1)).join(", ") + " mm"];
    if (volumes.fixed_labels) {
      parts.push("label: fixed " + label("fixed_labels") + ", " + PARTNERS[partner()].toLowerCase() + " " + label(partner() + "_labels"));
    }
    if (volumes.jacobian) {
      const level = value("jacobian");
      const factor = Math.pow(data.jacobian.limit, (level - half) / (half - 1));
      parts.push("Jacobian: " + (level === 0 ? "0 or below (folded)" : factor.toPrecision(2)));
    }
    document.getElementById("readout").textContent = parts.join(" \u00b7 ");
  };

  let waiting = false;
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (mode() !== "side") views.forEach(draw);
      describe();
    });
  };

  const move = (axis, voxel) => {
    at[axis] = Math.max(0, Math.min(data.shape[axis] - 1, Math.round(voxel)));
    refresh();
  };

  const listen = (view) => {
    const { canvas, axes } = view;
    let grips = false;
    view.slider.addEventListener("input", () => move(axes[2], Number(view.slider.value)));
    const follow = (event) => {
      const frame = canvas.getBoundingClientRect();
      const share = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
      if (event.type === "pointerdown") {
        grips = mode() === "slider" && Math.abs(share[0] - cut()) * frame.width < GRIP_PIXELS;
        canvas.setPointerCapture(event.pointerId);
      }
      if (!event.buttons) return;
      if (grips) document.dispatchEvent(new CustomEvent("set-cut", { detail: 100 * share[0] }));
      else [0, 1].forEach((c) => move(axes[c], data.shape[axes[c]] - 0.5 - share[c] * data.shape[axes[c]]));
    };
    canvas.addEventListener("pointerdown", follow);
    canvas.addEventListener("pointermove", follow);
    canvas.addEventListener("wheel", (event) => {
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      move(axes[2], at[axes[2]] - Math.sign(event.deltaY));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const steps = {
        ArrowLeft: [axes[0], 1], ArrowRight: [axes[0], -1], ArrowUp: [axes[1], 1], ArrowDown: [axes[1], -1],
        PageUp: [axes[2], 1], PageDown: [axes[2], -1],
      };
      if (event.key === " ") swapped = !swapped;
      else if (!steps[event.key]) return;
      event.preventDefault();
      if (steps[event.key]) move(steps[event.key][0], at[steps[event.key][0]] + steps[event.key][1]);
      refresh();
    });
  };

  const press = (name, chosen) => {
    const input = document.querySelector(`input[name=${name}][value=${chosen}]`);
    if (!input) return;
    input.checked = true;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const toggle = (input) => {
    if (!input) return;
    input.checked = !input.checked;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  const SHORTCUTS = {
    s: () => press("mode", "slider"), f: () => press("mode", "flicker"), o: () => press("mode", "overlay"),
    d: () => press("mode", "difference"), b: () => press("partner", partner() === "warped" ? "before" : "warped"),
    l: () => toggle(box("outlines")), p: () => toggle(box("points")), j: () => toggle(box("volume")),
  };

  const start = async () => {
    const names = Object.keys(data.pictures);
    const read_ = await Promise.all(names.map((name) => read(data.pictures[name])));
    names.forEach((name, index) => { volumes[name] = read_[index]; });
    explorer.hidden = false;
    root.classList.add("explores");
    views.forEach(listen);
    document.addEventListener("change", refresh);
    document.addEventListener("cut", refresh);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.isContentEditable) return;
      SHORTCUTS[event.key.toLowerCase()]?.();
    });
    for (const button of document.querySelectorAll("[data-place]")) {
      button.addEventListener("click", () => {
        data.places[Number(button.dataset.place)].forEach((voxel, axis) => { at[axis] = voxel; });
        if (mode() === "side") press("mode", "slider");
        document.getElementById("compare").scrollIntoView();
        views[0].canvas.focus({ preventScroll: true });
        refresh();
      });
    }
    new ResizeObserver(refresh).observe(explorer);
    setInterval(() => {
      if (mode() !== "flicker" || document.hidden) return;
      blink = !blink;
      refresh();
    }, FLICKER_MS);
    refresh();
  };
  start().catch(() => root.classList.remove("explores")); // the slices of the page stay as they are
})();
