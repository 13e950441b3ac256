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

/** A live run in a few lines; `told` is how the daemon has it. */
export function brief(run, told) {
  const link = h("a", { class: "button", href: `#/run/${told.run}` }, "Watch");
  const targets = [...new Set((told.plan.faults ?? []).map((fault) => fault.target))].join(", ");
  const figures = Object.entries(run?.checks ?? {}).filter(([, found]) => found.count).map(([name, found]) =>
    h("div", {}, h("dt", {}, name), h("dd", {}, `p95 ${seconds(found.p95)}, ${share(found.error_rate)} errors, ${rate(found.per_second)}`)));
  const hits = (run?.evidence ?? []).map((entry) =>
    h("div", {}, h("dt", {}, entry.fault), h("dd", {}, `${entry.injected} of ${entry.matched} ${entry.unit} hit`)));
  return h("div", { class: "brief" },
    h("div", { class: "row" }, h("strong", { class: "big" }, told.scenario), pill(told.phase, "hot"),
      h("span", { class: "soft" }, `run ${told.run} on ${targets}`), h("span", { class: "push" }, link)),
    run ? bar(run) : null, h("dl", { class: "meta" }, figures, hits));
}

/** How a run of the history ended; one that goes on has not. */
export const ended = (row) => (row.verdict === "unfinished" && live().some((each) => each.run === row.run && each.alive) ? pill("live", "hot")
  : h("span", { title: row.reason }, pill(row.verdict, tone(row.verdict))));
