/* What is shown, kept in the address after #, so that every view has a link. */

const LAST = DATA ? DATA.rankings.length - 1 : 0;
const SHOWN = ["all", "worst", "helped", "hurt", "failed"];
const CAPTIONS = { all: "All", worst: "Worst", helped: "Helped", hurt: "Hurt", failed: "Failed" };
const START = {
  show: "all", sort: "telling", down: true, a: LAST, b: Math.max(0, LAST - 1),
  view: "pictures", find: "", found: "", query: null, zoom: null,
};
let state = { ...START };

const deltaOf = (query) => scoreOf(state.a, query) - scoreOf(state.b, query);
const rankingNamed = (name, otherwise) => {
  const place = DATA.rankings.findIndex((ranking) => ranking.name === name);
  return place < 0 ? otherwise : place;
};
const queryNamed = (name) => {
  const query = DATA.asked.findIndex((picture) => nameOf(picture) === name);
  return query < 0 ? null : query;
};

/* zoom: [ranking, rank] of a picture of the query; rank 0 is the query alone. */
const toAddress = (one) => {
  const said = new URLSearchParams();
  const rankingName = (place) => DATA.rankings[place].name;
  if (one.query !== null) said.set("q", queryName(one.query));
  if (one.zoom) said.set("zoom", `${one.zoom[1]}:${rankingName(one.zoom[0])}`);
  for (const key of ["show", "sort", "view", "find", "found"])
    if (one[key] !== START[key]) said.set(key, one[key]);
  if (one.down !== START.down) said.set("order", "rising");
  for (const key of ["a", "b"]) if (one[key] !== START[key]) said.set(key, rankingName(one[key]));
  return `#${said}`;
};

const fromAddress = (hash) => {
  const said = new URLSearchParams(hash.slice(1));
  const one = { ...START };
  const get = (key, allowed) => (allowed.includes(said.get(key)) ? said.get(key) : START[key]);
  one.show = get("show", SHOWN);
  one.view = get("view", ["pictures", "table"]);
  one.sort = get("sort", sorts().map(([key]) => key));
  one.find = said.get("find") ?? "";
  one.found = said.get("found") ?? "";
  one.down = said.get("order") !== "rising";
  one.a = rankingNamed(said.get("a"), START.a);
  one.b = rankingNamed(said.get("b"), START.b);
  if (said.has("q")) one.query = queryNamed(said.get("q"));
  const zoom = /^(\d+):(.*)$/s.exec(said.get("zoom") ?? "");
  if (zoom && one.query !== null) {
    const ranking = rankingNamed(zoom[2], -1);
    if (ranking >= 0 && (zoom[1] === "0" || firstOf(one.query, ranking)[zoom[1] - 1]))
      one.zoom = [ranking, Number(zoom[1])];
  }
  return one;
};

const sorts = () => [
  ["telling", "most telling"],
  ["name", "name"],
  ...DATA.rankings.map((ranking) => [`score:${ranking.name}`, ranking.label]),
  ...(LAST ? [["delta", "change"]] : []),
];

const kept = () => {
  const tenth = Math.max(1, Math.ceil(DATA.asked.length / 10));
  const all = DATA.asked.map((_, query) => query);
  const byScore = () => all.toSorted((x, y) => scoreOf(state.a, x) - scoreOf(state.a, y) || x - y);
  return {
    all,
    worst: byScore().slice(0, tenth),
    helped: all.filter((query) => deltaOf(query) > 0),
    hurt: all.filter((query) => deltaOf(query) < 0),
    failed: all.filter((query) => rightOf(state.a, query) === 0),
  };
};

/* Which queries are listed, in order. Equal ones stand as they come: most telling first. */
const ordered = (sets) => {
  let queries = sets[state.show];
  const wanted = state.find.trim().toLowerCase();
  if (wanted) queries = queries.filter((query) => queryName(query).toLowerCase().includes(wanted));
  if (state.found) {
    const picture = DATA.names.indexOf(state.found);
    const finding = new Set(foundBy(picture));
    queries = queries.filter((query) => finding.has(query));
  }
  const sign = state.down ? -1 : 1;
  const column = state.sort.startsWith("score:") ? rankingNamed(state.sort.slice(6), LAST) : null;
  const value = column !== null ? (query) => scoreOf(column, query) : deltaOf;
  if (state.sort === "telling") queries = state.down ? queries.toSorted((x, y) => x - y) : queries.toSorted((x, y) => y - x);
  else if (state.sort === "name") {
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    queries = queries.toSorted((x, y) => -sign * compare(queryName(x), queryName(y)) || x - y);
  } else queries = queries.toSorted((x, y) => sign * (value(x) - value(y)) || x - y);
  return queries;
};

/* Change what is shown. `step` makes a place that the browser's Back comes back to. */
const change = (changes, step = false) => {
  const before = state;
  state = { ...state, ...changes };
  const address = toAddress(state);
  if (address !== (location.hash || "#")) history[step ? "pushState" : "replaceState"](null, "", address);
  refresh(before);
};
