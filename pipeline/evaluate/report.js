/* The bar, the keys, and what happens when something changes. */

const choices = (group, entries, key) => {
  group.replaceChildren(...entries.map(([value, label, title]) => {
    const button = element("button", "", label);
    button.type = "button";
    button.dataset.value = value;
    button.setAttribute("aria-pressed", String(state[key] === value));
    if (title) button.title = title;
    button.addEventListener("click", () => choose(key, value));
    return button;
  }));
};

/* A filter brings the order that it is read in. */
const ORDERS = {
  all: () => ({ sort: "telling", down: true }),
  worst: () => ({ sort: `score:${DATA.rankings[state.a].name}`, down: false }),
  helped: () => ({ sort: "delta", down: true }),
  hurt: () => ({ sort: "delta", down: false }),
  failed: () => ({ sort: `score:${DATA.rankings[state.a].name}`, down: false }),
};
const choose = (key, value) =>
  change({ [key]: value, ...(key === "show" ? { ...ORDERS[value](), found: "" } : {}) });

const sortBy = (sort) => change({ sort, down: state.sort === sort ? !state.down : true });

const options = (select, entries, value) => {
  select.replaceChildren(...entries.map(([key, label]) => new Option(label, key, false, String(key) === String(value))));
};

const drawHead = () => {
  const head = byId("head");
  head.hidden = state.view !== "table";
  const bar = element("div", "line");
  bar.setAttribute("role", "row");
  bar.setAttribute("aria-rowindex", "1");
  const columns = [["name", "name", "first"], ...DATA.rankings.map((ranking) => [`score:${ranking.name}`, ranking.name, ranking.kind])];
  if (LAST) columns.push(["delta", "change", "delta"]);
  columns.forEach(([sort, label, name]) => {
    const cell = element("span", name);
    cell.setAttribute("role", "columnheader");
    const sorted = state.sort === sort;
    if (sorted) cell.setAttribute("aria-sort", (state.down === (sort === "name")) ? "ascending" : "descending");
    const button = element("button", "", label);
    button.type = "button";
    button.title = `Sort by ${label}`;
    if (sorted) button.append(element("b", "", state.down ? "↓" : "↑"));
    button.addEventListener("click", () => { sortBy(sort); byId("head").querySelectorAll("button")[columns.findIndex(([key]) => key === sort)].focus(); });
    cell.append(button);
    bar.append(cell);
  });
  head.replaceChildren(bar);
};

const drawBar = (sets) => {
  const [a, b] = [DATA.rankings[state.a].label, DATA.rankings[state.b].label];
  const why = {
    all: "All queries",
    worst: `The tenth with the lowest scores by ${a}`,
    helped: `Higher by ${a} than by ${b}`,
    hurt: `Lower by ${a} than by ${b}`,
    failed: `Nothing right among the first ${DATA.ranks} by ${a}`,
  };
  const shown = LAST ? SHOWN : SHOWN.filter((key) => key !== "helped" && key !== "hurt");
  const focused = document.activeElement?.dataset?.value;
  choices(byId("show"), shown.map((key) => [key, `${CAPTIONS[key]} ${sets[key].length.toLocaleString("en")}`, why[key]]), "show");
  choices(byId("view"), [["pictures", "Pictures"], ["table", "Table"]], "view");
  if (focused) byId("bar").querySelector(`[data-value="${focused}"]`)?.focus();
  byId("pair").hidden = !LAST;
  const rankings = DATA.rankings.map((ranking, place) => [place, ranking.label]);
  options(byId("a"), rankings, state.a);
  options(byId("b"), rankings, state.b);
  options(byId("sort"), sorts(), state.sort);
  const down = byId("down");
  down.textContent = state.down ? "↓" : "↑";
  down.setAttribute("aria-label", state.down ? "Turn the order round: highest first now" : "Turn the order round: lowest first now");
  if (document.activeElement !== byId("find")) byId("find").value = state.find;
};

const tellHowMany = () => {
  const [count, of] = [order.length, DATA.asked.length].map((number) => number.toLocaleString("en"));
  const parts = [order.length === DATA.asked.length ? `${of} ${DATA.asked.length === 1 ? "query" : "queries"}` : `${count} of ${of} queries`];
  if (state.found) parts.push(`that show ${state.found} among their first ${DATA.ranks}`);
  byId("said").textContent = parts.join(" ");
  byId("none").hidden = order.length > 0;
  if (state.found || state.find || state.show !== "all") {
    const clear = element("button", "", "Show all");
    clear.type = "button";
    clear.addEventListener("click", showAll);
    if (order.length) byId("said").append(" ", clear);
  }
};

const showAll = () => change({ show: "all", find: "", found: "", ...ORDERS.all() });

/* Make a picture the query, or list the queries that found it. */
const follow = (query, picture) => {
  const next = asQuery.get(picture);
  if (next === undefined) change({ ...START, view: state.view, found: nameOf(picture) }, true);
  else if (next === query) change({ query, zoom: [LAST, 0] });
  else change({ query: next, zoom: null }, true);
};

