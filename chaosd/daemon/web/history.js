// The runs of this host, and comparisons of two.

import { get } from "./api.js";
import { fill, h, problem, table } from "./dom.js";
import { ended } from "./phases.js";
import { live, watch } from "./state.js";
import { moment, number, points, seconds } from "./words.js";

const FEW = 50, MANY = 1000;
const COLUMNS = [{ name: "" }, { name: "began" }, { name: "run" }, { name: "scenario" }, { name: "target" }, { name: "verdict" },
  { name: "took", number: true }, { name: "recovered in", number: true }, { name: "hits", number: true }, { name: "score", number: true }, { name: "" }];

export function history(place) {
  const list = h("div", {}, h("p", { class: "soft" }, "Reading…")), chosen = new Set();
  const search = h("input", { type: "search", placeholder: "Filter by scenario, target or verdict", "aria-label": "Filter", oninput: () => show() });
  const compare = h("a", { class: "button", target: "_blank", rel: "noopener", role: "link" }, "Compare");
  const more = h("button", { type: "button", onclick: () => load(MANY) }, "Show all");
  fill(place, h("div", { class: "row" }, h("h1", {}, "History"), h("span", { class: "push" }, compare)),
    h("div", { class: "row tools" }, search, h("span", { class: "soft small" }, "Tick two runs to compare them.")), list, more);
  let rows = [];
  const link = () => {
    const [one, other] = [...chosen];
    if (chosen.size === 2) compare.href = `v1/runs/${one}/compare?against=${other}`;
    else compare.removeAttribute("href");
    compare.setAttribute("aria-disabled", String(chosen.size !== 2));
    for (const box of list.querySelectorAll("input")) box.disabled = chosen.size === 2 && !box.checked;
  };
  const tick = (row) => h("input", { type: "checkbox", "aria-label": `Compare run ${row.run}`, checked: chosen.has(row.run),
    onchange: (event) => { chosen[event.target.checked ? "add" : "delete"](row.run); link(); } });
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = rows.filter((row) => words.every((word) => `${row.scenario} ${row.targets.join(" ")} ${row.verdict} ${row.run}`.toLowerCase().includes(word)));
    fill(list, fits.length ? table(COLUMNS, fits.map((row) => [
      tick(row), h("span", { class: "nowrap" }, moment(row.began)), h("a", { href: `#/run/${row.run}` }, row.run), row.scenario, row.targets.join(", "),
      ended(row), seconds(row.took), seconds(row.recovered_after), number(row.hits), points(row.score),
      h("a", { href: `v1/runs/${row.run}/report`, target: "_blank", rel: "noopener" }, "report")]))
      : h("p", { class: "soft" }, rows.length ? "Nothing fits." : "No run yet on this host."));
    link();
  };
  const load = async (limit) => {
    try {
      rows = await get(`v1/history?limit=${limit}`);
      more.hidden = rows.length < limit;
      show();
    } catch (error) {
      fill(list, h("p", { class: "bad tone" }, problem(error)));
    }
  };
  more.hidden = true;
  load(FEW);
  let before = live().length;
  return watch(() => {
    if (live().length < before) load(FEW);
    before = live().length;
  });
}
