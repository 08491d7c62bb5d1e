
"use strict";
// Everything on the page can be read without this script: it sorts, filters, reads off curves, and tries thresholds.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const NONE = "\u2013";

  // Elements -------------------------------------------------------------------------------------------------------
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in element) element[key] = value; else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  };
  const draw = (parent, name, attributes) => {
    const element = document.createElementNS(parent.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };
  const action = (text, run) => make("button", { type: "button", className: "act", textContent: text, onclick: run });
  const fixed = (value, digits = 3) => value === null || Number.isNaN(value) ? NONE : value.toFixed(digits);

  // Tables ---------------------------------------------------------------------------------------------------------
  const figure = (text) => parseFloat(text.trim().replace("\u2212", "-"));
  const sort = (table, column, numeric, descending) => {
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => {
      const text = row.cells[column].textContent.trim();
      return { row, key: numeric ? figure(text) : text };
    });
    const sign = descending ? -1 : 1;
    keyed.sort((a, b) => {
      if (!numeric) return sign * a.key.localeCompare(b.key, undefined, { numeric: true });
      if (Number.isNaN(a.key) || Number.isNaN(b.key)) return Number.isNaN(a.key) - Number.isNaN(b.key);
      return sign * (a.key - b.key);
    });
    body.append(...keyed.map((item) => item.row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.hasAttribute("data-plain")) return;
      const numeric = head.classList.contains("num");
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.onclick = () => {
        const before = head.getAttribute("aria-sort");
        const descending = before ? before === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        sort(table, column, numeric, descending);
      };
      head.append(button);
    });
  }
  for (const table of document.querySelectorAll("table[data-filter]")) {
    const rows = [...table.tBodies[0].rows];
    const told = make("span", { className: "muted", role: "status" });
    const input = make("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter classes by name" });
    input.oninput = () => {
      const wanted = input.value.trim().toLowerCase();
      for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
      told.textContent = wanted ? `${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    };
    table.parentElement.before(make("div", { className: "panel" }, input, told));
  }

  // Curves of the classes from their counts ------------------------------------------------------------------------
  const size = (data.last || 0) + 1;
  const counts = (data.steps || []).map((steps) => {
    const right = new Int32Array(size), wrong = new Int32Array(size);
    let from = 0, tp = 0, fp = 0;
    for (let i = 0; i < steps.length; i += 3) {
      const to = from + steps[i];
      right.fill(tp, from, to);
      wrong.fill(fp, from, to);
      tp -= steps[i + 1];
      fp -= steps[i + 2];
      from = to;
    }
    right.fill(tp, from);
    wrong.fill(fp, from);
    return { right, wrong };
  });
  const at = (label, step) => {
    const tp = counts[label].right[step], fp = counts[label].wrong[step], objects = data.truths[label];
    const found = tp + fp;
    return {
      tp, fp, missed: objects - tp, found,
      p: found ? tp / found : 0, r: objects ? tp / objects : 0, f1: found + objects ? 2 * tp / (found + objects) : 0,
    };
  };
  const measured = (data.truths || []).flatMap((objects, label) => objects > 0 ? [label] : []);
  const curves = { pr: { x: data.recalls, of: (label) => (data.pr[label] || []).map((value) => value / 1000) } };
  if (data.steps) {
    const grid = Array.from({ length: size }, (_, step) => step / data.last);
    for (const name of ["f1", "p", "r"]) {
      curves[name] = { x: grid, of: (label) => {
        let last = 0;
        return grid.map((_, step) => {
          const result = at(label, step);
          if (name === "p" && !result.found) return last;
          last = result[name];
          return last;
        });
      } };
    }
  }
  const mean = (lines) => lines[0].map((_, i) => lines.reduce((sum, line) => sum + line[i], 0) / lines.length);

  // Charts that tell what is under the pointer ----------------------------------------------------------------------
  const WIDTH = 480, HEIGHT = 312, LEFT = 40, RIGHT = 12, TOP = 10, BOTTOM = 40;  // as in charts.py
  const px = (x) => LEFT + x * (WIDTH - LEFT - RIGHT), py = (y) => HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM);
  let chosen = -1;
  const series = {};
  const lines = (id) => {
    if (data.lines) {
      const { x, y } = data.lines[id];
      return { x, named: Object.entries(y).map(([name, values]) => [name, values.map((value) => value / 1000)]) };
    }
    if (!measured.length) return { x: curves[id].x, named: [] };
    series[id] ??= { all: measured.map((label) => curves[id].of(label)) };
    series[id].mean ??= mean(series[id].all);
    const shown = chosen >= 0 ? [chosen] : measured.length <= 8 ? measured : [];
    const named = shown.map((label) => [data.classes[label], series[id].all[measured.indexOf(label)]]);
    return { x: curves[id].x, named: [["mean", series[id].mean], ...named] };
  };
  const readers = {
    calibration: (x) => {
      const { low, counts: many, score, precision } = data.calibration;
      const bin = Math.min(low.length - 1, Math.max(0, Math.ceil(x * low.length) - 1));
      const to = bin + 1 < low.length ? low[bin + 1] : 1;
      const text = `score ${fixed(low[bin], 2)} to ${fixed(to, 2)}: ${many[bin]} detections`;
      if (score[bin] === null) return { x, points: [], text };
      return { x: score[bin] / 1000, points: [precision[bin] / 1000], text: `${text}, precision ${fixed(precision[bin] / 1000)}` };
    },
  };
  for (const svg of document.querySelectorAll("svg.chart")) {
    const id = svg.dataset.chart, pointer = svg.querySelector(".pointer");
    const readout = svg.closest("figure").querySelector(".readout"), rest = readout.textContent;
    const word = id === "pr" ? "recall" : "confidence";
    const read = readers[id] || ((x) => {
      const { x: grid, named } = lines(id), step = Math.round(x * (grid.length - 1));
      const text = named.map(([name, values]) => `${name} ${fixed(values[step])}`).join(" \u00b7 ");
      return { x: grid[step], points: named.map(([, values]) => values[step]), text: `${word} ${fixed(grid[step], 2)}: ${text}` };
    });
    let place = 0.5;
    const show = (x) => {
      place = Math.min(1, Math.max(0, x));
      const result = read(place), left = px(result.x).toFixed(1);
      pointer.replaceChildren();
      draw(pointer, "line", { x1: left, x2: left, y1: TOP, y2: HEIGHT - BOTTOM });
      for (const y of result.points) draw(pointer, "circle", { cx: left, cy: py(y).toFixed(1), r: 3.5 });
      readout.textContent = result.text;
    };
    const hide = () => {
      pointer.replaceChildren();
      readout.textContent = rest;
    };
    svg.tabIndex = 0;
    readout.setAttribute("aria-live", "polite");
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show(((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT));
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!way) return;
      event.preventDefault();
      show(Math.round((place + way * (event.shiftKey ? 0.1 : 0.01)) * 100) / 100);
    });
  }
  const highlight = document.getElementById("highlight");
  if (highlight && measured.length > 8) {
    const select = make("select", {}, make("option", { value: -1, textContent: "none" }));
    for (const label of measured) select.append(make("option", { value: label, textContent: data.classes[label] }));
    select.onchange = () => {
      chosen = Number(select.value);
      for (const svg of document.querySelectorAll("#curves svg.chart")) {
        svg.querySelector(".chosen")?.remove();
        if (chosen < 0) continue;
        const { x } = curves[svg.dataset.chart], y = curves[svg.dataset.chart].of(chosen);
        const points = x.map((value, i) => `${px(value).toFixed(1)},${py(y[i]).toFixed(1)}`).join(" ");
        svg.insertBefore(draw(svg, "polyline", { class: "line chosen", points }), svg.querySelector(".pointer"));
      }
    };
    highlight.append(make("label", {}, "Bring out one class ", select));
    highlight.hidden = false;
  }

  // A threshold for each class -------------------------------------------------------------------------------------
  const chooser = document.getElementById("chooser");
  if (chooser) {
    const start = Math.round(data.operating * data.last), rows = [...document.querySelector("#chosen tbody").rows];
    const steps = rows.map(() => start), sliders = [], outputs = [];
    const told = make("p", { role: "status", id: "chosen-means" });
    const text = make("textarea", { readOnly: true, hidden: true, "aria-label": "Thresholds as JSON", id: "chosen-json" });
    const all = make("input", { type: "range", min: 0, max: data.last, value: start, "aria-label": "Confidence of all classes", id: "chosen-all" });
    const confidence = (step) => step / data.last;
    const show = (label) => {
      const cells = rows[label].cells, result = at(label, steps[label]), objects = data.truths[label] > 0;
      outputs[label].textContent = fixed(confidence(steps[label]));
      sliders[label].value = steps[label];
      const values = [
        result.found ? fixed(result.p) : NONE, objects ? fixed(result.r) : NONE, objects ? fixed(result.f1) : NONE,
        result.tp, result.fp, result.missed,
      ];
      values.forEach((value, i) => { cells[i + 2].textContent = value; });
    };
    const total = () => {
      const results = measured.map((label) => at(label, steps[label]));
      const over = (key) => fixed(results.reduce((sum, result) => sum + result[key], 0) / results.length);
      const sum = (key) => rows.reduce((whole, _, label) => whole + at(label, steps[label])[key], 0);
      told.textContent = `Mean over classes: precision ${over("p")}, recall ${over("r")}, F1 ${over("f1")}; `
        + `${sum("tp")} found, ${sum("fp")} wrong, ${sum("missed")} missed.`;
      const thresholds = Object.fromEntries(data.classes.map((name, label) => [name, confidence(steps[label])]));
      text.value = JSON.stringify({ protocol: data.protocol, iou: 0.5, thresholds }, null, 2);
    };
    const choose = (pick) => {
      rows.forEach((_, label) => { steps[label] = pick(label); show(label); });
      total();
    };
    const peak = (values) => values.reduce((best, value, i) => value > values[best] ? i : best, 0);
    rows.forEach((row, label) => {
      const slider = make("input", { type: "range", min: 0, max: data.last, value: start, "aria-label": `Confidence of ${data.classes[label]}` });
      const output = make("span");
      slider.oninput = () => { steps[label] = Number(slider.value); show(label); total(); };
      row.cells[1].replaceChildren(slider, " ", output);
      sliders.push(slider);
      outputs.push(output);
    });
    all.oninput = () => choose(() => Number(all.value));
    const buttons = [
      action("Best F1 of each class", () => choose((label) => data.truths[label] ? peak(curves.f1.of(label)) : steps[label])),
      action("Best mean F1", () => {
        if (!measured.length) return;
        const best = peak(mean(measured.map((label) => curves.f1.of(label))));
        all.value = best;
        choose(() => best);
      }),
      action("Back to the start", () => { all.value = start; choose(() => start); }),
      action("Export as JSON", () => {
        text.hidden = false;
        text.select();
        if (navigator.clipboard) navigator.clipboard.writeText(text.value).catch(() => {});
      }),
    ];
    chooser.append(make("label", {}, "All classes ", all), ...buttons, told, text);
    chooser.hidden = false;
    choose(() => start);
  }

  // The drawn confusion matrix -------------------------------------------------------------------------------------
  const matrix = document.querySelector("svg.matrix");
  if (matrix) {
    const { shown, cells } = data.confusion, many = new Map(), side = matrix.viewBox.baseVal.width, CELL = 10, EDGE = 96;
    const name = (place) => place === shown.length - 1 ? "background" : data.classes[shown[place]];
    for (let i = 0; i < cells.length; i += 3) many.set(`${cells[i]},${cells[i + 1]}`, cells[i + 2]);
    const readout = matrix.closest("figure").querySelector(".readout"), rest = readout.textContent;
    const cursor = matrix.querySelector(".cursor");
    matrix.addEventListener("pointermove", (event) => {
      const box = matrix.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top].map((v) => Math.floor((v / box.width * side - EDGE) / CELL));
      const inside = x >= 0 && y >= 0 && x < shown.length && y < shown.length;
      cursor.setAttribute("visibility", inside ? "visible" : "hidden");
      cursor.setAttribute("x", EDGE + CELL * x);
      cursor.setAttribute("y", EDGE + CELL * y);
      readout.textContent = inside ? `predicted ${name(y)}, true ${name(x)}: ${many.get(`${y},${x}`) || 0}` : rest;
    });
    matrix.addEventListener("pointerleave", () => { cursor.setAttribute("visibility", "hidden"); readout.textContent = rest; });
  }
})();
