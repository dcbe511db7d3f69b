/* The list of queries: only what is near the window is in the document. */

const BESIDE = 700; /* pixels above and below the window that are drawn too */
const PRINTED = 12; /* queries on paper */
let order = [];
let tops = new Float64Array(1);
let nodes = new Map();
let sizes = { card: 0, line: 0 };
let printing = false;

const tile = (query, one, ranking) => {
  const rank = one.ranks[ranking];
  const made = element("div", `tile ${VERDICTS[one.verdict]}`);
  const pick = element("button", "pick");
  pick.type = "button";
  pick.append(thumbnail(one.picture, "pic", printing));
  pick.append(element("span", "mark", MARKS[one.verdict]), element("span", "rank", rank));
  const says = `rank ${rank}, ${SPOKEN[one.verdict]}: ${nameOf(one.picture)}`;
  pick.setAttribute("aria-label", says);
  pick.title = `${nameOf(one.picture)}\n${rank}: ${SPOKEN[one.verdict]}, ${fused(one, ranking).toFixed(3)}`;
  pick.addEventListener("click", () => follow(query, one.picture));
  const zoom = element("button", "zoom");
  zoom.type = "button";
  zoom.append(glass());
  zoom.setAttribute("aria-label", `Side by side: ${says}`);
  zoom.addEventListener("click", () => change({ query, zoom: [ranking, rank] }));
  made.append(pick, zoom);
  return made;
};

const glass = () => {
  const drawn = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawn.setAttribute("viewBox", "0 0 16 16");
  drawn.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M11 6.5a4.5 4.5 0 1 1-9 0a4.5 4.5 0 0 1 9 0zM10 10l4 4");
  drawn.append(path);
  return drawn;
};

const link = (query) => {
  const made = element("a", "name", queryName(query));
  made.href = `#${new URLSearchParams({ q: queryName(query) })}`;
  made.title = queryName(query);
  made.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    change({ query: state.view === "table" && state.query === query ? null : query, zoom: null }, true);
  });
  return made;
};

const delta = (query) => {
  const value = deltaOf(query);
  const way = Number(value.toFixed(DATA.decimals));
  return element("span", `delta ${way > 0 ? "gain" : way < 0 ? "loss" : ""}`, deltaText(value));
};

const strips = (query) => {
  const made = element("div", "rankings");
  DATA.rankings.forEach((ranking, place) => {
    const row = element("div", `ranking ${ranking.kind}`);
    const label = element("p", "label");
    label.append(element("span", "", ranking.name));
    label.append(element("em", "", scoreText(scoreOf(place, query))));
    label.append(element("small", "", `${rightOf(place, query)} right`));
    label.title = ranking.label;
    const strip = element("div", "strip");
    strip.append(...firstOf(query, place).map((one) => tile(query, one, place)));
    row.append(label, strip);
    made.append(row);
  });
  return made;
};

const card = (query) => {
  const made = element("div", "card query-card");
  const asked = element("div", "asked");
  const whole = element("button", "whole");
  whole.type = "button";
  whole.setAttribute("aria-label", `Side by side: query ${queryName(query)}`);
  whole.append(framed(DATA.asked[query], "pic", partOf(query), printing));
  whole.addEventListener("click", () => change({ query, zoom: [LAST, 0] }));
  const text = element("div", "text");
  text.append(link(query));
  if (LAST) {
    const note = element("p", "note");
    note.append(delta(query), ` ${DATA.rankings[state.a].name} − ${DATA.rankings[state.b].name}`);
    text.append(note);
  }
  asked.append(whole, text);
  made.append(asked, strips(query));
  return made;
};

/* A query in one line: in the table, and where its pictures are not shown. */
const line = (query, cells) => {
  const made = element("div", "line");
  const first = element("span", "first");
  if (isPictured(query)) first.append(thumbnail(DATA.asked[query], "pic", printing));
  const name = link(query);
  if (cells && isPictured(query)) name.setAttribute("aria-expanded", String(state.query === query));
  first.append(name);
  made.append(first);
  DATA.rankings.forEach((ranking, place) => {
    const value = element("span", `figure ${ranking.kind}`, scoreText(scoreOf(place, query)));
    if (!cells) value.prepend(element("small", "", `${ranking.name} `));
    made.append(value);
  });
  if (LAST) made.append(delta(query));
  if (cells) for (const cell of made.children) cell.setAttribute("role", "cell");
  return made;
};

