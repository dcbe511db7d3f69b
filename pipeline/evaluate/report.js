"use strict";
/* One panel for all tiles. Names are set as text, never as markup. */
(() => {
  const panel = document.getElementById("panel");
  const layers = JSON.parse(panel.dataset.layers);
  let shown = null;

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const layerLine = (layer, similarity, mapped) => {
    const line = element("div", "layer");
    line.append(element("span", "layer-name", layer.name));
    const track = element("span", "track");
    const lifted = element("i", "lifted");
    lifted.style.width = `${100 * mapped}%`;
    const plain = element("i", "plain");
    plain.style.width = `${100 * similarity}%`;
    track.append(lifted, plain);
    line.append(track);
    const values = `S ${similarity.toFixed(3)} → ${layer.mapped} ${mapped.toFixed(3)}`;
    line.append(element("span", "values", values));
    return line;
  };

  const place = (tile) => {
    if (window.matchMedia("(max-width: 640px)").matches) {
      panel.style.left = panel.style.top = "";
      return;
    }
    const box = tile.getBoundingClientRect();
    const width = panel.offsetWidth, height = panel.offsetHeight;
    const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2), innerWidth - width - 8);
    const below = box.bottom + 8 + height < innerHeight;
    panel.style.left = `${left}px`;
    panel.style.top = `${below ? box.bottom + 8 : Math.max(8, box.top - height - 8)}px`;
  };

  const show = (tile) => {
    if (shown === tile) return;
    hide();
    shown = tile;
    tile.classList.add("shown");
    const { name, rank, score, s, f, ranking } = tile.dataset;
    const picture = tile.querySelector(".pic").cloneNode(false);
    const head = element("div", "panel-head");
    const title = element("div");
    title.append(element("p", "panel-name", name));
    title.append(element("p", "panel-rank", `rank ${rank} by ${ranking}, score ${score}`));
    head.append(picture, title);
    const mapped = f.split(" ").map(Number);
    const lines = s.split(" ").map((value, i) => layerLine(layers[i], Number(value), mapped[i]));
    panel.replaceChildren(head, ...lines);
    panel.hidden = false;
    place(tile);
  };

  const hide = () => {
    if (shown) shown.classList.remove("shown");
    shown = null;
    panel.hidden = true;
  };

  const tileOf = (event) => event.target.closest?.(".tile");
  document.addEventListener("mouseover", (event) => {
    const tile = tileOf(event);
    if (tile) show(tile);
    else if (!shown?.matches(":focus")) hide();
  });
  document.addEventListener("focusin", (event) => tileOf(event) && show(tileOf(event)));
  document.addEventListener("focusout", hide);
  document.addEventListener("click", (event) => (tileOf(event) ? show(tileOf(event)) : hide()));
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  document.addEventListener("scroll", () => shown && place(shown), { passive: true, capture: true });
  document.documentElement.dataset.ready = String(document.querySelectorAll(".tile").length);
})();
