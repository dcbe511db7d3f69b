"use strict";
/* A word that is pointed at, focused or chosen is drawn on both pictures, the others are dimmed. */
(() => {
  const shared = document.getElementById("shared");
  const buttons = () => [...shared.querySelectorAll(".words:not([hidden]) button")];
  let chosen = null;

  const show = (word) => {
    if (word === null) delete shared.dataset.chosen;
    else shared.dataset.chosen = word;
    for (const each of shared.querySelectorAll(".own, .words button")) {
      each.classList.toggle("on", each.dataset.word === word);
    }
  };

  const choose = (word) => {
    chosen = word;
    for (const each of shared.querySelectorAll(".words button")) {
      each.setAttribute("aria-pressed", String(each.dataset.word === word));
    }
    show(word);
  };

  const wordOf = (event) => event.target.closest?.("[data-word]") ?? null;

  shared.addEventListener("mouseover", (event) => {
    const over = wordOf(event);
    show(over ? over.dataset.word : chosen);
  });
  shared.addEventListener("mouseleave", () => show(chosen));
  shared.addEventListener("focusin", (event) => {
    const focused = wordOf(event);
    if (focused) show(focused.dataset.word);
  });
  shared.addEventListener("focusout", () => show(chosen));
  shared.addEventListener("click", (event) => {
    const clicked = wordOf(event);
    if (clicked) choose(clicked.dataset.word === chosen ? null : clicked.dataset.word);
  });
  shared.addEventListener("change", (event) => {
    for (const each of shared.querySelectorAll("[data-layer]")) {
      each.hidden = each.dataset.layer !== event.target.value;
    }
    choose(null);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      choose(null);
      return;
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const all = buttons();
    const at = all.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    all[Math.min(Math.max(at + step, 0), all.length - 1)].focus();
  });
  document.documentElement.dataset.ready = String(buttons().length);
})();
