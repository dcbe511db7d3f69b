"use strict";
/* What the page knows: see `page_data` in page_queries.py. Texts are set as text, never as markup. */

const byId = (id) => document.getElementById(id);
const DATA = byId("data") ? JSON.parse(byId("data").textContent) : null;

const element = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

const VERDICTS = { r: "right", w: "wrong", j: "junk", q: "query" };
const MARKS = { r: "✓", w: "✕", j: "–", q: "Q" };
const SPOKEN = { r: "right", w: "wrong", j: "not scored", q: "the query itself" };

const scoreText = (value) => {
  const text = value.toFixed(DATA.decimals);
  return DATA.top > 1 ? text : text.replace(/^0\./, ".");
};

const deltaText = (value) => {
  const text = Math.abs(value).toFixed(DATA.decimals).replace(/^0\./, DATA.top > 1 ? "0." : ".");
  if (!Number(text)) return text;
  return `${value > 0 ? "+" : "−"}${text}`;
};

/* f(S) = t + (1 - t) ((S - t) / (1 - t))^p above t, S elsewhere. */
const mapped = (s, t, p) =>
  t < 1 && p < 1 && s > t ? t + (1 - t) * ((s - t) / (1 - t)) ** p : s;

const nameOf = (picture) => DATA.names[picture];
const queryName = (query) => nameOf(DATA.asked[query]);
const isPictured = (query) => query < DATA.pictures.length;
const scoreOf = (ranking, query) => DATA.scores[ranking][query];
const rightOf = (ranking, query) => parseInt(DATA.right[ranking][query], 36);

/* The pictures of a query: number, verdict, S of each layer, rank in each ranking (0: not known). */
const seen = new Map();
const picturesOf = (query) => {
  if (!isPictured(query)) return [];
  if (!seen.has(query)) {
    const [numbers, parts, verdicts, ranks] = DATA.pictures[query];
    const layers = DATA.layers.length;
    seen.set(query, numbers.map((picture, place) => ({
      picture,
      verdict: verdicts[place],
      s: parts.slice(place * layers, (place + 1) * layers).map((part) => part / DATA.scale),
      ranks: ranks.map((text) => parseInt(text[place], 36)),
    })));
  }
  return seen.get(query);
};

const firstOf = (query, ranking) =>
  picturesOf(query)
    .filter((one) => one.ranks[ranking] > 0 && one.ranks[ranking] <= DATA.ranks)
    .sort((one, other) => one.ranks[ranking] - other.ranks[ranking]);

/* What a ranking gives a picture: the sum of w f(S) over its layers. */
const fused = (one, ranking) =>
  DATA.rankings[ranking].layers.reduce(
    (sum, [layer, t, p, weight]) => sum + weight * mapped(one.s[layer], t, p), 0);

const asQuery = new Map();
if (DATA) DATA.asked.forEach((picture, query) => asQuery.has(picture) || asQuery.set(picture, query));

/* picture -> the queries that show it, other than itself */
let finders = null;
const foundBy = (picture) => {
  if (!finders) {
    finders = new Map();
    DATA.pictures.forEach(([numbers, , verdicts], query) => numbers.forEach((number, place) => {
      if (verdicts[place] === "q") return;
      if (!finders.has(number)) finders.set(number, []);
      finders.get(number).push(query);
    }));
  }
  return finders.get(picture) ?? [];
};

/* The address of a thumbnail, null where there is none. Those in the page come after this script. */
const gone = new Set(DATA?.gone);
const blocks = new Map();
const addressOf = (picture) => {
  if (picture >= DATA.shown || gone.has(picture)) return null;
  if (DATA.folder) return `${DATA.folder}${picture}.jpg`;
  const block = Math.floor(picture / DATA.block);
  if (!blocks.has(block)) {
    const held = byId(`pictures-${block}`);
    if (!held || document.readyState === "loading") return null;
    blocks.set(block, JSON.parse(held.textContent));
  }
  return blocks.get(block)[picture % DATA.block];
};

/* A picture, or its name where there is none. `eager` is for paper. */
const thumbnail = (picture, className, eager = false) => {
  const address = addressOf(picture);
  const blank = () => element("span", `${className} blank`, nameOf(picture).split("/").slice(-2).join("/"));
  if (!address) return blank();
  const image = element("img", className);
  if (!eager) image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.src = address;
  image.addEventListener("error", () => image.replaceWith(blank()));
  return image;
};

/* A picture in a frame that fits it, so that boxes can lie on it. */
const framed = (picture, className, over, eager = false) => {
  const image = thumbnail(picture, className, eager);
  if (image.tagName !== "IMG") return image;
  const frame = element("span", "frame");
  frame.append(image, ...over);
  return frame;
};

const boxOn = (className, [x, y, width, height]) => {
  const box = element("i", className);
  Object.assign(box.style, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * width}%`, height: `${100 * height}%` });
  return box;
};

/* The part of its picture that a query asks for, where it is not all. */
const partOf = (query) => (DATA.boxes[query] ? [boxOn("part", DATA.boxes[query])] : []);
