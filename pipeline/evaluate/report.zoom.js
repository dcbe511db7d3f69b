/* A query and one of its pictures side by side: what each layer says, their ranks, shared words. */

const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#d0a000", "#f032e6", "#469990", "#800000", "#808000"];

const boxes = (words, side) =>
  words.flatMap((word, number) => word[side].map((at) => {
    const box = boxOn("box", at);
    box.dataset.word = number;
    box.style.borderColor = COLOURS[number];
    return box;
  }));

const figureOf = (picture, caption, over) => {
  const made = element("figure");
  const frame = framed(picture, "big", over, true);
  const image = frame.querySelector("img");
  if (image) {
    /* The frame has the shape of the picture, or boxes would lie beside what they mean. */
    const fit = () => { frame.style.width = `min(100%, calc(var(--big) * ${image.naturalWidth / image.naturalHeight}))`; };
    image.alt = nameOf(picture);
    image.addEventListener("load", fit);
    if (image.naturalWidth) fit();
  }
  const text = element("figcaption");
  text.append(element("b", "", caption), element("span", "full", nameOf(picture)));
  made.append(frame, text);
  return made;
};

const rankText = (rank) => (rank ? String(rank) : `> ${DATA.kept}`);

/* S, f(S) and rank of each layer; score and rank of each fusion. */
const sayings = (one) => {
  const made = element("table", "plain says");
  const line = (cells, tag = "td") => {
    const row = element("tr");
    cells.forEach((cell, place) => {
      const box = element(place && tag === "td" ? "td" : "th");
      if (tag === "th") box.scope = "col"; else if (!place) box.scope = "row";
      box.append(cell);
      row.append(box);
    });
    return row;
  };
  const head = element("thead"), body = element("tbody");
  head.append(line(["layer", "S", "f(S)", "rank"], "th"));
  DATA.layers.forEach(([name, t, p, weight], layer) => {
    const lifted = mapped(one.s[layer], t, p);
    const track = element("span", "track");
    for (const [kind, value] of [["lifted", lifted], ["straight", one.s[layer]]]) {
      const bar = element("i", kind);
      bar.style.width = `${100 * value}%`;
      track.append(bar);
    }
    const title = element("span", "", name);
    title.append(track);
    const times = weight === 1 ? "" : `${weight} × `;
    body.append(line([title, one.s[layer].toFixed(3), times + lifted.toFixed(3), rankText(one.ranks[layer])]));
  });
  DATA.rankings.forEach((ranking, place) => {
    if (ranking.kind === "alone") return;
    const row = line([ranking.label, "", fused(one, place).toFixed(3), rankText(one.ranks[place])]);
    row.className = ranking.kind;
    body.append(row);
  });
  made.append(head, body);
  return made;
};

const wordList = (words) => {
  const made = element("div", "words");
  made.append(element("h3", "", "Shared words, by what they add to S"));
  words.forEach(([layer, word, weight], number) => {
    const button = element("button", "word");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const dot = element("i", "dot");
    dot.style.background = COLOURS[number];
    button.append(dot, `${layer} ${word.toLocaleString("en")}: ${weight.toFixed(3)}`);
    const light = (on) => {
      const dialog = byId("zoom");
      dialog.classList.toggle("one-word", on);
      dialog.querySelectorAll(".box").forEach((box) => box.classList.toggle("on", on && Number(box.dataset.word) === number));
      dialog.querySelectorAll(".word").forEach((other) => other.setAttribute("aria-pressed", String(on && other === button)));
    };
    button.addEventListener("click", () => light(button.getAttribute("aria-pressed") !== "true"));
    made.append(button);
  });
  return made;
};

const iconButton = (sign, label, act, enabled = true) => {
  const made = element("button", "icon", sign);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.title = label;
  made.disabled = !enabled;
  made.addEventListener("click", act);
  return made;
};

/* Step to another picture of the same ranking, or to another ranking. */
const step = (ranks, rankings) => {
  const [ranking, rank] = state.zoom;
  const to = Math.min(LAST, Math.max(0, ranking + rankings));
  const last = firstOf(state.query, to).length;
  change({ zoom: [to, Math.min(last, Math.max(0, rank + ranks))] });
};

const drawZoom = () => {
  const dialog = byId("zoom");
  if (!state.zoom) { if (dialog.open) dialog.close(); return; }
  const { query } = state;
  const [ranking, rank] = state.zoom;
  const one = rank ? firstOf(query, ranking)[rank - 1] : null;
  const words = (one && DATA.matches[query]?.[one.picture]) ?? [];
  const head = element("div", "zoom-head");
  const title = element("h2", "", one ? `Rank ${rank} by ${DATA.rankings[ranking].label}: ${SPOKEN[one.verdict]}` : "The query");
  title.id = "zoom-title";
  title.className = one ? VERDICTS[one.verdict] : "query";
  head.append(title);
  head.append(iconButton("←", "Previous picture", () => step(-1, 0), rank > 0));
  head.append(iconButton("→", "Next picture", () => step(1, 0), rank < firstOf(query, ranking).length));
  head.append(iconButton("✕", "Close", () => change({ zoom: null })));
  const pair = element("div", "pair-of");
  pair.append(figureOf(DATA.asked[query], "query", [...partOf(query), ...boxes(words, 3)]));
  if (one) pair.append(figureOf(one.picture, `rank ${rank}`, boxes(words, 4)));
  const rest = element("div", "zoom-rest");
  if (one) rest.append(sayings(one));
  if (words.length) rest.append(wordList(words));
  const picture = one ? one.picture : DATA.asked[query];
  const found = foundBy(picture);
  const way = element("p", "ways");
  if (one && one.verdict !== "q" && asQuery.has(picture)) {
    const button = element("button", "", "Make it the query");
    button.type = "button";
    button.addEventListener("click", () => follow(query, picture));
    way.append(button);
  }
  if (found.length) {
    const button = element("button", "", `Found by ${found.length.toLocaleString("en")} ${found.length === 1 ? "query" : "queries"}`);
    button.type = "button";
    button.addEventListener("click", () => change({ ...START, view: state.view, found: nameOf(picture) }, true));
    way.append(button);
  }
  rest.append(way);
  const had = document.activeElement?.getAttribute("aria-label");
  dialog.classList.remove("one-word");
  dialog.replaceChildren(head, pair, rest);
  if (!dialog.open) dialog.showModal();
  const again = had && [...head.querySelectorAll("button")].find((button) => button.getAttribute("aria-label") === had && !button.disabled);
  (again ?? head.querySelector("[aria-label=Close]")).focus();
};
