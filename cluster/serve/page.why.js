"use strict";
// Why a result is where it is: both pictures, and where the words are that they share.

const COLOURED = 8;
const WORDS = 12;

// Boxes of all words; before one is chosen, a place shows the weightiest of the coloured ones.
function boxesOf(matches, part) {
  const taken = new Set();
  return matches.flatMap((match, number) => match[part].map(([x, y, width, height]) => {
    const place = `${x} ${y}`;
    const first = number < COLOURED && !taken.has(place);
    taken.add(place);
    const box = made("i", `c${number < COLOURED ? number : "x"}${first ? "" : " more"}`);
    box.dataset.word = number;
    const said = { left: x, top: y, width, height };
    for (const [name, value] of Object.entries(said)) box.style[name] = `${(100 * value).toFixed(3)}%`;
    return box;
  }));
}

function lit(word) {
  const dialog = $("why");
  dialog.querySelector(".photos").classList.toggle("one-word", word !== null);
  for (const each of dialog.querySelectorAll("[data-word]")) {
    each.classList.toggle("on", each.dataset.word === word);
  }
}

function wordList(matches) {
  let chosen = null;
  const buttons = matches.map((match, number) => {
    const button = made("button", `c${number < COLOURED ? number : "x"}`);
    button.type = "button";
    button.dataset.word = number;
    button.setAttribute("aria-pressed", "false");
    const places = match.query_boxes.length + match.result_boxes.length;
    button.append(
      made("b", "", number + 1),
      made("span", "", `${match.layer} ${match.word}${places ? "" : ", no places"}`),
      made("span", "", match.weight.toFixed(4)),
    );
    const word = String(number);
    button.addEventListener("mouseenter", () => lit(word));
    button.addEventListener("focus", () => lit(word));
    for (const left of ["mouseleave", "blur"]) button.addEventListener(left, () => lit(chosen));
    button.addEventListener("click", () => {
      chosen = chosen === word ? null : word;
      for (const each of buttons) {
        each.setAttribute("aria-pressed", String(each.dataset.word === chosen));
      }
      lit(chosen);
    });
    return button;
  });
  return buttons.map((button) => {
    const item = made("li");
    item.append(button);
    return item;
  });
}

function picture(image, source, name) {
  const frame = image.parentElement;
  frame.classList.remove("gone");
  image.hidden = false;
  image.alt = name;
  image.onerror = () => {
    image.hidden = true;
    frame.classList.add("gone");
  };
  image.src = source;
  frame.previousElementSibling.textContent = name;
}

function fillWhy(it) {
  const matches = it.matches.slice(0, WORDS);
  $("why-title").textContent = `Why it is at rank ${it.rank.toLocaleString("en")}`;
  $("why-said").textContent =
    `of ${it.images.toLocaleString("en")} pictures, with F = ${it.score.toFixed(4)}`;
  $("boxes-query").replaceChildren(...boxesOf(matches, "query_boxes"));
  $("boxes-result").replaceChildren(...boxesOf(matches, "result_boxes"));
  $("why-layers").replaceChildren(...it.layers.map((layer) => {
    const row = made("tr");
    const name = made("th", "", layer.layer);
    name.scope = "row";
    const figures = [layer.similarity, layer.mapped, layer.part].map((each) => each.toFixed(4));
    row.append(name, ...[...figures, layer.rank.toLocaleString("en")].map((each) => made("td", "", each)));
    return row;
  }));
  $("why-moves").replaceChildren(...it.moves.map((each) => made("li", "", each)));
  const notes = [it.query.note, it.result.note].filter(Boolean);
  $("why-notes").replaceChildren(...notes.map((each) => made("p", "warning", each)));
  const left = it.matches.length - matches.length;
  const rest = left > 0 ? [made("li", "hint", `${left} more add less`)] : [];
  const none = it.matches.length ? [] : [made("li", "hint", "none")];
  $("why-words").replaceChildren(...wordList(matches), ...rest, ...none);
}

async function why(hit) {
  const dialog = $("why");
  const query = state.query;
  $("why-title").textContent = "Why?";
  $("why-said").textContent = "both pictures go through the network again ...";
  for (const id of ["boxes-query", "boxes-result", "why-layers", "why-moves", "why-words", "why-notes"]) {
    $(id).replaceChildren();
  }
  lit(null);
  picture($("why-query"), query.file ? query.shown : thumbnail(query.id, 768), query.name);
  picture($("why-result"), thumbnail(hit.image_id, 768), hit.name);
  dialog.showModal();
  try {
    const it = await explained(query, hit);
    if (dialog.open) fillWhy(it);
  } catch (error) {
    $("why-said").textContent = error.message;
  }
}

function explained(query, hit) {
  const asked = fusionAsked();
  if (query.file) {
    const form = new FormData();
    form.append("picture", query.file, query.name);
    form.append("result", hit.image_id);
    for (const [name, values] of Object.entries(asked)) form.append(name, values.join(","));
    return ask("/explain", { method: "POST", body: form });
  }
  const said = new URLSearchParams({ query: query.id, result: hit.image_id });
  for (const [name, values] of Object.entries(asked)) said.set(name, values.join(","));
  return ask(`/explain?${said}`);
}
