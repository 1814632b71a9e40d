/* Draws curves as SVG in the pixels of the page. A plot is made once and drawn again whenever
 * its data, its size or an option changes, so what has focus or is pointed at stays.
 * Options are kept in the browser and hold on all pages.
 */
(() => {
  "use strict";
  const { make } = window.retro;
  if (window.retro.Plot) return;
  const SVG = "http://www.w3.org/2000/svg";
  const KEY = "retro-charts";
  const EDGE = { left: 58, right: 14, top: 10, bottom: 26 };
  const FEW_POINTS = 40, TABLE_ROWS = 40, MOST_HIDDEN = 200;
  const draw = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };

  /* Options */
  function read() {
    const fresh = { smooth: 0, log: {}, hidden: [] };
    try { return { ...fresh, ...JSON.parse(localStorage.getItem(KEY) || "{}") }; } catch { return fresh; }
  }
  const options = read();
  const plots = new Set();
  function keep() {
    options.hidden = options.hidden.slice(-MOST_HIDDEN);
    try { localStorage.setItem(KEY, JSON.stringify(options)); } catch { /* private mode */ }
    drawAll();
  }
  function drawAll() {
    for (const plot of plots) {
      if (plot.root.isConnected) plot.draw(); else plots.delete(plot);
    }
  }
  window.addEventListener("storage", (event) => {
    if (event.key === KEY) { Object.assign(options, read()); drawAll(); }
  });

  /* The step that is pointed at and the steps that are looked at are those of all plots. */
  const view = { cursor: null, zoom: null, onZoom: () => {} };
  function zoom(range) { view.zoom = range; view.onZoom(); drawAll(); }
  function point(step) { if (step !== view.cursor) { view.cursor = step; drawAll(); } }

  /* Numbers */
  function number(value) {
    if (value === null || value === undefined || !Number.isFinite(value)) return "-";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e7)) return value.toExponential(2);
    if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en-US");
    return String(Number(value.toPrecision(4)));
  }
  function short(value) {
    if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
    if (Math.abs(value) >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
    if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(0);
    return String(Number(value.toPrecision(4)));
  }
  function roundStep(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least * 0.999);
  }
  function linearTicks(low, high, count) {
    const step = roundStep((high - low) / count), ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-12) + step * 1e-9; i += 1) ticks.push(i * step);
    return ticks;
  }
  function logTicks(low, high) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
      for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** power);
    }
    const inside = ticks.filter((tick) => tick >= low && tick <= high);
    const whole = inside.filter((tick) => Math.abs(Math.log10(tick) % 1) < 1e-9);
    if (inside.length > 8) return whole;
    return inside.length >= 2 ? inside : linearTicks(low, high, 4).filter((tick) => tick > 0);
  }

  /* Exponential moving average without the pull of its start towards zero. */
  function smoothed(values, weight) {
    if (!weight) return values;
    let sum = 0, left = 1;
    return values.map((value) => {
      sum = sum * weight + (1 - weight) * value;
      left *= weight;
      return sum / (1 - left);
    });
  }
  function nearest(steps, step) {
    let low = 0, high = steps.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1; else high = middle;
    }
    return low > 0 && step - steps[low - 1] <= steps[low] - step ? low - 1 : low;
  }

  class Plot {
    /* about: { id, title, unit, log, wide }; a line: { key, label, color, steps, values }. */
    constructor(about) {
      this.about = about;
      this.lines = [];
      this.buttons = new Map();
      this.root = make("section", "panel plot");
      this.root.id = `plot-${about.id}`;
      const head = make("div", "plot-head");
      this.title = make("h2", "", about.title);
      this.place = make("span", "plot-step num dim small");
      head.append(this.title, this.place);
      if (about.log) {
        this.logButton = make("button", "btn tiny push", "Log scale");
        this.logButton.type = "button";
        this.logButton.id = `${this.root.id}-log`;
        this.logButton.addEventListener("click", () => {
          options.log[about.id] = !options.log[about.id];
          keep();
        });
        head.append(this.logButton);
      }
      this.legend = make("div", "legend");
      this.legend.setAttribute("role", "group");
      this.legend.setAttribute("aria-label", `Curves of ${about.title}`);
      this.box = make("div", "plot-box");
      this.box.id = `${this.root.id}-box`;
      this.box.tabIndex = 0;
      for (const [name, value] of [["role", "slider"], ["aria-orientation", "horizontal"], ["aria-label", `${about.title}: step to read`]]) this.box.setAttribute(name, value);
      this.svg = draw("svg", { class: "curves", "aria-hidden": "true" });
      this.box.append(this.svg);
      this.note = make("p", "dim small plot-note");
      this.details = make("details", "plot-values");
      this.details.id = `${this.root.id}-values`;
      this.details.append(make("summary", "", "Values as a table"));
      this.details.addEventListener("toggle", () => this.fillTable());
      this.root.append(head, this.legend, this.box, this.note, this.details);
      this.listen();
      new ResizeObserver(() => this.draw()).observe(this.box);
      plots.add(this);
    }

    listen() {
      const { box } = this;
      const stepAt = (event) => {
        const [first, last] = this.range;
        const share = (event.clientX - box.getBoundingClientRect().left - EDGE.left) / Math.max(1, this.inner);
        return first + Math.min(1, Math.max(0, share)) * (last - first);
      };
      let from = null;
      box.addEventListener("pointermove", (event) => {
        if (!this.range) return;
        const step = stepAt(event);
        if (from !== null) this.selection = [Math.min(from, step), Math.max(from, step)];
        point(this.snapped(step));
        if (from !== null) this.draw();
      });
      box.addEventListener("pointerleave", () => { if (from === null && document.activeElement !== box) point(null); });
      box.addEventListener("pointerdown", (event) => {
        if (event.button || event.pointerType === "touch" || !this.range) return;
        from = stepAt(event);
        box.setPointerCapture(event.pointerId);
      });
      const end = () => {
        const chosen = this.selection;
        from = this.selection = null;
        if (chosen && (chosen[1] - chosen[0]) / (this.range[1] - this.range[0]) > 0.01) zoom(chosen);
        else if (chosen) this.draw();
      };
      box.addEventListener("pointerup", end);
      box.addEventListener("pointercancel", end);
      box.addEventListener("dblclick", () => zoom(null));
      box.addEventListener("blur", () => point(null));
      box.addEventListener("keydown", (event) => {
        if (!this.range) return;
        const steps = this.allSteps();
        if (!steps.length) return;
        const at = view.cursor === null ? steps.length - 1 : nearest(steps, view.cursor);
        const far = Math.max(1, Math.round(steps.length / 10));
        const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
          PageDown: at - far, PageUp: at + far, Home: 0, End: steps.length - 1 }[event.key];
        if (to !== undefined) {
          event.preventDefault();
          point(steps[Math.min(steps.length - 1, Math.max(0, view.cursor === null && to !== 0 ? steps.length - 1 : to))]);
        } else if (event.key === "Escape") {
          if (view.zoom) zoom(null); else point(null);
        }
      });
    }

    /* Lines in a fixed order; what is hidden, focused or pointed at is not touched. */
    setLines(lines) {
      this.lines = lines;
      const wanted = lines.map((line) => line.key);
      for (const [key, parts] of this.buttons) {
        if (!wanted.includes(key)) { parts.button.remove(); this.buttons.delete(key); }
      }
      for (const line of lines) {
        let parts = this.buttons.get(line.key);
        if (!parts) {
          const button = make("button", "legend-item");
          button.type = "button";
          button.id = `${this.root.id}-${line.key}`;
          const swatch = draw("svg", { width: 22, height: 8, class: "curves", "aria-hidden": "true" });
          swatch.append(draw("path", { class: `line ${line.color}`, d: "M1 4H21" }));
          const name = make("span", "legend-name"), value = make("b", "num");
          button.append(swatch, name, value);
          button.addEventListener("click", () => {
            const at = options.hidden.indexOf(line.key);
            if (at < 0) options.hidden.push(line.key); else options.hidden.splice(at, 1);
            keep();
          });
          parts = { button, name, value };
          this.buttons.set(line.key, parts);
          this.legend.append(button);
        }
        if (parts.name.textContent !== line.label) parts.name.textContent = line.label;
      }
      this.draw();
      this.fillTable();
    }

    shown() { return this.lines.filter((line) => line.steps.length && !options.hidden.includes(line.key)); }

    allSteps() {
      const [first, last] = this.range;
      return [...new Set(this.shown().flatMap((line) => line.steps))]
        .filter((step) => step >= first && step <= last).sort((a, b) => a - b);
    }

    snapped(step) {
      let best = null;
      for (const { steps } of this.shown()) {
        const found = steps[nearest(steps, step)];
        if (best === null || Math.abs(found - step) < Math.abs(best - step)) best = found;
      }
      return best;
    }

    draw() {
      const width = this.box.clientWidth, height = this.box.clientHeight;
      const hasData = this.lines.some((line) => line.steps.length);
      this.root.classList.toggle("is-empty", !hasData);
      const log = Boolean(this.about.log && options.log[this.about.id]);
      this.logButton?.setAttribute("aria-pressed", String(log));
      const last = Math.max(1, ...this.lines.map((line) => line.steps.at(-1) ?? 0));
      this.range = view.zoom ? [Math.min(view.zoom[0], last), Math.min(view.zoom[1], last)] : [0, last];
      if (this.range[1] <= this.range[0]) this.range = [0, last];
      const shown = this.shown().map((line) => ({ ...line, smooth: smoothed(line.values, options.smooth) }));
      this.readOut(shown);
      this.note.textContent = hasData && !shown.length ? "All curves are hidden. Choose one above." : "";
      if (width < 40 || height < 40) return;
      this.inner = width - EDGE.left - EDGE.right;
      const [first, end] = this.range;
      const inside = shown.flatMap(({ steps, values, smooth }) => (options.smooth ? smooth : values)
        .filter((value, i) => steps[i] >= first && steps[i] <= end && (!log || value > 0)));
      let low = Infinity, high = -Infinity;
      for (const value of inside) { low = Math.min(low, value); high = Math.max(high, value); }
      if (!inside.length) { low = log ? 0.1 : 0; high = 1; }
      if (log) { low /= 1.06; high *= 1.06; } else {
        const margin = (high - low) * 0.06 || Math.abs(high) * 0.06 || 1;
        low = low >= 0 ? Math.max(0, low - margin) : low - margin;
        high += margin;
      }
      const scale = log ? Math.log : (value) => value;
      const bottom = height - EDGE.bottom;
      const x = (step) => EDGE.left + (step - first) / (end - first) * this.inner;
      const y = (value) => bottom - (scale(value) - scale(low)) / (scale(high) - scale(low)) * (bottom - EDGE.top);
      const parts = [];
      for (const tick of log ? logTicks(low, high) : linearTicks(low, high, height < 210 ? 4 : 6)) {
        parts.push(draw("path", { class: "axis", d: `M${EDGE.left} ${Math.round(y(tick)) + 0.5}H${width - EDGE.right}` }),
          draw("text", { x: EDGE.left - 7, y: y(tick) + 4, "text-anchor": "end" }, short(tick)));
      }
      for (const tick of linearTicks(first, end, Math.max(2, Math.floor(this.inner / 110)))) {
        parts.push(draw("text", { x: Math.min(x(tick), width - 16), y: height - 8, "text-anchor": "middle" }, short(tick)));
      }
      const clip = `${this.root.id}-clip`;
      const area = draw("clipPath", { id: clip });
      area.append(draw("rect", { x: EDGE.left, y: EDGE.top - 4, width: Math.max(0, this.inner + 3), height: bottom - EDGE.top + 8 }));
      const group = draw("g", { "clip-path": `url(#${clip})` });
      const path = (steps, values) => {
        let d = "", pen = "M";
        for (let i = 0; i < steps.length; i += 1) {
          if (log && values[i] <= 0) { pen = "M"; continue; }
          d += `${pen}${x(steps[i]).toFixed(1)} ${y(values[i]).toFixed(1)}`;
          pen = "L";
        }
        return d;
      };
      for (const { color, steps, values, smooth } of shown) {
        if (options.smooth) group.append(draw("path", { class: `line raw ${color}`, d: path(steps, values) }));
        group.append(draw("path", { class: `line ${color}`, d: path(steps, smooth) }));
        if (steps.length <= FEW_POINTS) {
          steps.forEach((step, i) => {
            if (!log || smooth[i] > 0) group.append(draw("circle", { class: color, cx: x(step), cy: y(smooth[i]), r: 2.5 }));
          });
        }
      }
      if (this.selection) group.append(draw("rect", { class: "chosen", x: x(this.selection[0]), y: EDGE.top, width: Math.max(0, x(this.selection[1]) - x(this.selection[0])), height: bottom - EDGE.top }));
      if (view.cursor !== null && view.cursor >= first && view.cursor <= end && shown.length) {
        group.append(draw("path", { class: "cursor", d: `M${x(view.cursor).toFixed(1)} ${EDGE.top}V${bottom}` }));
        for (const { color, steps, smooth } of shown) {
          const i = nearest(steps, view.cursor);
          if (!log || smooth[i] > 0) group.append(draw("circle", { class: color, cx: x(steps[i]), cy: y(smooth[i]), r: 4 }));
        }
      }
      this.svg.setAttribute("width", width);
      this.svg.setAttribute("height", height);
      this.svg.replaceChildren(area, ...parts, group);
    }

    /* Values at the step that is pointed at, else the last ones: in the legend, and for readers. */
    readOut(shown) {
      const words = [];
      for (const line of this.lines) {
        const parts = this.buttons.get(line.key);
        if (!parts) continue;
        const visible = shown.find((item) => item.key === line.key);
        parts.button.setAttribute("aria-pressed", String(!options.hidden.includes(line.key)));
        parts.button.hidden = !line.steps.length;
        let text = "";
        if (visible) {
          const i = view.cursor === null ? visible.steps.length - 1 : nearest(visible.steps, view.cursor);
          text = number(visible.smooth[i]);
          words.push(`${line.label} ${text}`);
        }
        if (parts.value.textContent !== text) parts.value.textContent = text;
      }
      const last = Math.max(0, ...shown.map((line) => line.steps.at(-1)));
      const step = view.cursor ?? last;
      const place = view.cursor === null ? "" : `step ${step.toLocaleString("en-US")}`;
      if (this.place.textContent !== place) this.place.textContent = place;
      this.box.setAttribute("aria-valuemin", Math.round(this.range[0]));
      this.box.setAttribute("aria-valuemax", Math.round(this.range[1]));
      this.box.setAttribute("aria-valuenow", Math.round(step));
      this.box.setAttribute("aria-valuetext", `step ${step.toLocaleString("en-US")}: ${words.join(", ") || "no values"}`);
    }

    fillTable() {
      if (!this.details.open) return;
      const lines = this.lines.filter((line) => line.steps.length);
      const steps = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
      const every = Math.max(1, Math.ceil(steps.length / TABLE_ROWS));
      const chosen = steps.filter((_, i) => i % every === 0 || i === steps.length - 1);
      const table = make("table", "list"), head = make("tr"), body = make("tbody"), top = make("thead");
      for (const name of ["Step", ...lines.map((line) => line.label)]) {
        const cell = make("th", "", name);
        cell.scope = "col";
        head.append(cell);
      }
      for (const step of chosen) {
        const row = make("tr");
        row.append(make("td", "num", step.toLocaleString("en-US")));
        for (const line of lines) {
          const i = nearest(line.steps, step);
          row.append(make("td", "num", Math.abs(line.steps[i] - step) <= every ? number(line.values[i]) : ""));
        }
        body.append(row);
      }
      top.append(head);
      table.append(top, body);
      const scroll = make("div", "scroll");
      scroll.append(table);
      this.details.querySelector(".scroll")?.remove();
      this.details.append(scroll);
    }
  }

  Object.assign(window.retro, { Plot, charts: { options, keep, view, zoom } });
})();
