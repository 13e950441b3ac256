// Where a run is: a bar of its phases, and in short the run itself.

import { h, pill } from "./dom.js";
import { PHASES } from "./fold.js";
import { live } from "./state.js";
import { rate, seconds, share, tone } from "./words.js";

/** The bar; of the fault it shows how much is over. */
export function bar(run) {
  const clock = run.clock(), begun = new Map(run.phases.map((phase, i) => [phase.name,
    [phase.t, run.phases[i + 1]?.t ?? (run.over ? run.now : null)]]));
  return h("ol", { class: "phases" }, PHASES.map((name) => {
    const [from, to] = begun.get(name) ?? [];
    const where = from === undefined ? (run.over ? "skipped" : "ahead") : to === null ? "here" : "done";
    const said = { ahead: "", skipped: "not reached", here: seconds(clock - from), done: seconds((to ?? 0) - from) }[where];
    const left = name === "fault" && where === "here" ? `${Math.max(run.ends - clock, 0).toFixed(0)} s left` : said;
    const step = h("li", { class: `${where} p-${name}`, "aria-current": where === "here" ? "step" : null },
      h("span", {}, name), h("span", { class: "said" }, left));
    if (name === "fault") {
      const whole = Math.max(run.ends - run.live, 0.001);
      const part = where === "done" ? 1 : where === "here" ? Math.min(Math.max((clock - run.live) / whole, 0), 1) : 0;
      step.append(h("progress", { max: 1, value: part, "aria-label": "of the fault's time is over" }));
    }
    return step;
  }));
}

/** A live run by its name, as the daemon has it. */
export function heading(told) {
  const targets = [...new Set((told.plan.faults ?? []).map((fault) => fault.target))].join(", ");
  return h("div", { class: "row" }, h("strong", { class: "big" }, told.scenario), pill(told.phase, "hot"),
    h("span", { class: "soft" }, `run ${told.run} on ${targets}`),
    h("span", { class: "push" }, h("a", { class: "button", href: `#/run/${told.run}` }, "Watch")));
}

/** What is measured of it, and what was hit. */
export function figures(run) {
  const line = (what, said) => h("div", {}, h("dt", {}, what), h("dd", {}, said));
  return h("dl", { class: "meta" },
    Object.entries(run.checks).filter(([, found]) => found.count).map(([name, found]) =>
      line(name, `p95 ${seconds(found.p95)}, ${share(found.error_rate)} errors, ${rate(found.per_second)}`)),
    run.evidence.map((entry) => line(entry.fault, `${entry.injected} of ${entry.matched} ${entry.unit} hit`)));
}

/** How a run of the history ended; one that goes on has not. */
export const ended = (row) => (row.verdict === "unfinished" && live().some((each) => each.run === row.run && each.alive) ? pill("live", "hot")
  : h("span", { title: row.reason }, pill(row.verdict, tone(row.verdict))));
