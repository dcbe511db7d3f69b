"use strict";
// What is asked, and the address that says the same: a link shows what its sender saw.

const $ = (id) => document.getElementById(id);

const state = {
  facts: null, // what /index says
  query: null, // {id, name} of an indexed picture, or {file, name}
  on: new Set(), // the layers that are fused
  t: {}, // by layer
  p: {},
  k: 24,
  folder: "",
  only: "", // a filter, as the API takes it
};

const asText = (value) => String(Math.round(value * 1000) / 1000);

// Whether the query has something in a layer: a picture from elsewhere has no given vector.
function askable(layer) {
  const given = state.facts.layers.find((each) => each.name === layer)?.given;
  return !(given && state.query?.file);
}

function chosenLayers() {
  const known = state.facts.fusion.filter((each) => askable(each.layer));
  const chosen = known.filter((each) => state.on.has(each.layer));
  return chosen.length ? chosen : known;
}

// The fusion that is asked for, high to low; the last layer stays as it is.
function fusion() {
  const chosen = chosenLayers();
  return chosen.map((each, place) => {
    const last = place === chosen.length - 1;
    return {
      layer: each.layer,
      t: last ? 1 : state.t[each.layer],
      p: last ? 1 : state.p[each.layer],
      weight: chosen.length === 1 ? 1 : each.weight,
    };
  });
}

// The t and p that layers begin with: those of the index, or the paper's where it maps none.
function settle(facts) {
  state.facts = facts;
  state.on = new Set(facts.fusion.map((each) => each.layer));
  for (const each of facts.fusion) {
    state.t[each.layer] = each.t < 1 ? each.t : 0.2;
    state.p[each.layer] = each.t < 1 ? each.p : 0.45;
  }
}

function isOwn() {
  const now = fusion();
  return now.length === state.facts.fusion.length && now.every((each, place) => {
    const own = state.facts.fusion[place];
    return each.layer === own.layer && each.t === own.t && each.p === own.p;
  });
}

// t, p and layers as a request has them; nothing where they are those of the index.
function fusionAsked() {
  if (isOwn()) return {};
  const now = fusion();
  const asked = { layers: now.map((each) => each.layer) };
  if (now.length > 1) {
    asked.t = now.slice(0, -1).map((each) => each.t);
    asked.p = now.slice(0, -1).map((each) => each.p);
  }
  return asked;
}

function where() {
  const folder = state.folder && `startswith(name, ${JSON.stringify(`${state.folder}/`)})`;
  return folder && state.only ? `${folder} and (${state.only})` : folder || state.only;
}

function toAddress() {
  const said = new URLSearchParams();
  if (state.query?.id) said.set("id", state.query.id);
  for (const [name, value] of Object.entries(fusionAsked())) {
    said.set(name, name === "layers" ? value.join(",") : value.map(asText).join(","));
  }
  if (state.k !== 24) said.set("k", state.k);
  if (state.folder) said.set("folder", state.folder);
  if (state.only) said.set("where", state.only);
  return said.size ? `/?${said}` : "/";
}

// Take what an address says; return the name or the id that it asks for.
function fromAddress(text) {
  const said = new URLSearchParams(text);
  settle(state.facts);
  const known = state.facts.fusion.map((each) => each.layer);
  const layers = (said.get("layers") ?? "").split(",").filter((each) => known.includes(each));
  if (layers.length) state.on = new Set(layers);
  const mapped = chosenLayers().slice(0, -1);
  for (const name of ["t", "p"]) {
    const values = (said.get(name) ?? "").split(",").filter(Boolean).map(Number);
    mapped.forEach((each, place) => {
      if (values[place] >= 0 && values[place] <= 1) state[name][each.layer] = values[place];
    });
  }
  const k = Number(said.get("k"));
  state.k = [12, 24, 48, 96, 192].includes(k) ? k : 24;
  state.folder = said.get("folder") ?? "";
  state.only = said.get("where") ?? "";
  return { id: said.get("id"), name: said.get("name") };
}
