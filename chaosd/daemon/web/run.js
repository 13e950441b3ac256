// A run, live or over: where it is, what is measured, what was hit, what was changed and put back.

import { post } from "./api.js";
import { Charts } from "./charts.js";
import { fill, h, notice, pill, problem, put, table } from "./dom.js";
import { bar } from "./phases.js";
import { read, refresh, state, watch } from "./state.js";
import { clock, moment, number, rate, seconds, several, share, tone } from "./words.js";

const SLOWEST = 250; // milliseconds between two drawings
const AGAIN = 1000;
const WHEN = ["before", "during", "after"];
const NEWEST = 8;

export function run(place, name) {
  fill(place, h("p", { class: "soft" }, `Reading run ${name}…`));
  let page = null, gone = false, drawn = 0, last = null;
  const show = () => {
    const found = state.runs.get(name);
    if (gone || !found?.run) return;
    page ??= new Page(place, found);
    if (found.over && last === found.now) return;
    last = found.now;
    drawn = performance.now();
    page.update();
  };
  const unwatch = watch(() => performance.now() - drawn > SLOWEST && show());
  const ticking = setInterval(show, 500);
  const ask = () => read(name).then(show, (error) => {
    if (gone || page) return; // what is shown goes on with the stream
    fill(place, h("div", { class: "notice bad" }, h("div", {}, problem(error))));
    if (error.status === 0 || error.status >= 500) setTimeout(() => gone || ask(), AGAIN); // it may come back
  });
  ask();
  return () => {
    gone = true;
    unwatch();
    clearInterval(ticking);
    page?.charts.end();
  };
}

class Page {
  constructor(place, found) {
    this.run = found;
    this.parts = Object.fromEntries(["head", "phases", "verdict", "checks", "evidence", "hits", "edits", "about"].map(
      (part) => [part, h("section", { class: `of-${part}` })]));
    this.charts = new Charts(found);
    const { head, phases, verdict, checks, evidence, hits, edits, about } = this.parts;
    this.charts.element.append(evidence);
    fill(place, head, phases, verdict, this.charts.element, checks, hits, h("div", { class: "pair" }, edits, about));
    verdict.setAttribute("aria-live", "polite");
  }
  update() {
    const { run, parts } = this;
    put(parts.head, head(run));
    put(parts.phases, bar(run));
    put(parts.verdict, run.over ? verdict(run) : null);
    this.charts.update();
    put(parts.checks, checks(run));
    put(parts.evidence, evidence(run));
    put(parts.hits, hits(run));
    put(parts.edits, edits(run));
    put(parts.about, about(run));
  }
}

function head(run) {
  const targets = [...new Set((run.plan.faults ?? []).map((fault) => fault.target))].join(", ");
  const word = run.over ? pill(run.verdict, tone(run.verdict)) : pill(run.phase, "hot");
  const report = (format) => `v1/runs/${run.run}/report?format=${format}`;
  const more = run.over
    ? [h("a", { class: "button", href: report("html"), target: "_blank", rel: "noopener" }, "Report"),
      ...["json", "markdown", "junit"].map((form) => [" ", h("a", { href: report(form), download: `${run.run}.${{ json: "json", markdown: "md", junit: "xml" }[form]}`, class: "small" }, form)])]
    : stopping(run.run);
  return [
    h("div", { class: "row" }, h("h1", {}, run.scenario), word, h("span", { class: "push" }, more)),
    h("dl", { class: "meta" }, [
      ["run", run.run], ["target", targets], ["began", moment(run.began)], ["seed", run.plan.seed], ["reach", run.plan.radius],
    ].map(([what, said]) => h("div", {}, h("dt", {}, what), h("dd", {}, said)))),
  ];
}

function stopping(name) {
  const button = h("button", { type: "button", "data-acts": "", onclick: async () => {
    button.dataset.acts = "busy";
    button.disabled = true;
    try {
      await post(`v1/runs/${name}/stop`);
    } catch (error) {
      notice("stop", "bad", problem(error));
    }
    refresh();
  } }, "Stop this run");
  return button;
}

/** Whether the host is as it was before, in words and in a tone. */
export function restoration(run) {
  if (run.open.length) {
    return ["bad", `Host NOT restored: ${run.open.map((edit) => `${edit.says} (${edit.state})`).join("; ")}. The watchdog tries on for a minute; then: chaosd revert --all`];
  }
  if (!run.edits.size) return ["good", "The host was not touched."];
  const { took = null, compared = 0, differs = [] } = run.restored ?? {};
  const same = differs.length ? `${differs.length} differ: ${differs.join(", ")}` : "all the same";
  const back = `Host restored: ${several(run.edits.size, "edit")} put back${took === null ? "" : ` in ${seconds(took)}`}`;
  return [differs.length ? "warn" : "good", `${back}, ${several(compared, "reading")} compared with before, ${same}.`];
}

