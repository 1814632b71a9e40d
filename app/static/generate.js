/* The Generate page: which card is in focus, runs marked on both sides, keys, and going from one
 * text to the next without loading the page again. What follows from the text is rendered by the
 * server and may be replaced at any moment, so nothing is kept in elements.
 */
(() => {
  "use strict";
  const { find, make, notice, call, copy, onChange, showNow } = window.retro;
  const load = window.retro.go;

  const isHere = () => Boolean(find("#generate"));

  /* Another text on the same page. */
  function show(query, push = true) {
    const address = `/generate?${new URLSearchParams(query)}`;
    if (!isHere()) { load(address); return; }
    if (push) history.pushState(null, "", address);
    showNow();
    bringIntoView();
  }

  const queryOf = (url) => Object.fromEntries(url.searchParams);

  window.retro.go = (address) => {
    const url = new URL(address, location.href);
    if (isHere() && url.pathname === "/generate" && url.searchParams.has("gen")) show(queryOf(url));
    else load(address);
  };

  function bringIntoView() {
    // On a phone the text is below the settings.
    const output = find("#output");
    if (output && output.getBoundingClientRect().top > innerHeight * 0.7) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      output.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    }
  }

  window.addEventListener("popstate", () => {
    if (isHere()) show(queryOf(new URL(location.href)), false);
  });

  /* The card in focus: its neighbors stand beside the text. */
  const cardId = (variant, index) => `card-${variant.replace(":", "-")}-${index}`;
  let chosen = null, followed = null;

  function showCard() {
    const result = find("#result");
    if (!result) return;
    const { generation, variant, focus, state } = result.dataset;
    if (chosen && chosen.generation !== generation) chosen = null;
    if (state === "running") followed = { generation, id: cardId(variant, focus), first: result.dataset.first };
    // At the end of the writing the focus and, in a long text, the page stay where they were.
    else if (followed?.generation === generation && followed.first !== result.dataset.first) {
      turnTo(followed.first);
      followed = null;
    } else if (!chosen && followed?.generation === generation) {
      const last = find(`#${CSS.escape(followed.id)}`);
      if (last && !last.matches(".prompt, .inherited")) chosen = followed;
    }
    const id = chosen && find(`#${CSS.escape(chosen.id)}`) ? chosen.id : cardId(variant, focus);
    let key = focus;
    for (const card of result.querySelectorAll("[data-card]")) {
      const here = card.id === id;
      card.classList.toggle("focus", here);
      if (here) { card.setAttribute("aria-current", "true"); key = card.dataset.card; }
      else card.removeAttribute("aria-current");
    }
    for (const side of result.querySelectorAll("[data-side]")) side.hidden = side.dataset.side !== key;
  }

  function turnTo(first) {
    const query = { ...queryOf(new URL(location.href)), chunk: first };
    history.replaceState(null, "", `/generate?${new URLSearchParams(query)}`);
    show(query, false);
  }

  function choose(card) {
    const { generation, state, first } = find("#result").dataset;
    chosen = { id: card.id, generation };
    showCard();
    // Who reads an earlier chunk stays on its page, also when the text goes on behind it.
    if (state === "running" && !new URL(location.href).searchParams.has("chunk")) turnTo(first);
  }

  /* A run is marked wherever it stands: in the card and in its neighbors. */
  let marked = null;

  function mark(token) {
    const card = token?.closest("[data-card],[data-side]");
    const run = token?.dataset.run?.split(" ")[0];
    marked = card && run !== undefined
      ? { card: card.dataset.card ?? card.dataset.side, variant: card.dataset.variant, run } : null;
    showMarks();
  }

  function showMarks() {
    const wanted = new Set();
    if (marked) {
      const variant = marked.variant ? `[data-variant="${CSS.escape(marked.variant)}"]` : "";
      for (const place of [`[data-card="${marked.card}"]${variant}`, `[data-side="${marked.card}"]`]) {
        for (const token of document.querySelectorAll(`#result ${place} [data-run~="${marked.run}"]`)) wanted.add(token);
      }
    }
    for (const token of document.querySelectorAll("#result .marked")) {
      if (!wanted.has(token)) token.classList.remove("marked");
    }
    for (const token of wanted) token.classList.add("marked");
  }

  /* What is known of a token, for those who walk through the text with keys. */
  function readOut(token) {
    const box = find("#readout");
    if (!token) { box?.remove(); return; }
    const shown = box ?? make("div");
    shown.id = "readout";
    shown.setAttribute("role", "status");
    shown.textContent = `${JSON.stringify(token.textContent)} ${token.title}`;
    if (!box) document.body.append(shown);
    const place = token.getBoundingClientRect();
    shown.style.left = `${Math.max(8, Math.min(place.left, innerWidth - shown.offsetWidth - 8))}px`;
    shown.style.top = `${place.bottom + 6}px`;
  }

  function walk(card, token, step, byRun) {
    const tokens = [...card.querySelectorAll(":scope > .text .t")];
    const runOf = (one) => one.dataset.run?.split(" ")[0];
    let place = token ? tokens.indexOf(token) + step : (step > 0 ? 0 : tokens.length - 1);
    while (byRun && tokens[place] && (!runOf(tokens[place]) || runOf(tokens[place]) === (token && runOf(token)))) place += step;
    const next = tokens[place];
    if (!next) return;
    if (!card.classList.contains("focus")) choose(card);
    next.tabIndex = -1;
    next.focus({ preventScroll: false });
  }

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) {
      if (event.key === "Enter" && event.target.closest?.("#gen-prompt")) {
        event.preventDefault();
        find("#generate")?.click();
      }
      return;
    }
    const card = event.target.closest?.("[data-card]");
    const token = event.target.matches?.(".t") ? event.target : null;
    if (!card || (event.target !== card && !token)) return;
    const down = event.key === "ArrowDown" || event.key === "j", up = event.key === "ArrowUp" || event.key === "k";
    const right = event.key === "ArrowRight", left = event.key === "ArrowLeft";
    if (down || up) {
      const cards = [...document.querySelectorAll(`#result [data-card][data-variant="${CSS.escape(card.dataset.variant)}"]`)];
      cards[cards.indexOf(card) + (down ? 1 : -1)]?.focus();
    } else if (right || left) walk(card, token, right ? 1 : -1, event.shiftKey);
    else if (event.key === "Enter" || event.key === " ") choose(card);
    else if (event.key === "Escape" && token) card.focus();
    else return;
    event.preventDefault();
  }

  let isGoing = false;

  async function goOn(button) {
    if (isGoing) return;
    const length = Number(find("#gen-max-new-tokens input")?.value);
    isGoing = true;
    try {
      const body = { variant: button.dataset.variant };
      if (Number.isInteger(length) && length > 0) body.max_new_tokens = length;
      const made = await call("POST", `/api/v1/generations/${encodeURIComponent(button.dataset.continue)}/continue`, body);
      show({ gen: made.id });
    } catch (error) {
      notice(error.message);
    } finally {
      isGoing = false;
    }
  }

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (event.defaultPrevented || !target.closest) return;
    const link = target.closest("a[data-soft]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      show(queryOf(new URL(link.href)));
      return;
    }
    const going = target.closest("[data-continue]");
    if (going) { goOn(going); return; }
    const card = target.closest("[data-card]");
    if (!card) return;
    if (target.closest("[data-copy-card]")) copy(find(":scope > .text", card).textContent);
    else if (!target.closest("summary,details,a,button") && !String(getSelection())) choose(card);
  });
  document.addEventListener("keydown", onKey);
  document.addEventListener("mouseover", (event) => {
    const token = event.target.closest?.("#result [data-run]");
    if (token || marked) mark(token);
  });
  document.addEventListener("focusin", (event) => {
    const token = event.target.matches?.("#result .t") ? event.target : null;
    readOut(token);
    if (token || marked) mark(token);
  });
  document.addEventListener("focusout", () => readOut(null));
  document.addEventListener("scroll", () => readOut(null), true);

  onChange(() => { showCard(); if (marked) showMarks(); });
})();
