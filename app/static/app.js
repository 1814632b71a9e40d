/* Behaviour of all pages. Elements say what they do in data attributes:
 *   data-call="POST /api/v1/..."   calls the API; data-body holds its JSON
 *   data-confirm="question"        asks first
 *   data-asks="{...}"              asks for a number first, which goes into the body
 *   data-then="/address"           where to go afterwards; {id} comes from the answer
 *   data-copy="selector"           copies the text of an element
 * Text from the server is only ever set as textContent here. Scripts of single pages build on
 * what stands in window.retro.
 */
(() => {
  "use strict";
  if (window.retro) return;
  window.retro = {};

  const find = (selector, root = document) => root.querySelector(selector);
  const make = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  function notice(text, kind = "bad") {
    let box = find("#notices");
    if (!box) {
      box = make("div");
      box.id = "notices";
      box.setAttribute("role", "status");
      box.setAttribute("aria-live", "polite");
      document.body.append(box);
    }
    const note = make("div", `notice ${kind}`, text);
    box.append(note);
    setTimeout(() => note.remove(), 9000);
  }

  async function call(method, address, body) {
    const options = { method, headers: { accept: "application/json" } };
    if (body instanceof FormData) options.body = body;
    else if (body !== undefined) {
      options.headers["content-type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    const response = await fetch(address, options);
    if (response.status === 401) {
      location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    }
    const text = await response.text();
    let value = {};
    try { value = text ? JSON.parse(text) : {}; } catch { value = { detail: text }; }
    if (!response.ok) throw new Error(value.detail || `The server answered ${response.status}.`);
    return value;
  }

  function openDialog(question, { refuse, accept, kind, input }) {
    return new Promise((resolve) => {
      const dialog = make("dialog", "ask");
      const form = make("form");
      form.method = "dialog";
      const row = make("div", "row end");
      const no = make("button", "plain", refuse);
      no.type = "button"; // Enter in the field must not press this one
      no.addEventListener("click", () => dialog.close("no"));
      const yes = make("button", kind, accept);
      yes.value = "yes";
      row.append(no, yes);
      const text = make(input ? "label" : "p", "", question);
      if (input) text.append(input);
      form.append(text, row);
      dialog.append(form);
      dialog.addEventListener("close", () => {
        resolve(dialog.returnValue === "yes");
        dialog.remove();
      });
      document.body.append(dialog);
      dialog.showModal();
      (input || no).focus();
    });
  }

  const ask = (question, label) =>
    openDialog(question, { refuse: "Keep it", accept: label, kind: "danger" });

  /* Returns {field: number}, or null if the person changed their mind. */
  async function askNumber({ text, field, value, lowest }, label) {
    const input = make("input");
    Object.assign(input, { type: "number", value, min: lowest, step: 1, required: true, id: field });
    const choice = { refuse: "Cancel", accept: label, kind: "primary", input };
    return (await openDialog(text, choice)) ? { [field]: input.valueAsNumber } : null;
  }

  /* Not "disabled": whether a button can be pressed is told by the server, which may say so
   * while the request is under way. */
  const busy = new WeakSet();

  async function act(element) {
    if (element.disabled || busy.has(element)) return;
    const { call: what, confirm: question, asks, then } = element.dataset;
    const label = element.textContent.trim();
    if (question && !(await ask(question, label))) return;
    let body = element.dataset.body ? JSON.parse(element.dataset.body) : undefined;
    if (asks) {
      const given = await askNumber(JSON.parse(asks), label);
      if (!given) return;
      body = { ...body, ...given };
    }
    const [method, address] = what.split(" ");
    busy.add(element);
    element.setAttribute("aria-busy", "true");
    try {
      const answer = await call(method, address, body);
      if (then) window.retro.go(then.replaceAll("{id}", encodeURIComponent(answer.id ?? "")));
      else if (element.dataset.done) notice(element.dataset.done, "good");
    } catch (error) {
      notice(error.message);
    } finally {
      setTimeout(() => { busy.delete(element); element.removeAttribute("aria-busy"); }, 600);
    }
  }

  /* Upload: relative paths are kept, files go in batches, every file gets an answer. */
  const BATCH_FILES = 400;
  const BATCH_BYTES = 16e6;

  function pathOf(file) {
    return file.relativePath || file.webkitRelativePath || file.name;
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

  const reportKey = (corpus) => `retro-upload-${corpus}`;

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
    const bar = find(".upload-bar", box), line = find(".upload-line", box);
    bar.hidden = false;
    bar.value = 0;
    const leave = (event) => event.preventDefault();
    window.addEventListener("beforeunload", leave);
    let corpus = box.dataset.corpus;
    const report = { accepted: 0, bytes: 0, notes: [], skipped: [] };
    try {
      if (!corpus) {
        const root = pathOf(files[0]).split("/");
        const name = root.length > 1 ? root[0] : files[0].name.replace(/\.[^.]+$/, "");
        corpus = (await call("POST", "/api/v1/corpora", { name: name.slice(0, 100) || "corpus" })).id;
      }
      let done = 0;
      for (const batch of batches(files)) {
        line.textContent = `Uploading ${done.toLocaleString()} of ${files.length.toLocaleString()} files`;
        const form = new FormData();
        for (const file of batch) {
          form.append("files", file, "file");
          form.append("paths", pathOf(file));
        }
        const answer = await call("POST", `/api/v1/corpora/${corpus}/files`, form);
        for (const item of answer.accepted) {
          report.accepted += 1;
          report.bytes += item.bytes;
          if (item.note) report.notes.push({ path: item.path, reason: item.note });
        }
        report.skipped.push(...answer.skipped);
        done += batch.length;
        bar.value = done / files.length;
      }
      line.textContent = `${report.accepted.toLocaleString()} files accepted`;
    } catch (error) {
      report.failed = error.message;
      line.textContent = error.message;
      notice(error.message);
    } finally {
      delete box.dataset.busy;
      window.removeEventListener("beforeunload", leave);
    }
    if (!corpus) return;
    report.skippedCount = report.skipped.length;
    report.skipped = report.skipped.slice(0, 500);
    report.notes = report.notes.slice(0, 500);
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
    place.replaceChildren();
    const head = make("p", "report-head");
    head.append(make("b", "", `${report.accepted.toLocaleString()} accepted`));
    head.append(make("span", "", `${report.skippedCount.toLocaleString()} skipped`));
    place.append(head);
    if (report.failed) place.append(make("p", "bad-text", report.failed));
    for (const [title, rows, open] of [["Skipped", report.skipped, true], ["Accepted with a note", report.notes, false]]) {
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

  async function copy(text) {
    try { await navigator.clipboard.writeText(text); notice("Copied.", "good"); }
    catch { notice("The browser did not allow copying. Select the text and copy it."); }
  }

  document.addEventListener("click", async (event) => {
    const element = event.target.closest("[data-call],[data-copy],[data-pick]");
    if (!element) return;
    if (element.dataset.call) { event.preventDefault(); await act(element); }
    else if (element.dataset.pick) find(element.dataset.pick)?.click();
    else await copy(element.dataset.copy === "address" ? location.href : find(element.dataset.copy)?.textContent);
  });
  document.addEventListener("change", async (event) => {
    const input = event.target.closest("input[data-upload]");
    if (!input) return;
    const files = [...input.files];
    const box = input.closest(".upload");
    await upload(box, files);
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

  /* Gradio's drop-down lists open at any key, a moment later: also at the one that leaves them,
   * and then they lie over the page until it is left. */
  const LEAVING = ["Tab", "Shift", "Control", "Alt", "Meta"];
  document.addEventListener("keydown", (event) => {
    if (LEAVING.includes(event.key) && event.target.matches?.("input[role=combobox]")) event.stopPropagation();
  }, true);

  /* Light or dark, see theme.js. */
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("input[data-theme]")) window.retroTheme.choose(event.target.value);
  });
  function showTheme() {
    const input = find(`input[data-theme][value="${window.retroTheme.choice()}"]`);
    if (input && !input.checked) input.checked = true;
  }

  /* A live part is replaced when it changes. Focus, open details, scrolled boxes and a click
   * that began before the replacement must not be lost. */
  const keyOf = (element) => {
    const part = element.closest(".block[id]");
    if (!part) return null;
    if (element.id) return `#${CSS.escape(element.id)}`;
    const kind = element.tagName.toLowerCase();
    for (const name of ["data-call", "href"]) {
      const value = element.getAttribute(name);
      const selector = value && `#${part.id} ${kind}[${name}="${CSS.escape(value)}"]`;
      if (selector && document.querySelectorAll(selector).length === 1) return selector;
    }
    const same = [...part.querySelectorAll(kind)];
    return `#${part.id} ${kind}:nth-match(${same.indexOf(element)})`;
  };
  const byKey = (key) => {
    const match = /^(#\S+) (\w+):nth-match\((\d+)\)$/.exec(key);
    return match ? document.querySelectorAll(`${match[1]} ${match[2]}`)[match[3]] : find(key);
  };
  let focused = null, pressed = null;
  const opened = new Map(), scrolled = new Map();
  document.addEventListener("focusin", (event) => {
    const key = keyOf(event.target);
    focused = key ? { key, element: event.target } : null;
  });
  document.addEventListener("pointerdown", (event) => {
    const element = event.target.closest?.("a,button,summary,[data-card]");
    pressed = element ? { key: keyOf(element), element } : null;
  });
  document.addEventListener("click", (event) => {
    const lost = pressed && !pressed.element.isConnected && pressed.key ? pressed.key : null;
    pressed = null;
    if (!lost || event.target.closest("a,button,summary")) return;
    const now = byKey(lost);
    const box = now?.getBoundingClientRect();
    if (box && event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom) now.click();
  });
  document.addEventListener("toggle", (event) => {
    const key = event.target.tagName === "DETAILS" && keyOf(event.target);
    if (key) opened.set(key, event.target.open);
  }, true);
  document.addEventListener("scroll", (event) => {
    const key = event.target.matches?.(".log,.side,ul.reasons") && keyOf(event.target);
    if (key) scrolled.set(key, event.target.scrollTop);
  }, true);

  function restore() {
    for (const [key, open] of opened) {
      const details = byKey(key);
      if (details && details.open !== open) details.open = open;
    }
    for (const [key, top] of scrolled) {
      const box = byKey(key);
      if (box && !box.scrollTop && top) box.scrollTop = top;
    }
    for (const log of document.querySelectorAll(".log")) {
      if (!scrolled.has(keyOf(log)) && log.scrollTop === 0) log.scrollTop = log.scrollHeight;
    }
    if (focused && !focused.element.isConnected && document.activeElement === document.body) {
      const element = byKey(focused.key);
      if (element) element.focus({ preventScroll: true });
    }
  }

  function title() {
    const header = find("[data-title]");
    const wanted = header ? `${header.dataset.title} - RETRO` : "RETRO";
    if (document.title !== wanted) document.title = wanted;
  }

  /* Called after every change of the page. */
  const listeners = [];
  Object.assign(window.retro, {
    find, make, notice, call, ask, copy,
    go: (address) => { location.href = address; },
    onChange: (listener) => { listeners.push(listener); listener(); },
  });

  let planned = false;
  const refresh = () => {
    planned = false;
    restore();
    title();
    showTheme();
    showReport();
    for (const listener of listeners) listener();
  };
  new MutationObserver(() => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(refresh);
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
  refresh();
})();