/* Bring the page to the state; `before` is what it shows. */
const refresh = (before) => {
  const listing = ["show", "sort", "down", "a", "b", "find", "found", "view"].some((key) => before?.[key] !== state[key]);
  let sets = null;
  if (listing) {
    sets = kept();
    order = ordered(sets);
  }
  if (state.query !== null && before?.query !== state.query && !order.includes(state.query)) {
    /* What is asked for is shown, whatever was filtered away. */
    Object.assign(state, { show: "all", find: "", found: "" });
    history.replaceState(null, "", toAddress(state));
    sets = kept();
    order = ordered(sets);
  }
  if (sets) {
    const table = state.view === "table", list = byId("list"), whole = byId("table");
    document.documentElement.style.setProperty("--rankings", DATA.rankings.length);
    list.hidden = order.length === 0;
    for (const [node, role] of [[whole, table ? "table" : null], [list, table ? null : "list"]])
      if (role) node.setAttribute("role", role); else node.removeAttribute("role");
    if (table) {
      whole.setAttribute("aria-rowcount", order.length + 1);
      whole.setAttribute("aria-label", "Queries and their scores");
    } else for (const name of ["aria-rowcount", "aria-label"]) whole.removeAttribute(name);
    if (table) list.removeAttribute("aria-label"); else list.setAttribute("aria-label", "Queries");
    drawBar(sets);
    drawHead();
    tellHowMany();
    document.documentElement.style.setProperty("--bar-high", `${byId("bar").offsetHeight}px`);
  }
  const opened = state.view === "table" && before?.query !== state.query;
  if (sets || opened) redraw();
  if (before?.query !== state.query) {
    nodes.get(before?.query)?.removeAttribute("aria-current");
    nodes.get(state.query)?.setAttribute("aria-current", "true");
    if (state.query !== null && (!state.zoom || !before)) show(state.query, state.view === "pictures");
  }
  drawZoom();
};

const move = (places) => {
  const place = order.indexOf(state.query);
  const first = placeAt(Math.max(0, covered() - byId("list").getBoundingClientRect().top));
  const from = place < 0 && Number.isFinite(places) ? first : Math.max(0, place) + places;
  const to = Math.min(order.length - 1, Math.max(0, from));
  if (order.length) change({ query: order[to], zoom: null });
};

const zoomHere = () => {
  const at = document.activeElement?.closest?.(".tile");
  if (at) at.querySelector(".zoom").click();
  else if (state.query !== null && isPictured(state.query)) change({ zoom: [LAST, 1] });
};

const KEYS = {
  j: () => move(1), k: () => move(-1),
  g: () => move(-Infinity), G: () => move(Infinity),
  z: zoomHere,
  t: () => change({ view: state.view === "table" ? "pictures" : "table" }),
  "/": () => byId("find").focus(),
  "?": () => byId("keys").showModal(),
  Escape: () => (state.find || state.found ? change({ find: "", found: "" }) : change({ query: null })),
};
const ZOOM_KEYS = {
  ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
};

const onKey = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const typing = event.target.matches?.("input, select");
  let act = byId("zoom").open ? ZOOM_KEYS[event.key] : KEYS[event.key];
  if (typing) {
    act = null;
    if (event.key === "Escape" && event.target.id === "find") act = () => { byId("find").value = ""; change({ find: "" }); byId("find").blur(); };
  } else if (!act && !byId("zoom").open && event.target.closest?.(".row"))
    act = { ArrowDown: KEYS.j, ArrowUp: KEYS.k }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
};

const wait = (act, milliseconds) => {
  let due = 0;
  return () => { clearTimeout(due); due = setTimeout(act, milliseconds); };
};

const start = () => {
  state = fromAddress(location.hash);
  byId("find").addEventListener("input", wait(() => change({ find: byId("find").value }), 120));
  for (const key of ["a", "b"]) byId(key).addEventListener("change", () => change({ [key]: Number(byId(key).value) }));
  byId("sort").addEventListener("change", () => change({ sort: byId("sort").value, down: true }));
  byId("down").addEventListener("click", () => change({ down: !state.down }));
  byId("help").addEventListener("click", KEYS["?"]);
  byId("all").addEventListener("click", showAll);
  document.addEventListener("keydown", onKey);
  byId("zoom").addEventListener("close", () => {
    if (state.zoom) change({ zoom: null });
    nodes.get(state.query)?.focus({ preventScroll: true });
  });
  for (const dialog of document.querySelectorAll("dialog"))
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const travel = () => { const before = state; state = fromAddress(location.hash); refresh(before); };
  addEventListener("popstate", travel);
  let due = false;
  addEventListener("scroll", () => {
    if (!due) requestAnimationFrame(() => { due = false; draw(); });
    due = true;
  }, { passive: true });
  let wide = innerWidth;
  addEventListener("resize", wait(() => {
    if (innerWidth !== wide) { measure(); redraw(); } else draw();
    wide = innerWidth;
    document.documentElement.style.setProperty("--bar-high", `${byId("bar").offsetHeight}px`);
  }, 60));
  const onPaper = (on) => { printing = on; document.documentElement.classList.toggle("printing", on); redraw(); };
  addEventListener("beforeprint", () => onPaper(true));
  addEventListener("afterprint", () => onPaper(false));
  document.documentElement.style.setProperty("--rankings", DATA.rankings.length);
  measure();
  refresh(null);
  document.documentElement.dataset.ready = String(DATA.asked.length);
  performance.mark("ready");
  if (!DATA.folder) addEventListener("DOMContentLoaded", redraw);
};

if (DATA) start();