function verdict(run) {
  const [how, said] = restoration(run);
  const held = run.expected.map((each) => h("li", { class: each.held ? "good" : "bad" },
    h("span", { class: "tone" }, each.held ? "held" : "not so"), ` ${each.says}: ${each.measured}`));
  return h("div", { class: `card ended ${tone(run.verdict)}` },
    h("p", { class: "big" }, h("strong", { class: "tone" }, run.verdict), run.reason ? `: ${run.reason}` : ""),
    h("p", { class: how, id: "restored" }, h("strong", { class: "tone" }, how === "bad" ? "✗ " : "✓ "), said),
    run.recovered === null ? null : h("p", {}, `Steady state again ${seconds(run.recovered)} after the fault was lifted.`),
    held.length ? h("ul", { class: "rows" }, held) : null);
}

const COLUMNS = [{ name: "check" }, { name: "" }, { name: "rate", number: true }, { name: "errors", number: true },
  { name: "p50", number: true }, { name: "p95", number: true }, { name: "p99", number: true }, { name: "" }];

const row = (name, when, found) => (found.count
  ? [name, when, rate(found.per_second), share(found.error_rate), seconds(found.p50), seconds(found.p95), seconds(found.p99), found.detail]
  : [name, when, "-", "-", "-", "-", "-", ""]);

function checks(run) {
  const names = Object.keys({ ...run.stats.before, ...run.checks });
  const rows = names.flatMap((name) => {
    const phases = WHEN.filter((when) => run.stats[when]?.[name]).map((when) => row("", when, run.stats[when][name]));
    if (!run.over && run.checks[name]) phases.push(row("", "now", run.checks[name]));
    if (phases.length) phases[0][0] = name;
    return phases;
  });
  const answer = names.map((name) => run.checks[name]?.failure).find(Boolean);
  return [h("h2", {}, "Checks"), names.length ? table(COLUMNS, rows) : h("p", { class: "soft" }, "This scenario measures nothing."),
    answer && !run.over ? h("p", { class: "bad small" }, h("span", { class: "tone" }, "last failure: "), answer) : null];
}

function evidence(run) {
  const levels = run.levels.some((level) => level !== 0 && level !== 1)
    ? h("p", { class: "small" }, "strength: ", run.plan.faults.map((fault, i) => `${fault.fault} ${share(run.levels[i])}`).join(", ")) : null;
  return [h("h2", {}, "Evidence"), run.evidence.length ? run.evidence.map(counted)
    : h("p", { class: "soft" }, run.live ? "Nothing counts hits of these faults." : "Nothing is injected yet."), levels];
}

function counted(entry) {
  const skipped = Object.entries(entry.skipped).filter(([, count]) => count);
  const figure = (count, what) => h("div", {}, h("b", {}, number(count)), ` ${what}`);
  return h("div", { class: "counted" }, h("div", { class: "soft small" }, `${entry.fault} on ${entry.target}, ${entry.unit}`),
    h("div", { class: "figures" }, figure(entry.matched, "matched"), figure(entry.injected, "injected"),
      figure(skipped.reduce((sum, [, count]) => sum + count, 0), "skipped")),
    skipped.length ? h("div", { class: "soft small" }, `skipped: ${skipped.map(([why, count]) => `${number(count)} ${why}`).join(", ")}`) : null);
}

function hits(run) {
  if (!run.hits.length) return null;
  const columns = [{ name: "at", number: true }, { name: "process" }, { name: "call" }, { name: "result" }, { name: "of" }];
  return [h("h2", {}, "Newest hits"), table(columns, run.hits.slice(-NEWEST).reverse().map((hit) =>
    [clock(hit.t - run.live), `${hit.comm} ${hit.pid}`, hit.call, hit.result, hit.detail]))];
}

function edits(run) {
  const rows = [...run.edits.values()];
  return [h("h2", {}, "Changes to this host"), rows.length ? h("ul", { class: "rows edits" }, rows.map((edit) =>
    h("li", {}, h("span", { class: "words" }, edit.says), pill(edit.state, edit.state.startsWith("stuck") ? "bad" : edit.open ? "hot" : "good"))))
    : h("p", { class: "soft" }, run.over ? "None were made." : "None yet: the steady state is looked at first.")];
}

function about(run) {
  const { description, faults = [], steady_state = {}, abort_when = [], expect = [] } = run.plan;
  const list = (what, lines) => (lines.length ? [h("h3", {}, what), h("ul", { class: "rows small" }, lines.map((line) => h("li", {}, line)))] : null);
  return [h("h2", {}, "Plan"), description ? h("p", { class: "soft small" }, description) : null,
    list("effect", faults.flatMap((fault) => fault.effect.map((line) => `${line} (${fault.mechanism})`))),
    list("steady state", Object.entries(steady_state).map(([name, check]) => `${name}: ${check}`)),
    list("abort when", abort_when), list("expect", expect)];
}

