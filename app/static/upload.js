/* Upload: relative paths are kept, files go in batches, every file gets an answer. What was
 * stored stays stored, so an upload that was stopped can be sent again: what is there already
 * is found unchanged.
 */
(() => {
  "use strict";
  const { find, make, notice, call, newKey, BROKEN_OFF, onChange } = window.retro;
  if (window.retro.upload) return;

  const BATCH_FILES = 400;
  const BATCH_BYTES = 16e6;
  const MOST_KEPT = 500;
  const AGAIN_AFTER_MS = [1000, 3000, 8000];
  const NO_SPACE = 507;
  const UNITS = ["bytes", "KB", "MB", "GB", "TB"];

  const pathOf = (file) => file.relativePath || file.webkitRelativePath || file.name;
  const reportKey = (corpus) => `retro-upload-${corpus}`;
  const plural = (number, noun) => `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;

  function size(bytes) {
    let power = 0;
    while (bytes >= 1000 && power < UNITS.length - 1) { bytes /= 1000; power += 1; }
    return `${bytes.toLocaleString(undefined, { maximumFractionDigits: power && bytes < 10 ? 1 : 0 })} ${UNITS[power]}`;
  }

  async function entriesOf(transfer) {
    const files = [];
    const walk = async (entry, prefix) => {
      if (entry.isFile) {
        const file = await new Promise((good, bad) => entry.file(good, bad));
        file.relativePath = prefix + file.name;
        files.push(file);
      } else if (entry.isDirectory) {
        const reader = entry.createReader();
        for (;;) {
          const batch = await new Promise((good, bad) => reader.readEntries(good, bad));
          if (!batch.length) break;
          for (const child of batch) await walk(child, `${prefix}${entry.name}/`);
        }
      }
    };
    const roots = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    for (const entry of roots) await walk(entry, "");
    return files;
  }

  function batches(files) {
    const all = [];
    let current = [], bytes = 0;
    for (const file of files) {
      if (current.length && (current.length >= BATCH_FILES || bytes + file.size > BATCH_BYTES)) {
        all.push(current);
        current = [];
        bytes = 0;
      }
      current.push(file);
      bytes += file.size;
    }
    if (current.length) all.push(current);
    return all;
  }

  /* fetch does not report what has been sent, so this is an XMLHttpRequest. */
  function send(address, form, key, onSent, control) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", address);
      request.setRequestHeader("accept", "application/json");
      request.setRequestHeader("idempotency-key", key);
      request.upload.addEventListener("progress", (event) => onSent(event.loaded));
      request.addEventListener("load", () => {
        if (request.status === 401) {
          location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
        }
        const isGood = request.status >= 200 && request.status < 300;
        let value = {}, isWhole = true;
        try { value = JSON.parse(request.responseText); }
        catch { value = { detail: request.responseText }; isWhole = false; }
        if (isGood && isWhole) { resolve(value); return; }
        const again = isGood || (request.status >= 500 && request.status !== NO_SPACE);
        const reason = isGood ? BROKEN_OFF : value.detail || `The server answered ${request.status}.`;
        reject(Object.assign(new Error(reason), { again }));
      });
      request.addEventListener("error", () =>
        reject(Object.assign(new Error("The connection to the server was lost."), { again: true })));
      request.addEventListener("abort", () => reject(new Error("The upload was stopped.")));
      control.stop = () => request.abort();
      request.send(form);
    });
  }

  /* The key keeps a batch from being stored twice whose answer alone was lost. */
  async function sendSafely(address, form, onSent, control) {
    const key = newKey();
    for (const pause of AGAIN_AFTER_MS) {
      try { return await send(address, form, key, onSent, control); }
      catch (error) { if (!error.again) throw error; }
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (control.stopped) throw new Error("The upload was stopped.");
    }
    return send(address, form, key, onSent, control);
  }

  function add(report, answer) {
    for (const name of Object.keys(report.counts)) report.counts[name] += answer.counts[name];
    for (const item of answer.accepted) {
      report.encodings[item.encoding] = (report.encodings[item.encoding] || 0) + 1;
      if (item.note) report.notes.push({ path: item.path, reason: item.note });
      if (item.change !== "added") report.changes.push({ path: item.path, reason: item.change });
    }
    report.skipped.push(...answer.skipped);
    for (const name of ["notes", "changes", "skipped"]) report[name] = report[name].slice(0, MOST_KEPT);
  }

  async function corpusFor(box, files) {
    if (box.dataset.corpus) return box.dataset.corpus;
    const root = pathOf(files[0]).split("/");
    const name = root.length > 1 ? root[0] : files[0].name.replace(/\.[^.]+$/, "");
    return (await call("POST", "/api/v1/corpora", { name: name.slice(0, 100) || "corpus" })).id;
  }

  async function upload(box, files) {
    if (!files.length) {
      notice("This folder holds no files. Choose a folder with text files.");
      return;
    }
    if (box.dataset.busy) {
      notice("An upload is running. Wait until it has ended.");
      return;
    }
    box.dataset.busy = "yes";
    const bar = find(".upload-bar", box), line = find(".upload-line", box), stop = find(".upload-stop", box);
    const field = find("input[name=text_field]", box)?.value.trim();
    const keep = find("input[name=keep_duplicates]", box)?.checked;
    bar.hidden = stop.hidden = false;
    bar.value = 0;
    const control = { stopped: false, stop: () => {} };
    stop.onclick = () => { control.stopped = true; control.stop(); };
    const leave = (event) => event.preventDefault();
    window.addEventListener("beforeunload", leave);
    const report = {
      counts: { added: 0, replaced: 0, unchanged: 0, skipped: 0, bytes: 0 },
      encodings: {}, skipped: [], notes: [], changes: [],
    };
    const total = files.reduce((sum, file) => sum + file.size, 0) || 1;
    const began = performance.now();
    let corpus = box.dataset.corpus, sentFiles = 0, sentBytes = 0;
    const tell = (bytes) => {
      bar.value = Math.min(1, bytes / total);
      const speed = bytes / Math.max(0.001, (performance.now() - began) / 1000);
      line.textContent = `${sentFiles.toLocaleString()} of ${plural(files.length, "file")}, ` +
        `${size(bytes)} of ${size(total)}, ${size(speed)} per second`;
    };
    try {
      corpus = await corpusFor(box, files);
      for (const batch of batches(files)) {
        if (control.stopped) throw new Error("The upload was stopped.");
        tell(sentBytes);
        const form = new FormData();
        if (field) form.append("text_field", field);
        if (keep) form.append("keep_duplicates", "true");
        let bytes = 0;
        for (const file of batch) {
          form.append("files", file, "file");
          form.append("paths", pathOf(file));
          bytes += file.size;
        }
        const onSent = (loaded) => tell(sentBytes + Math.min(loaded, bytes));
        add(report, await sendSafely(`/api/v1/corpora/${corpus}/files`, form, onSent, control));
        sentFiles += batch.length;
        sentBytes += bytes;
      }
      tell(total);
      const seconds = (performance.now() - began) / 1000;
      line.textContent = `${plural(sentFiles, "file")} in ${seconds.toFixed(1)} s`;
    } catch (error) {
      const { added, replaced } = report.counts;
      report.failed = `${error.message} ${plural(added + replaced, "document")} of the first ` +
        `${plural(sentFiles, "file")} are stored. Upload again to go on: what is stored already is found unchanged.`;
      line.textContent = report.failed;
      notice(error.message);
    } finally {
      delete box.dataset.busy;
      stop.hidden = true;
      window.removeEventListener("beforeunload", leave);
    }
    if (!corpus) return;
    try { sessionStorage.setItem(reportKey(corpus), JSON.stringify(report)); } catch { /* private mode */ }
    if (box.dataset.corpus) showReport();
    else location.href = `/corpora?corpus=${encodeURIComponent(corpus)}`;
  }

  function showReport() {
    const place = find("#upload-report");
    if (!place || !place.dataset.corpus) return;
    const stored = sessionStorage.getItem(reportKey(place.dataset.corpus));
    if (!stored || place.dataset.shown === stored) return;
    place.dataset.shown = stored;
    const report = JSON.parse(stored);
    if (!report.counts) return; // of an earlier version of this page
    const { added, replaced, unchanged, skipped, bytes } = report.counts;
    place.replaceChildren();
    const head = make("p", "report-head");
    head.append(make("b", "", `${(added + replaced + unchanged).toLocaleString()} accepted`));
    if (replaced) head.append(make("span", "", `${replaced.toLocaleString()} replaced`));
    if (unchanged) head.append(make("span", "", `${unchanged.toLocaleString()} unchanged`));
    head.append(make("span", "", `${skipped.toLocaleString()} skipped`));
    head.append(make("span", "dim", size(bytes)));
    const others = Object.entries(report.encodings).filter(([name]) => name !== "utf-8");
    for (const [name, number] of others) head.append(make("span", "dim", `${number.toLocaleString()} ${name}`));
    place.append(head);
    if (report.failed) place.append(make("p", "bad-text", report.failed));
    for (const [title, rows, open] of [
      ["Skipped", report.skipped, true],
      ["Replaced and unchanged", report.changes, false],
      ["Accepted with a note", report.notes, false],
    ]) {
      if (!rows.length) continue;
      const details = make("details", "plain-details");
      details.open = open;
      details.append(make("summary", "", title));
      const list = make("ul", "reasons");
      for (const row of rows) {
        const item = make("li");
        item.append(make("code", "", row.path), make("span", "", row.reason));
        list.append(item);
      }
      details.append(list);
      place.append(details);
    }
  }

  document.addEventListener("change", async (event) => {
    const input = event.target.closest("input[data-upload]");
    if (!input) return;
    const files = [...input.files];
    await upload(input.closest(".upload"), files);
    input.value = "";
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, async (event) => {
      const box = event.target.closest?.(".upload");
      if (!box) return;
      event.preventDefault();
      box.classList.toggle("over", name === "dragover");
      if (name === "drop") {
        try { await upload(box, await entriesOf(event.dataTransfer)); }
        catch (error) { notice(error.message); }
      }
    });
  }

  window.retro.upload = upload;
  onChange(showReport);
})();