const row = (query, place) => {
  const made = element("div", "row");
  made.tabIndex = -1;
  made.dataset.query = query;
  const table = state.view === "table";
  if (table) {
    made.setAttribute("role", "rowgroup");
    const first = line(query, true);
    first.setAttribute("role", "row");
    first.setAttribute("aria-rowindex", place + 2);
    first.addEventListener("click", (event) => {
      if (!event.target.closest("a")) change({ query: state.query === query ? null : query, zoom: null });
    });
    made.append(first);
    if (state.query === query && isPictured(query)) {
      const more = element("div");
      more.setAttribute("role", "row");
      const cell = card(query);
      cell.setAttribute("role", "cell");
      more.append(cell);
      made.append(more);
    }
  } else {
    made.setAttribute("role", "listitem");
    made.setAttribute("aria-setsize", order.length);
    made.setAttribute("aria-posinset", place + 1);
    made.setAttribute("aria-label", queryName(query));
    made.append(isPictured(query) ? card(query) : line(query, false));
  }
  if (state.query === query) made.setAttribute("aria-current", "true");
  return made;
};

const highOf = (query) => {
  if (state.view === "table") return sizes.line + (state.query === query && isPictured(query) ? sizes.card : 0);
  return isPictured(query) ? sizes.card : sizes.line + 8;
};

/* How high a card and a line are here: their heights do not depend on what is in them. */
const measure = () => {
  const list = byId("list");
  const probes = ["card query-card", "line"].map((name) => {
    const box = element("div", "row");
    box.style.visibility = "hidden";
    box.append(element("div", name));
    return box;
  });
  list.hidden = false;
  list.append(...probes);
  sizes = { card: probes[0].firstChild.offsetHeight + 14, line: probes[1].firstChild.offsetHeight };
  probes.forEach((probe) => probe.remove());
};

const layOut = () => {
  tops = new Float64Array(order.length + 1);
  order.forEach((query, place) => { tops[place + 1] = tops[place] + highOf(query); });
  byId("list").style.height = printing ? "" : `${tops[order.length]}px`;
};

/* The place of the row that a height of the list is in. */
const placeAt = (high) => {
  let low = 0, over = order.length;
  while (low + 1 < over) {
    const middle = (low + over) >> 1;
    if (tops[middle] <= high) low = middle; else over = middle;
  }
  return low;
};

/* Draw what is near the window. Rows that stay are not touched, so that focus stays too. */
const draw = () => {
  const list = byId("list");
  const above = -list.getBoundingClientRect().top;
  let from = placeAt(Math.max(0, above - BESIDE));
  let to = Math.min(order.length, placeAt(Math.max(0, above + innerHeight + BESIDE)) + 1);
  if (printing) [from, to] = [0, Math.min(PRINTED, order.length)];
  const wanted = new Map();
  for (let place = from; place < to; place += 1) wanted.set(order[place], place);
  for (const [query, node] of nodes) if (!wanted.has(query)) { node.remove(); nodes.delete(query); }
  let after = list.firstChild;
  for (const [query, place] of wanted) {
    const node = nodes.get(query) ?? row(query, place);
    node.style.top = `${tops[place]}px`;
    if (node === after) after = after.nextSibling;
    else { list.insertBefore(node, after); nodes.set(query, node); }
  }
};

const redraw = () => {
  for (const node of nodes.values()) node.remove();
  nodes = new Map();
  layOut();
  draw();
};

/* The height of the list that the sticky bars hide. */
const covered = () => {
  const bar = byId("bar"), head = byId("head");
  return (getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0) + (head.hidden ? 0 : head.offsetHeight) + 8;
};

/* Bring a query into the window; to its top if `start`, else no further than is needed. */
const show = (query, start) => {
  const place = order.indexOf(query);
  if (place < 0) return;
  const list = byId("list").getBoundingClientRect().top + scrollY;
  const top = list + tops[place] - covered(), bottom = list + tops[place + 1] - innerHeight + 8;
  if (start || scrollY > top || tops[place + 1] - tops[place] > innerHeight - covered()) scrollTo({ top });
  else if (scrollY < bottom) scrollTo({ top: bottom });
  draw();
  nodes.get(query)?.focus({ preventScroll: true });
};
