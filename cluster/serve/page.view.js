"use strict";
// What is drawn: results, and the controls of layers. Names come from strangers, so text is only
// ever set as text.

function made(kind, className, text) {
  const element = document.createElement(kind);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function thumbnail(id, size) {
  return `/pictures/${id}/thumbnail?size=${size}`;
}

function bar(s, f, spec) {
  const track = made("span", "bar");
  track.setAttribute("aria-hidden", "true");
  const part = (className, name, value) => {
    const line = made("i", className);
    line.style[name] = `${(100 * Math.min(Math.max(value, 0), 1)).toFixed(2)}%`;
    track.append(line);
  };
  part("lifted", "width", f);
  part("as-is", "width", s);
  if (spec.t < 1 && spec.p < 1) part("tick", "left", spec.t);
  return track;
}

function card(hit, spec, before) {
  const item = made("li", "hit");
  item.dataset.id = hit.image_id;
  if (before !== undefined && hit.rank < before) item.classList.add("up");
  if (hit.image_id === state.query?.id) item.classList.add("itself");
  const itself = item.classList.contains("itself") ? ", the query itself" : "";
  const picture = made("button", "pic");
  picture.type = "button";
  picture.title = `Search on with ${hit.name}`;
  picture.setAttribute("aria-label", `${hit.rank}: ${hit.name}${itself}, search on with it`);
  const image = made("img");
  image.loading = "lazy";
  image.alt = "";
  image.src = thumbnail(hit.image_id, 320);
  image.addEventListener("error", () => image.replaceWith(made("span", "", "no picture")));
  picture.append(image);
  const about = made("div", "about");
  const label = made("div", "label");
  label.title = hit.name;
  label.append(made("bdi", "", hit.name));
  about.append(label);
  const known = Object.entries(hit.meta).filter(([, value]) => value !== null);
  if (known.length) {
    const kept = made("div", "kept", known.map(([name, value]) => `${name} ${value}`).join(" · "));
    kept.title = kept.textContent;
    about.append(kept);
  }
  for (const each of spec) {
    const s = hit.similarities[each.layer];
    const f = hit.mapped[each.layer];
    const line = made("div", "line");
    line.title = `${each.layer}: S ${s.toFixed(4)}, f(S) ${f.toFixed(4)}`;
    line.append(made("span", "", each.layer), bar(s, f, each), made("span", "", s.toFixed(2)));
    about.append(line);
  }
  const foot = made("div", "foot");
  const why = made("button", "link", "Why?");
  why.type = "button";
  why.setAttribute("aria-label", `Why ${hit.name} is at rank ${hit.rank}`);
  foot.append(made("span", "", `F ${hit.score.toFixed(3)}`), why);
  about.append(foot);
  item.append(picture, made("span", "rank", hit.rank), about);
  return item;
}

function nothing(text) {
  const list = $("results");
  list.classList.add("empty");
  list.replaceChildren(made("li", "nothing", text));
  $("legend").hidden = true;
}

// Show results; those that have moved up flash, and the one with the focus keeps it.
function show(hits, spec) {
  const list = $("results");
  const before = new Map();
  [...list.querySelectorAll(".hit")].forEach((each, n) => before.set(each.dataset.id, n + 1));
  const focused = document.activeElement?.closest?.(".hit")?.dataset.id;
  list.classList.remove("empty");
  list.replaceChildren(...hits.slice(0, state.k).map((hit) => card(hit, spec, before.get(hit.image_id))));
  if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"] .pic`)?.focus();
  $("legend").hidden = !hits.length;
  if (!hits.length) nothing("No picture answers that.");
}

function slider(layer, name, changed) {
  const label = made("label", "slide");
  const input = made("input");
  Object.assign(input, { type: "range", min: 0, max: 1, step: 0.01, value: state[name][layer] });
  input.dataset.of = `${layer}.${name}`;
  input.setAttribute("aria-label", `${name} of ${layer}`);
  const value = made("output", "", Number(state[name][layer]).toFixed(2));
  input.addEventListener("input", () => {
    state[name][layer] = Number(input.value);
    value.textContent = Number(input.value).toFixed(2);
    changed(layer);
  });
  label.title = name === "t" ? "the similarity above which the map lifts" : "the power of the map: the less, the flatter";
  label.append(made("span", "", name), input, value);
  return label;
}

function drawing(layer) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 92 46");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `the map of ${layer.layer}`);
  for (const [name, path] of [["plain-line", curve(1, 1)], ["", curve(layer.t, layer.p)]]) {
    const line = document.createElementNS(space, "path");
    if (name) line.setAttribute("class", name);
    line.setAttribute("d", path);
    svg.append(line);
  }
  return svg;
}

// The controls of all layers; `changed` is told when one was moved, `toggled` when one is on or off.
function showLayers(changed, toggled) {
  const now = fusion();
  const kinds = new Map(state.facts.layers.map((each) => [each.name, each]));
  const rows = state.facts.fusion.map((own) => {
    const spec = now.find((each) => each.layer === own.layer);
    const row = made("div", `layer${spec ? "" : " off"}`);
    row.dataset.layer = own.layer;
    const on = made("label", "on");
    const box = made("input");
    box.type = "checkbox";
    box.checked = Boolean(spec);
    box.disabled = (Boolean(spec) && now.length === 1) || !askable(own.layer);
    box.addEventListener("change", () => {
      if (box.checked) state.on.add(own.layer);
      else state.on.delete(own.layer);
      toggled(own.layer);
    });
    const text = made("span", "", own.layer);
    const { kind, given } = kinds.get(own.layer);
    const what = given ? "given vectors" : kind === "local" ? "visual words" : "one vector";
    text.append(made("small", "", what));
    on.append(box, text);
    row.append(on);
    if (spec && spec.t < 1) {
      row.append(slider(own.layer, "t", changed), slider(own.layer, "p", changed), drawing(spec));
    } else {
      const out = askable(own.layer) ? "left out" : "left out: this picture has no vector in it";
      row.append(made("span", "same", spec ? "the last layer counts as it is" : out));
    }
    return row;
  });
  $("layers").replaceChildren(...rows);
  $("reset").hidden = isOwn();
}

// After a slider was moved: its curve, and whether all is as the index has it.
function redrawn(layer) {
  const row = $("layers").querySelector(`[data-layer="${CSS.escape(layer)}"]`);
  row.querySelector("svg").replaceWith(drawing(fusion().find((each) => each.layer === layer)));
  $("reset").hidden = isOwn();
}
