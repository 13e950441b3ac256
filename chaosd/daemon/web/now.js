// How things stand: the run that is live, what was lately, what is to come.

import { get, post } from "./api.js";
import { fill, h, notice, pill, problem, table } from "./dom.js";
import { brief, ended } from "./phases.js";
import { live, refresh, state, watch } from "./state.js";
import { moment, points, seconds } from "./words.js";

export function now(place) {
  const at = h("section", { class: "card" }), coming = h("section", { class: "card" }), past = h("section", { class: "card" });
  fill(place, h("h1", { class: "unseen" }, "Now"), h("div", { class: "sides" }, h("div", {}, at, past), coming));
  fill(past, h("h2", {}, "Latest runs"), h("p", { class: "soft" }, "Reading…"));
  let before = "", listed;
  const show = () => {
    fill(at, standing());
    const { schedules = [], monkey = null, problems = [] } = state.status ?? {};
    const told = JSON.stringify([schedules, monkey, problems]);
    if (state.status && told !== before) {
      before = told;
      fill(coming, calendar(schedules, monkey, problems));
    }
    const runs = live().map((each) => each.run).join();
    if (state.status && !state.gone && runs !== listed) {
      listed = runs;
      latest(past);
    }
  };
  show();
  const ticking = setInterval(() => live().length && fill(at, standing()), 500);
  const unwatch = watch(show);
  return () => {
    clearInterval(ticking);
    unwatch();
  };
}

function standing() {
  if (!state.status) return [h("h2", {}, "Now"), h("p", { class: "soft" }, "Asking the daemon…")];
  if (!live().length) {
    return [h("h2", {}, "Now"), h("p", { class: "big" }, "Idle. Nothing on this host is touched."),
      h("p", {}, h("a", { class: "button", href: "#/library" }, "Choose a scenario"))];
  }
  return [h("h2", {}, "Now"), live().map((each) => (each.alive ? brief(state.runs.get(each.run), each) : dead(each)))];
}

function dead(each) {
  const back = async () => {
    try {
      const { done, problems } = await post("v1/revert", { run: each.run });
      notice("revert", problems.length ? "bad" : "good", problems.length ? problems.join("; ") : `Put back: ${done.join(", ")}`);
    } catch (error) {
      notice("revert", "bad", problem(error));
    }
    refresh();
  };
  return h("div", { class: "bad" },
    h("p", {}, h("strong", { class: "tone" }, `Run ${each.run} (${each.scenario}) has died and is not put back.`)),
    h("ul", {}, each.open_edits.map((says) => h("li", {}, says))),
    h("button", { type: "button", "data-acts": "", onclick: back }, "Put it back"));
}

function calendar(schedules, monkey, problems) {
  return [
    h("h2", {}, "Schedules"),
    problems.map((said) => h("p", { class: "bad tone" }, said)),
    schedules.length ? h("ul", { class: "rows" }, schedules.map((each) => h("li", {},
      h("div", {}, h("strong", {}, each.name), " ", each.paused ? pill("paused", "warn") : null),
      h("div", { class: "soft small" }, `${each.scenario}${each.target ? ` on ${each.target}` : ""}`),
      h("div", { class: "soft small" }, each.paused ? "rests" : each.next.length ? `next ${each.next[0]}` : "never due again",
        each.last ? `; last ${each.last}` : ""),
      resting(`v1/schedules/${encodeURIComponent(each.name)}`, each))))
      : h("p", { class: "soft small" }, "None. Their files are in /etc/chaosd/schedules.d on the host."),
    h("h2", {}, "Monkey"),
    monkey ? h("ul", { class: "rows" }, h("li", {},
      h("div", {}, h("strong", {}, monkey.name), " ", monkey.paused ? pill("paused", "warn") : null),
      h("div", { class: "soft small" }, monkey.paused ? "rests" : `next tick ${monkey.next}`),
      monkey.last ? h("div", { class: "soft small" }, `last: ${monkey.last.scenario
        ? `${monkey.last.scenario} on ${monkey.last.target}` : monkey.last.why_not}`) : null,
      resting("v1/monkey", monkey)))
      : h("p", { class: "soft small" }, "None. The daemon's configuration would name it."),
  ];
}

function resting(path, each) {
  const word = each.paused ? "resume" : "pause";
  const act = async () => {
    try {
      await post(`${path}/${word}`);
    } catch (error) {
      notice("rest", "bad", problem(error));
    }
    refresh();
  };
  const label = each.paused ? "Resume" : "Pause";
  return h("button", { type: "button", class: "slim", "data-acts": "", onclick: act, "aria-label": `${label} ${each.name}` }, label);
}

async function latest(place) {
  try {
    const rows = await get("v1/history?limit=10");
    fill(place, h("h2", {}, "Latest runs"), rows.length ? table(
      [{ name: "began" }, { name: "scenario" }, { name: "target" }, { name: "verdict" }, { name: "took", number: true }, { name: "score", number: true }],
      rows.map((row) => [
        h("a", { href: `#/run/${row.run}`, class: "nowrap" }, moment(row.began)), row.scenario, row.targets.join(", "),
        ended(row), seconds(row.took), points(row.score)]))
      : h("p", { class: "soft" }, "None yet on this host."));
  } catch (error) {
    fill(place, h("h2", {}, "Latest runs"), h("p", { class: "bad tone" }, problem(error)));
  }
}

