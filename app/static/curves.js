/* The curves of the Runs pages: fetches what the server has, and only what is new while a run
 * trains. The server's live part says with a stamp that there is something new, so nothing is
 * asked for in vain.
 *   #plots            data-runs: ids; data-plots: what to draw; data-mode: "one" or "compare"
 *   [data-stamp]      changes whenever the curves may have
 */
(() => {
  "use strict";
  const { find, make, call, onChange, Plot, charts } = window.retro;
  const { options, keep, view, zoom } = charts;
  const MOST_POINTS = 1500;
  let page = null;

  function toolbar() {
    const bar = make("div", "row plot-tools");
    const label = make("label", "row small");
    const range = make("input");
    Object.assign(range, { type: "range", id: "plot-smoothing", min: 0, max: 0.99, step: 0.01 });
    const value = make("output", "num small");
    const show = () => { range.value = options.smooth; value.textContent = options.smooth ? options.smooth.toFixed(2) : "off"; };
    range.addEventListener("input", () => { options.smooth = Number(range.value); show(); keep(); });
    value.htmlFor = range.id;
    label.append(make("span", "", "Smoothing"), range, value);
    const whole = make("button", "btn tiny", "Show all steps");
    Object.assign(whole, { type: "button", id: "plot-whole", hidden: true });
    whole.addEventListener("click", () => zoom(null));
    view.onZoom = () => { whole.hidden = !view.zoom; };
    view.zoom = null;
    show();
    bar.append(label, whole, make("span", "dim small plot-help", "Drag to look closer, arrow keys read values."));
    return bar;
  }

  function choice(abouts, chosen, onPick) {
    const label = make("label", "row small"), select = make("select");
    select.id = "compare-metric";
    for (const about of abouts) {
      const option = make("option", "", about.title);
      option.value = about.metric;
      option.selected = about.metric === chosen;
      select.append(option);
    }
    select.addEventListener("change", () => onPick(select.value));
    label.append(make("span", "", "Curve"), select);
    return label;
  }

  function mount(root) {
    const abouts = JSON.parse(root.dataset.plots);
    page = { root, abouts, ids: root.dataset.runs.split(","), compare: root.dataset.mode === "compare",
      runs: new Map(), stamp: null, busy: false, plots: [] };
    const tools = toolbar();
    if (page.compare) {
      const wanted = new URL(location.href).searchParams.get("metric");
      page.metric = (abouts.find((about) => about.metric === wanted) || abouts[0]).metric;
      tools.prepend(choice(abouts, page.metric, (metric) => {
        const url = new URL(location.href);
        url.searchParams.set("metric", metric);
        history.replaceState(null, "", url);
        page.metric = metric;
        page.plots[0]?.root.remove();
        page.plots = [];
        load();
      }));
    }
    page.area = make("div", "plot-area");
    page.empty = make("div", "empty", root.dataset.empty);
    page.empty.hidden = true;
    root.replaceChildren(tools, page.empty, page.area);
  }

  function plotsOf() {
    if (!page.plots.length) {
      const abouts = page.compare ? page.abouts.filter((about) => about.metric === page.metric) : page.abouts;
      page.plots = abouts.map((about) => new Plot(about));
      page.area.append(...page.plots.map((plot) => plot.root));
    }
    return page.plots;
  }

  function show() {
    const nothing = { steps: [], values: [] };
    const none = ![...page.runs.values()].some((run) => Object.keys(run.curves).length);
    page.empty.hidden = !none;
    page.area.hidden = none;
    for (const plot of plotsOf()) {
      const { about } = plot;
      plot.setLines(page.compare
        ? page.ids.map((id, index) => {
          const run = page.runs.get(id);
          return { key: id, label: run?.name ?? id, color: `c${index}`, ...(run?.curves[page.metric] ?? nothing) };
        })
        : about.curves.map(({ name, label, color }) => ({ key: name, label, color, ...(page.runs.get(page.ids[0])?.curves[name] ?? nothing) })));
    }
  }

  const lastStep = (run) => Math.max(0, ...Object.values(run.curves).map((curve) => curve.steps.at(-1) ?? 0));

  function merge(known, fresh, since) {
    for (const [name, curve] of Object.entries(fresh.curves)) {
      const old = known.curves[name];
      if (!old) { known.curves[name] = curve; continue; }
      let keepTo = old.steps.length;
      while (keepTo && old.steps[keepTo - 1] >= since) keepTo -= 1;
      known.curves[name] = { steps: [...old.steps.slice(0, keepTo), ...curve.steps], values: [...old.values.slice(0, keepTo), ...curve.values] };
    }
    Object.assign(known, { name: fresh.name, step: fresh.step });
  }

  async function load() {
    const mine = page;
    if (mine.busy) { mine.again = true; return; }
    mine.busy = true;
    try {
      const known = mine.compare ? null : mine.runs.get(mine.ids[0]);
      const since = known ? lastStep(known) : 0;
      const query = new URLSearchParams({ ids: mine.ids.join(",") });
      if (mine.compare) query.set("names", mine.metric);
      if (since) query.set("since_step", since);
      const metric = mine.metric;
      const { runs } = await call("GET", `/api/v1/runs/curves?${query}`);
      if (mine.metric !== metric) { mine.again = true; return; }
      for (const run of runs) {
        const old = mine.runs.get(run.id);
        // After a restart from a checkpoint some steps are measured again.
        const goesOn = since && old && old.job_id === run.job_id && run.step >= old.step;
        if (goesOn) merge(old, run, since);
        else {
          mine.runs.set(run.id, run);
          if (since) { mine.runs.delete(run.id); mine.again = true; }
        }
        const long = goesOn && Object.values(old.curves).some((curve) => curve.steps.length > 2 * MOST_POINTS);
        if (long) { mine.runs.delete(run.id); mine.again = true; }
      }
      if (mine === page && !mine.again) show();
    } catch (error) {
      if (mine === page && !mine.runs.size) {
        mine.empty.textContent = error.message;
        mine.empty.hidden = false;
      }
    } finally {
      mine.busy = false;
      if (mine.again && mine === page) { mine.again = false; load(); }
    }
  }

  onChange(() => {
    const root = find("#plots[data-runs]");
    if (!root) { page = null; return; }
    if (page?.root !== root) mount(root);
    const stamp = find("[data-stamp]")?.dataset.stamp ?? "";
    if (stamp === page.stamp) return;
    page.stamp = stamp;
    load();
  });
})();
