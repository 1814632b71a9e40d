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

  /* A request without an answer may have been done. What sends it again sends the same key, so
   * that it is not done twice. Not randomUUID(), which pages over plain http do not have. */
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const unanswered = new Map();
  const NO_CONTENT = 204;
  const BROKEN_OFF = "The answer of the server broke off. Try again.";

  async function call(method, address, body) {
    const options = { method, headers: { accept: "application/json" } };
    if (body !== undefined) {
      options.headers["content-type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    const request = `${method} ${address} ${options.body ?? ""}`;
    if (method === "POST") {
      if (!unanswered.has(request)) unanswered.set(request, newKey());
      options.headers["idempotency-key"] = unanswered.get(request);
    }
    const response = await fetch(address, options);
    if (response.status === 401) {
      location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    }
    const text = await response.text();
    let value = {};
    try { value = response.status === NO_CONTENT ? {} : JSON.parse(text); } catch {
      if (response.ok) throw new Error(BROKEN_OFF);
      value = { detail: text };
    }
    if (response.ok) unanswered.delete(request);
    else throw new Error(value.detail || `The server answered ${response.status}.`);
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

  /* Not "disabled": whether a button can be pressed is decided by the server, which may say so
   * while the request is under way. By what is done, not by the element: a page that changes
   * may make "Resume" of the button that was "Pause". */
  const busy = new Set();

  async function act(element) {
    const { call: what, confirm: question, asks, then } = element.dataset;
    const doing = `${what} ${element.dataset.body ?? ""}`;
    if (element.disabled || busy.has(doing)) return;
    const label = element.textContent.trim();
    if (question && !(await ask(question, label))) return;
    let body = element.dataset.body ? JSON.parse(element.dataset.body) : undefined;
    if (asks) {
      const given = await askNumber(JSON.parse(asks), label);
      if (!given) return;
      body = { ...body, ...given };
    }
    const [method, address] = what.split(" ");
    busy.add(doing);
    element.setAttribute("aria-busy", "true");
    const release = () => { busy.delete(doing); element.removeAttribute("aria-busy"); };
    try {
      const answer = await call(method, address, body);
      if (then) window.retro.go(then.replaceAll("{id}", encodeURIComponent(answer.id ?? "")));
      else if (element.dataset.done) notice(element.dataset.done, "good");
      setTimeout(release, 600);
    } catch (error) {
      notice(error.message);
      // What was refused may be tried again at once.
      release();
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
  /* Gradio's drop-down lists open at any key, a moment later: also at the one that leaves them,
   * and then they lie over the page until it is left. */
  const LEAVING = ["Tab", "Shift", "Control", "Alt", "Meta"];
  document.addEventListener("keydown", (event) => {
    if (LEAVING.includes(event.key) && event.target.matches?.("input[role=combobox]")) event.stopPropagation();
  }, true);

  /* Not by its address: that would lose what the page's own address says. */
  document.addEventListener("click", (event) => {
    if (!event.target.matches?.("a.skip")) return;
    event.preventDefault();
    const page = find("#page");
    page.tabIndex = -1;
    page.focus();
  });

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
  let chosen = null;
  document.addEventListener("click", (event) => {
    chosen = event.target.closest?.("summary")?.parentElement ?? chosen;
  }, true);
  document.addEventListener("toggle", (event) => {
    const details = event.target;
    const key = details.tagName === "DETAILS" && keyOf(details);
    if (!key) return;
    // A part that comes anew may close what a person has opened.
    if (!details.open && chosen !== details && opened.get(key)) details.open = true;
    else opened.set(key, details.open);
    chosen = null;
  }, true);
  document.addEventListener("scroll", (event) => {
    const box = event.target;
    const key = box.matches?.(".log,.side,ul.reasons") && keyOf(box);
    if (!key) return;
    // A log whose end is in view follows what is added to it.
    const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    if (atEnd && box.matches(".log")) scrolled.delete(key);
    else scrolled.set(key, box.scrollTop);
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

  /* What the page shows, for the server, which sends what is new: see app/live_page.py. */
  let turn = 0;
  const query = () => Object.fromEntries(new URLSearchParams(location.search));
  function look() {
    const stamps = {};
    for (const mark of document.querySelectorAll("template[data-seen]")) {
      stamps[mark.closest(".block[id]").id] = mark.dataset.seen;
    }
    return JSON.stringify({ turn, query: query(), stamps });
  }

  /* The address has changed: asks for its parts without loading the page again. */
  function showNow() {
    turn += 1;
    find("#show-now").click();
  }

  /* Called after every change of the page. */
  const listeners = [];
  Object.assign(window.retro, {
    find, make, notice, call, newKey, BROKEN_OFF, ask, copy, look, showNow,
    address: () => JSON.stringify(query()),
    go: (address) => { location.href = address; },
    onChange: (listener) => { listeners.push(listener); listener(); },
  });

  let planned = false;
  const refresh = () => {
    planned = false;
    restore();
    title();
    showTheme();
    for (const listener of listeners) listener();
  };
  new MutationObserver(() => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(refresh);
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });
  refresh();
})();
