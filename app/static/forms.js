/* Forms that call the API: <form data-form> with buttons of
 *   data-send="PATCH /api/v1/..."  method and address; the named fields are the body
 *   data-under="settings"          the body is {"settings": {...}}
 *   data-done="sentence"           what to say afterwards
 * A field of data-kind="number" is sent as a number, or null where it is empty; one of
 * data-kind="text" as null where it is empty.
 */
(() => {
  "use strict";
  const { call, notice } = window.retro;
  if (window.retro.forms) return;
  window.retro.forms = true;

  function valueOf(field) {
    const text = field.value.trim();
    if (field.dataset.kind && text === "") return null;
    return field.dataset.kind === "number" ? Number(text) : text;
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-form]");
    if (!form) return;
    event.preventDefault();
    const button = event.submitter;
    if (!button?.dataset.send || form.dataset.busy) return;
    const values = {};
    for (const field of form.elements) if (field.name) values[field.name] = valueOf(field);
    const { send, under, done } = button.dataset;
    const [method, address] = send.split(" ");
    form.dataset.busy = "yes";
    try {
      await call(method, address, under ? { [under]: values } : values);
      if (done) notice(done, "good");
    } catch (error) {
      notice(error.message);
    } finally {
      delete form.dataset.busy;
    }
  });
})();
