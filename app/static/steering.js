/* Two dialogs that begin a new text at a chunk: leave out neighbors, or change them by hand. */
(() => {
  "use strict";
  const { find, make, notice, call } = window.retro;
  let number = 0;

  function field(label, element, value) {
    const box = make("label", "field");
    element.id = `steer-${number += 1}`;
    element.value = value;
    box.append(make("span", "", label), element);
    return box;
  }

  function wholeNumber(value, smallest) {
    const input = make("input");
    input.type = "number";
    input.min = smallest;
    input.step = 1;
    input.value = value;
    return input;
  }

  function button(label, className = "", type = "button") {
    const element = make("button", className, label);
    element.type = type;
    return element;
  }

  /* Shows a form; `read` returns the body of the request, or a text that says what is missing. */
  function open(card, title, hint, content, read) {
    const result = find("#result");
    const index = Number(card.dataset.card);
    const address = `/api/v1/generations/${encodeURIComponent(result.dataset.generation)}/branch`;
    const dialog = make("dialog", "ask steer"), form = make("form"), problem = make("p", "bad-text");
    const heading = make("h2", "", title);
    heading.id = "steer-title";
    dialog.setAttribute("aria-labelledby", heading.id);
    problem.setAttribute("role", "alert");
    const seed = wholeNumber(result.dataset.seed, 0), row = make("div", "row end");
    const cancel = button("Cancel"), go = button("Branch", "primary", "submit");
    row.append(field("Seed", seed, result.dataset.seed), cancel, go);
    row.firstChild.classList.add("push-right");
    // What is wrong is said beside the button that was pressed: the dialog may be scrolled.
    const foot = make("div", "foot");
    foot.append(problem, row);
    form.append(heading, make("p", "dim small", hint), content, foot);
    dialog.append(form);
    cancel.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      dialog.remove();
      find(`#${CSS.escape(card.id)}`)?.focus();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const changes = read();
      if (typeof changes === "string") { problem.textContent = changes; return; }
      const body = { chunk_index: index, variant: card.dataset.variant, ...changes };
      if (seed.value !== "" && seed.value !== result.dataset.seed) body.seed = Number(seed.value);
      go.disabled = true;
      try {
        const made = await call("POST", address, body);
        dialog.close();
        window.retro.go(`/generate?gen=${encodeURIComponent(made.id)}`);
      } catch (error) {
        problem.textContent = error.message;
        go.disabled = false;
      }
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  function tick(label) {
    const box = make("label", "tick"), input = make("input");
    input.type = "checkbox";
    box.append(input, make("span", "", label));
    return [box, input];
  }

  function exclude(card, chunk) {
    const content = make("div", "choices"), chunks = [], documents = new Map();
    const inCorpus = chunk.neighbors.filter((one) => one.chunk_id !== null);
    for (const one of inCorpus) {
      const [box, input] = tick(`Neighbor ${one.rank}: ${nameOf(one)}`);
      chunks.push([input, one.chunk_id]);
      content.append(box);
    }
    for (const path of new Set(inCorpus.map((one) => one.document))) {
      const [box, input] = tick(`The whole document ${path}`);
      documents.set(path, input);
      content.append(box);
    }
    const [offBox, off] = tick("All of them: retrieval off from here on");
    content.append(offBox);
    const num = wholeNumber(find("#result").dataset.neighbors, 1);
    const before = num.value;
    content.append(field("Neighbors for each chunk", num, before));
    open(card, `Write again from chunk ${Number(card.dataset.card) + 1} without ...`,
      "What is ticked is not read again in the new text. With the same seed, only this makes the difference.",
      content, () => {
        const changes = {
          exclude_chunks: chunks.filter(([input]) => input.checked).map(([, id]) => id),
          exclude_documents: [...documents].filter(([, input]) => input.checked).map(([path]) => path),
        };
        if (num.value !== "" && num.value !== before) changes.num_neighbors = Number(num.value);
        if (off.checked) changes.retrieval = "off";
        const some = changes.exclude_chunks.length || changes.exclude_documents.length || changes.num_neighbors || off.checked;
        return some ? changes : "Nothing was ticked or changed. Tick what is to be left out.";
      });
  }

  /* A neighbor with two fields. What was not changed is sent as the chunk that it is. */
  function editable(list, title, values) {
    const box = make("fieldset", "given"), head = make("div", "row");
    const text = make("textarea"), after = make("textarea"), remove = button("Remove", "plain");
    text.rows = 4;
    after.rows = 3;
    head.append(make("b", "path", title), remove);
    box.append(head, field("Text", text, values.text), field("Continuation", after, values.continuation));
    const before = [text.value, after.value], isHand = values.source === "edited" || values.source === "written";
    remove.addEventListener("click", () => {
      const next = box.nextElementSibling?.querySelector("button") ?? box.previousElementSibling?.querySelector("button");
      box.remove();
      (next ?? list.parentElement.querySelector(".add"))?.focus();
    });
    box.read = () => {
      const same = text.value === before[0] && after.value === before[1];
      if (same && !isHand && values.chunk_id !== null) return { chunk_id: values.chunk_id };
      const given = same ? { text: values.text, continuation: values.continuation } : { text: text.value, continuation: after.value };
      return values.chunk_id === null ? given : { chunk_id: values.chunk_id, ...given };
    };
    list.append(box);
    return text;
  }

  const nameOf = (one) => one.document ? `${one.document}${one.num_chunks ? `, chunk ${one.chunk_index + 1} of ${one.num_chunks}` : ""}` : "Written by hand";

  function finder(corpus, list) {
    const box = make("details", "finder"), line = make("div", "row"), words = make("input"), found = make("div");
    const search = button("Find");
    words.type = "search";
    box.append(make("summary", "", "Choose a chunk of the corpus"), line, found);
    line.append(field("Text to search for", words, ""), search);
    const run = async () => {
      search.disabled = true;
      try {
        const answer = await call("POST", `/api/v1/corpora/${encodeURIComponent(corpus)}/search`, { text: words.value, k: 5 });
        found.replaceChildren(...answer.neighbors.map((one) => {
          const row = make("div", "row found"), add = button("Add");
          add.addEventListener("click", () => {
            editable(list, nameOf(one), { ...one, source: "chosen" });
            const next = row.nextElementSibling ?? row.previousElementSibling;
            (next?.querySelector("button") ?? words).focus();
            row.remove();
          });
          row.append(make("span", "path", `${nameOf(one)}: ${one.text.slice(0, 120)}`), add);
          return row;
        }));
        // What was found stands at the end of the dialog, which may be out of sight.
        box.scrollIntoView({ block: "end" });
      } catch (error) {
        found.replaceChildren(make("p", "bad-text", error.message));
      } finally {
        search.disabled = false;
      }
    };
    search.addEventListener("click", run);
    words.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.ctrlKey) { event.preventDefault(); run(); }
    });
    return box;
  }

  function edit(card, chunk) {
    const { corpus } = find("#result").dataset;
    const index = Number(card.dataset.card);
    const content = make("div"), list = make("div", "givens"), add = button("Add one by hand", "add");
    for (const one of chunk.neighbors) {
      editable(list, `${one.rank} ${nameOf(one)}`, { ...one, chunk_id: one.chunk_id ?? null });
    }
    add.addEventListener("click", () => {
      editable(list, "Written by hand", { chunk_id: null, text: "", continuation: "", source: "written" }).focus();
    });
    content.append(list, add);
    if (corpus) content.append(finder(corpus, list));
    const read = () => [...list.children].map((box) => box.read());
    const before = JSON.stringify(read());
    open(card, `Neighbors of chunk ${index + 1}`,
      "The chunk is written again from exactly these; the chunks after it retrieve their own. A text and its continuation may each be one chunk long.",
      content, () => {
        const neighbors = read();
        return JSON.stringify(neighbors) === before ? "Nothing was changed. Change, remove or add a neighbor." : { neighbors };
      });
  }

  /* What is stored, not what is shown: marks stand there for what could mislead the eye. */
  async function chunkOf(card) {
    const id = encodeURIComponent(find("#result").dataset.generation);
    const generation = await call("GET", `/api/v1/generations/${id}`);
    const [mode, sample] = card.dataset.variant.split(":");
    const text = generation[mode] ?? (sample ? generation.samples[Number(sample)] : generation);
    return text.chunks.find((one) => one.index === Number(card.dataset.card));
  }

  document.addEventListener("click", async (event) => {
    const pressed = event.target.closest?.("[data-dialog]");
    if (!pressed) return;
    const card = pressed.closest("[data-card]");
    try {
      const chunk = await chunkOf(card);
      if (pressed.dataset.dialog === "exclude") exclude(card, chunk);
      else edit(card, chunk);
    } catch (error) {
      notice(error.message);
    }
  });
})();
