// How things stand: the run that is live, what was lately, what is to come.

import { get, post } from "./api.js";
import { fill, h, notice, pill, problem, put, table } from "./dom.js";
import { bar, ended, figures, heading } from "./phases.js";
import { live, refresh, state, watch } from "./state.js";
import { moment, points, seconds } from "./words.js";

export function now(place) {
  const at = h("section", { class: "card" }), coming = h("section", { class: "card" }), past = h("section", { class: "card" });
  fill(place, h("h1", { class: "unseen" }, "Now"), h("div", { class: "sides" }, h("div", {}, at, past), coming));
  fill(past, h("h2", {}, "Latest runs"), h("p", { class: "soft" }, "Reading…"));
  let before = "", listed;
  const standing = new Standing(at);
  const show = () => {
    standing.update();
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
  const ticking = setInterval(() => standing.update(), 500);
  const unwatch = watch(show);
  return () => {
    clearInterval(ticking);
    unwatch();
  };
}

/** How it stands, in `place`; each live run keeps its own parts, of which only what moves is made anew. */
class Standing {
  constructor(place) {
    this.place = place;
    this.said = h("div", {});
    this.runs = new Map();
    fill(place, h("h2", {}, "Now"), this.said);
  }
  update() {
    const found = live();
    put(this.said, !state.status ? h("p", { class: "soft" }, "Asking the daemon…") : found.length ? null : IDLE());
    for (const [name, part] of this.runs) {
      if (found.some((each) => each.run === name)) continue;
      part.element.remove();
      this.runs.delete(name);
    }
    for (const each of found) this.show(each);
  }
  show(each) {
    if (!this.runs.has(each.run)) {
      const [head, phases, figures] = [h("div", {}), h("div", {}), h("div", {})];
      const part = { head, phases, figures, element: h("div", { class: "brief" }, head, phases, figures) };
      this.runs.set(each.run, part);
      this.place.append(part.element);
    }
    const part = this.runs.get(each.run), run = state.runs.get(each.run);
    put(part.head, each.alive ? heading(each) : dead(each));
    put(part.phases, each.alive && run ? bar(run) : null);
    put(part.figures, each.alive && run ? figures(run) : null);
  }
}

const IDLE = () => [h("p", { class: "big" }, "Idle. Nothing on this host is touched."),
  h("p", {}, h("a", { class: "button", href: "#/library" }, "Choose a scenario"))];

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

