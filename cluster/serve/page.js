"use strict";
// What a person does, and what is asked of the server then.

const CANDIDATES = 200; // come with each answer, for sliders to rank at once
const PAUSE_MS = 350; // after the last move of a slider, before the server is asked

let answer = null; // the last answer of the server
let asking = 0; // only the last question's answer is shown
let pause = 0;

async function ask(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Error("The server does not answer: see whether it still runs.");
  }
  const value = await response.json().catch(() => null);
  if (!response.ok) throw new Error(value?.error ?? `The server answers ${response.status}.`);
  return value;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function said(text) {
  $("state").textContent = text;
}

function showQuery() {
  const query = state.query;
  const image = $("shown");
  $("drop").classList.toggle("full", Boolean(query));
  image.hidden = !query;
  $("invite").hidden = Boolean(query);
  $("query-name").textContent = query?.name ?? "";
  $("copy").hidden = !query?.id;
  if (!query) return;
  image.alt = `the query: ${query.name}`;
  image.onerror = () => {
    image.hidden = true;
    $("drop").classList.remove("full");
    $("invite").hidden = false;
    $("invite").textContent = "This picture cannot be shown here.";
  };
  image.src = query.file ? query.shown : thumbnail(query.id, 512);
}

function request() {
  const k = Math.max(state.k, CANDIDATES);
  const asked = { k, ...fusionAsked() };
  if (where()) asked.where = where();
  if (!state.query.file) {
    const body = JSON.stringify({ ...asked, ids: [state.query.id] });
    return ask("/query", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  }
  const form = new FormData();
  form.append("picture", state.query.file, state.query.name);
  for (const [name, value] of Object.entries(asked)) form.append(name, String(value));
  return ask("/query", { method: "POST", body: form });
}

async function search() {
  clearTimeout(pause);
  const mine = (asking += 1);
  complain("");
  said("searching");
  showQuery();
  document.body.classList.add("waiting");
  const began = performance.now();
  try {
    const found = await request();
    if (mine !== asking) return;
    const [one] = found.answers;
    if (one.refused) {
      answer = null;
      nothing("Nothing was searched.");
      said("");
      complain(`${one.query} cannot be read: ${one.refused.meaning}${one.refused.detail ? ` (${one.refused.detail})` : ""}.`);
      return;
    }
    answer = one;
    show(one.results, fusion());
    const seconds = (performance.now() - began) / 1000;
    said(`${one.certified ? "exact, certified" : "not certified"} · snapshot ${found.snapshot} · ${seconds.toFixed(2)} s`);
  } catch (error) {
    if (mine !== asking) return;
    said("");
    complain(error.message);
  } finally {
    if (mine === asking) document.body.classList.remove("waiting");
  }
}

function remember(push) {
  const address = toAddress();
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

// A slider was moved: rank what is here at once, and ask the server a little later.
function moved(layer) {
  redrawn(layer);
  asking += 1; // an answer under way is to other settings
  document.body.classList.remove("waiting");
  if (answer) {
    const usable = fusion().every((each) => answer.results.every((hit) => each.layer in hit.similarities));
    if (usable) show(reranked(answer.results, fusion()), fusion());
    said("ranked here, the server is asked");
  }
  remember(false);
  clearTimeout(pause);
  if (state.query) pause = setTimeout(search, PAUSE_MS);
}

function toggled(layer) {
  controls();
  $("layers").querySelector(`[data-layer="${CSS.escape(layer)}"] input`).focus();
  remember(false);
  if (state.query) search();
}

function controls() {
  showLayers(moved, toggled);
  $("k").value = String(state.k);
  const folder = $("folder");
  if (![...folder.options].some((each) => each.value === state.folder)) {
    folder.append(new Option(state.folder, state.folder));
  }
  folder.value = state.folder;
  $("only").value = state.only;
}

function searchIndexed(id, name, push = true) {
  if (state.query?.shown) URL.revokeObjectURL(state.query.shown);
  state.query = { id, name };
  controls();
  remember(push);
  return search();
}

function searchFile(file) {
  if (!state.facts.uploads) {
    complain("This index can be asked by its own pictures alone: its network is not here.");
    return;
  }
  if (file.size > state.facts.max_upload) {
    complain(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; this server takes ${(state.facts.max_upload / 1e6).toFixed(1)} MB.`);
    return;
  }
  if (state.query?.shown) URL.revokeObjectURL(state.query.shown);
  state.query = { file, name: file.name || "pasted picture", shown: URL.createObjectURL(file) };
  controls();
  remember(true);
  search();
}

async function searchNamed(name) {
  complain("");
  try {
    const body = JSON.stringify({ names: [name], k: 1 });
    const found = await ask("/query", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    await searchIndexed(found.answers[0].image_id, name);
  } catch (error) {
    complain(error.message);
  }
}

async function random() {
  try {
    const drawn = await ask("/random");
    await searchIndexed(drawn.image_id, drawn.name);
  } catch (error) {
    complain(error.message);
  }
}

async function restore() {
  const wanted = fromAddress(location.search);
  controls();
  if (wanted.id) {
    try {
      const body = JSON.stringify({ ids: [wanted.id], k: 1 });
      const found = await ask("/query", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      await searchIndexed(wanted.id, found.answers[0].query, false);
    } catch (error) {
      complain(error.message);
    }
  } else if (wanted.name) {
    await searchNamed(wanted.name);
  } else {
    state.query = null;
    answer = null;
    said("");
    showQuery();
    nothing("Drop a picture on this page, paste one, or begin with a random one.");
  }
}

function hitOf(element) {
  const item = element?.closest?.(".hit");
  const hits = item ? reranked(answer.results, fusion()) : [];
  return hits.find((hit) => hit.image_id === item.dataset.id);
}

function step(key) {
  const all = [...document.querySelectorAll(".hit .pic")];
  const at = all.indexOf(document.activeElement?.closest?.(".hit")?.querySelector(".pic"));
  if (!all.length) return false;
  const top = all[0].getBoundingClientRect().top;
  const columns = all.filter((each) => each.getBoundingClientRect().top === top).length;
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[key];
  const next = at < 0 ? 0 : at + by;
  all[Math.min(Math.max(next, 0), all.length - 1)].focus();
  return true;
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=text], input[type=range], select");
  if (typing || document.querySelector("dialog[open]")) return;
  const hit = hitOf(document.activeElement);
  if (event.key.startsWith("Arrow")) {
    if (step(event.key)) event.preventDefault();
  } else if (event.key === "/") {
    event.preventDefault();
    $("name").focus();
  } else if (event.key === "?") $("help").showModal();
  else if (event.key === "r") random();
  else if (event.key === "w" && hit && hit.image_id !== state.query.id) why(hit);
}

function listen() {
  const drop = $("drop");
  drop.addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    if (event.target.files[0]) searchFile(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over-it");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over-it");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over-it");
    if (event.dataTransfer.files[0]) searchFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) searchFile(file);
  });
  $("random").addEventListener("click", random);
  $("by-name").addEventListener("submit", (event) => {
    event.preventDefault();
    if ($("name").value) searchNamed($("name").value);
  });
  $("results").addEventListener("click", (event) => {
    const hit = hitOf(event.target);
    if (!hit) return;
    if (event.target.closest(".pic")) searchIndexed(hit.image_id, hit.name);
    else if (event.target.closest(".link")) {
      if (hit.image_id === state.query.id) complain("This is the query itself.");
      else why(hit);
    }
  });
  $("reset").addEventListener("click", () => {
    settle(state.facts);
    controls();
    remember(false);
    $("tune-title").scrollIntoView({ block: "nearest" });
    if (state.query) search();
  });
  $("k").addEventListener("change", (event) => {
    state.k = Number(event.target.value);
    remember(false);
    if (state.query) search();
  });
  $("folder").addEventListener("change", (event) => {
    state.folder = event.target.value;
    remember(false);
    if (state.query) search();
  });
  $("only").addEventListener("change", (event) => {
    state.only = event.target.value.trim();
    remember(false);
    if (state.query) search();
  });
  $("copy").addEventListener("click", async () => {
    await navigator.clipboard?.writeText(location.href);
    said("the link is copied");
  });
  $("keys").addEventListener("click", () => $("help").showModal());
  for (const each of document.querySelectorAll("[data-close]")) {
    each.addEventListener("click", () => each.closest("dialog").close());
  }
  for (const each of document.querySelectorAll("dialog")) {
    each.addEventListener("click", (event) => {
      if (event.target === each) each.close();
    });
  }
  document.addEventListener("keydown", keyed);
  window.addEventListener("popstate", restore);
}

(async () => {
  listen();
  try {
    settle(await ask("/index"));
    const facts = state.facts;
    $("facts").textContent = `Snapshot ${facts.snapshot}: ${facts.indexed.toLocaleString("en")} pictures, layers ${facts.layers.map((each) => each.name).join(", ")}.`;
    if (!facts.uploads) $("invite").textContent = "Begin with a random picture, or a name";
    await restore();
    for (const { name, images } of await ask("/folders")) {
      if (name && ![...$("folder").options].some((each) => each.value === name)) {
        $("folder").append(new Option(`${name} (${images.toLocaleString("en")})`, name));
      }
    }
  } catch (error) {
    complain(error.message);
  }
  document.documentElement.dataset.ready = "1";
})();
