/* Light or dark, before anything is painted: this script is not deferred.
 * The choice is "light" or "dark"; without one the system decides. It stays in this browser.
 * Styles look for the class "dark" on html; Gradio has one of its own on body, which follows.
 */
(() => {
  "use strict";
  if (window.retroTheme) return;
  const KEY = "retro-theme";
  const CHOICES = ["auto", "light", "dark"];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  function choice() {
    try {
      const stored = localStorage.getItem(KEY);
      return CHOICES.includes(stored) ? stored : "auto";
    } catch { return "auto"; } // private mode
  }

  function apply() {
    const chosen = choice();
    const dark = chosen === "dark" || (chosen === "auto" && system.matches);
    for (const element of [root, document.body]) {
      if (element && element.classList.contains("dark") !== dark) element.classList.toggle("dark", dark);
    }
    root.style.colorScheme = dark ? "dark" : "light";
  }

  function choose(name) {
    try { localStorage.setItem(KEY, name); } catch { /* private mode: for this page only */ }
    apply();
  }

  apply();
  system.addEventListener("change", apply);
  window.addEventListener("storage", (event) => { if (event.key === KEY) apply(); });
  // Gradio sets its class when it starts, and again when the system changes.
  const watch = new MutationObserver(apply);
  const watchBody = () => {
    apply();
    watch.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  };
  if (document.body) watchBody();
  else {
    const wait = new MutationObserver(() => {
      if (!document.body) return;
      wait.disconnect();
      watchBody();
    });
    wait.observe(root, { childList: true });
  }
  window.retroTheme = { choice, choose };
})();
