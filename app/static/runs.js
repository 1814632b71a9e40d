/* The Runs pages: choosing runs to compare, and renaming, tagging and annotating one in place. */
(() => {
  "use strict";
  const { find, make, notice, call, onChange, go } = window.retro;
  const MOST_RUNS = 8;

  /* What is ticked outlives updates of the list. */
  const PICKED = "retro-compare";
  const picked = new Set(JSON.parse(sessionStorage.getItem(PICKED) || "[]"));
  function showPicked() {
    const boxes = [...document.querySelectorAll("[data-compare]")];
    if (!boxes.length) return;
    const there = boxes.map((box) => box.dataset.compare).filter((id) => picked.has(id));
    for (const box of boxes) {
      const wanted = picked.has(box.dataset.compare);
      if (box.checked !== wanted) box.checked = wanted;
    }
    const button = find("#compare");
    if (!button) return;
    button.disabled = there.length < 2;
    const text = there.length < 2 ? "Compare" : `Compare ${there.length} runs`;
    if (button.textContent !== text) button.textContent = text;
    button.dataset.ids = there.join(",");
  }
  document.addEventListener("change", (event) => {
    const box = event.target.closest?.("[data-compare]");
    if (!box) return;
    if (box.checked && document.querySelectorAll("[data-compare]:checked").length > MOST_RUNS) {
      notice(`Up to ${MOST_RUNS} runs can be compared at once. Untick one first.`);
      box.checked = false;
    }
    if (box.checked) picked.add(box.dataset.compare); else picked.delete(box.dataset.compare);
    sessionStorage.setItem(PICKED, JSON.stringify([...picked]));
    showPicked();
  });

  const runId = () => find("#run-title")?.dataset.run;
  async function change(body, done) {
    try {
      const run = await call("PATCH", `/api/v1/runs/${encodeURIComponent(runId())}`, body);
      if (done) notice(done, "good");
      return run;
    } catch (error) {
      notice(error.message);
      return null;
    }
  }

  function rename() {
    const title = find("#run-title"), heading = find("#run-heading"), button = find("#rename");
    if (!title || find("#new-name")) return;
    const input = make("input"), save = make("button", "btn tiny primary", "Save"), leave = make("button", "btn tiny", "Cancel");
    Object.assign(input, { id: "new-name", value: heading.textContent, maxLength: 200 });
    input.setAttribute("aria-label", "Name of the run");
    save.type = leave.type = "button";
    const end = () => {
      for (const element of [input, save, leave]) element.remove();
      heading.hidden = button.hidden = false;
      button.focus();
    };
    const submit = async () => {
      const run = await change({ name: input.value }, "Renamed.");
      if (!run) { input.focus(); return; }
      heading.textContent = run.name;
      end();
    };
    save.addEventListener("click", submit);
    leave.addEventListener("click", end);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") submit();
      if (event.key === "Escape") end();
    });
    heading.hidden = button.hidden = true;
    title.append(input, save, leave);
    input.focus();
    input.select();
  }

  const tags = () => [...document.querySelectorAll("#run-tags [data-tag]")].map((tag) => tag.dataset.tag);
  function showTags(run) {
    const place = find("#run-tags");
    for (const tag of place.querySelectorAll("[data-tag]")) tag.remove();
    for (const tag of run.tags) {
      const chip = make("span", "tag"), link = make("a", "", tag), remove = make("button", "", "\u00d7");
      chip.dataset.tag = tag;
      link.href = `/runs?tag=${encodeURIComponent(tag)}`;
      remove.type = "button";
      remove.dataset.untag = "";
      remove.setAttribute("aria-label", `Remove tag ${tag}`);
      chip.append(link, remove);
      place.insertBefore(chip, find("#add-tag"));
    }
  }

  /* Notes that are not saved yet survive a reload. */
  const draftKey = () => `retro-notes-${runId()}`;
  function keepDraft(area) {
    sessionStorage.setItem(draftKey(), area.value);
    find("#notes-state").textContent = "Not saved yet.";
  }
  function restoreDraft() {
    const area = find("#run-notes-text");
    if (!area || area.dataset.ready || !runId()) return;
    area.dataset.ready = "yes";
    const draft = sessionStorage.getItem(draftKey());
    if (draft === null || draft === area.value) return;
    area.value = draft;
    find("#notes-state").textContent = "Not saved yet.";
  }
  async function saveNotes() {
    const area = find("#run-notes-text"), text = area.value;
    const run = await change({ notes: text });
    if (!run) return;
    sessionStorage.removeItem(draftKey());
    find("#notes-state").textContent = "Saved.";
  }

  document.addEventListener("click", async (event) => {
    const target = event.target.closest?.("#rename,#compare,#save-notes,[data-untag]");
    if (!target) return;
    if (target.id === "rename") rename();
    else if (target.id === "compare") go(`/runs?compare=${target.dataset.ids.split(",").map(encodeURIComponent).join(",")}`);
    else if (target.id === "save-notes") await saveNotes();
    else {
      const gone = target.closest("[data-tag]").dataset.tag;
      const run = await change({ tags: tags().filter((tag) => tag !== gone) });
      if (run) { showTags(run); find("#add-tag").focus(); }
    }
  });
  document.addEventListener("input", (event) => {
    if (event.target.id === "run-notes-text") keepDraft(event.target);
  });
  document.addEventListener("keydown", async (event) => {
    if (event.target.id === "run-notes-text" && event.key === "Enter" && (event.ctrlKey || event.metaKey)) await saveNotes();
    if (event.target.id !== "add-tag" || event.key !== "Enter" || !event.target.value.trim()) return;
    const input = event.target;
    const run = await change({ tags: [...tags(), input.value] });
    if (run) { input.value = ""; showTags(run); input.focus(); }
  });

  onChange(() => { showPicked(); restoreDraft(); });
})();
