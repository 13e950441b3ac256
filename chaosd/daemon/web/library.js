// What there is to choose from.

import { get } from "./api.js";
import { fill, h, pill, problem } from "./dom.js";
import { known } from "./host.js";
import { radiusTone } from "./words.js";

let scenarios = null;
export const all = async () => (scenarios ??= await get("v1/scenarios"));

let wanted = "", chosen = ""; // kept while the page is

export function library(place) {
  const list = h("div", {}, h("p", { class: "soft" }, "Reading…")), chips = h("div", { class: "chips", role: "group", "aria-label": "Category" });
  const search = h("input", { type: "search", placeholder: "Filter by name, fault or words", "aria-label": "Filter", value: wanted,
    oninput: () => { wanted = search.value; show(); } });
  fill(place,
    h("div", { class: "row" }, h("h1", {}, "Library"), h("span", { class: "push" }, h("a", { class: "button", href: "#/start" }, "Write your own"))),
    h("div", { class: "row tools" }, search, chips), list);
  let found = [];
  const show = () => {
    const names = [...new Set(found.map((each) => each.category))].sort();
    fill(chips, ["", ...names].map((name) => h("button", { type: "button", "aria-pressed": String(name === chosen),
      onclick: () => { chosen = name; show(); chips.querySelector("[aria-pressed=true]").focus(); } }, name || "all")));
    const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = found.filter((each) => (!chosen || each.category === chosen)
      && words.every((word) => `${each.name} ${each.category} ${each.description} ${each.faults.join(" ")}`.toLowerCase().includes(word)));
    fill(list, fits.length ? h("ul", { class: "scenarios" }, fits.map(row)) : h("p", { class: "soft" }, "Nothing fits."));
  };
  all().then((scenarios) => { found = scenarios; show(); }, (error) => fill(list, h("p", { class: "bad tone" }, problem(error))));
}

function row(each) {
  const lacking = known() ? each.faults.filter((fault) => known().get(fault) === null) : [];
  return h("li", {},
    h("a", { href: `#/start/${each.name}` }, each.name),
    h("p", { class: "soft" }, each.description),
    h("div", { class: "marks" }, [...new Set(each.faults)].map((fault) => h("code", {}, fault)),
      h("span", { class: "soft" }, each.duration), each.blast_radius === "single-service" ? null : pill(each.blast_radius, radiusTone(each.blast_radius)),
      lacking.length ? pill(`not on this host: ${lacking.join(", ")}`, "warn") : null));
}
