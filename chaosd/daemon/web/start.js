// A scenario with its settings, the plan of what it would do here, and only then the start of it.

import { get, post, text } from "./api.js";
import { fill, h, pill, problem, table } from "./dom.js";
import { all } from "./library.js";
import { mayAct, refresh, state, whyNot } from "./state.js";
import { radiusTone, seconds } from "./words.js";

const EVERYTHING = "entire-system";
const OWN = `name: mine
description: What a healthy system does meanwhile.
duration: 10s
faults:
  - network.delay: {delay: 100ms}
`;

export function start(place, name) {
  fill(place, h("p", { class: "soft" }, "Reading…"));
  const made = name ? Promise.all([all(), text(`v1/scenarios/${encodeURIComponent(name)}`)]) : Promise.resolve([[], OWN]);
  made.then(([scenarios, written]) => new Form(place, scenarios.find((each) => each.name === name) ?? null, written),
    (error) => fill(place, h("div", { class: "notice bad" }, h("div", {}, problem(error)))));
}

class Form {
  constructor(place, scenario, written) {
    this.scenario = scenario;
    this.fields = {};
    this.plan = h("section", { class: "card plan", "aria-live": "polite" });
    this.form = h("form", { class: "card", onsubmit: (event) => { event.preventDefault(); this.preview(); }, oninput: () => this.forget() },
      h("div", { class: "fields" }, this.common()), scenario ? this.parameters(written) : this.own(written),
      h("div", { class: "row" }, h("button", { type: "submit", class: "primary", "data-acts": "", disabled: !mayAct(), title: mayAct() ? null : whyNot() }, "Preview the plan"),
        h("span", { class: "soft small" }, "Looks at the host and touches nothing.")));
    fill(place,
      h("div", { class: "row" }, h("h1", {}, scenario?.name ?? "Your own scenario"), scenario ? pill(scenario.blast_radius, radiusTone(scenario.blast_radius)) : null),
      scenario ? h("p", { class: "lead" }, scenario.description) : h("p", { class: "lead" }, "As in a file for chaosd run. Programs and files that it uses must be allowed in the daemon's configuration."),
      h("div", { class: "pair start" }, h("div", {}, this.form, scenario ? this.more(written) : null), this.plan));
    this.forget();
  }

  field(key, label, about, hint) {
    const input = h("input", { id: `f-${key}`, autocomplete: "off", spellcheck: "false", autocapitalize: "none", ...about });
    this.fields[key] = input;
    return h("div", { class: "field" }, h("label", { for: input.id }, label), input, hint ? h("div", { class: "soft small" }, hint) : null);
  }

  common() {
    return [
      this.field("target", "target", { placeholder: "container:api", list: "targets" }, "pid:, comm:, unit:, cgroup:, container:, netns:, dev:, or host"),
      this.field("duration", "duration", { placeholder: this.scenario?.duration ?? "as written" }, "such as 30s; at most 30m"),
      this.field("seed", "seed", { placeholder: "random", inputmode: "numeric", pattern: "[0-9]*" }, "the same seed, the same choices"),
    ];
  }

  parameters(written) {
    const known = Object.entries(this.scenario.parameters);
    if (!known.length) return null;
    const about = remarks(written);
    return [h("h2", {}, "Parameters"), h("div", { class: "fields" }, known.map(([key, value]) =>
      this.field(`set-${key}`, key, { value: shown(value), "data-default": shown(value) }, about[key])))];
  }

  own(written) {
    this.fields.text = h("textarea", { id: "f-text", rows: 16, spellcheck: "false", value: written });
    return h("div", { class: "field" }, h("label", { for: "f-text" }, "scenario"), this.fields.text);
  }

  more(written) {
    const faults = h("div", {}, h("p", { class: "soft" }, "Reading…"));
    let read = false;
    return [
      h("details", {}, h("summary", {}, "The scenario as it is written"), h("pre", {}, written)),
      h("details", { ontoggle: async () => {
        if (read) return;
        read = true;
        const names = [...new Set(this.scenario.faults)];
        const found = await Promise.all(names.map((fault) => get(`v1/faults/${fault}`))).catch((error) => fill(faults, problem(error)) && []);
        if (found.length) fill(faults, found.map(described));
      } }, h("summary", {}, `What ${[...new Set(this.scenario.faults)].join(", ")} can do`), faults),
    ];
  }

  /** What is asked of the daemon. */
  order() {
    const value = (key) => this.fields[key].value.trim();
    const order = this.scenario ? { scenario: this.scenario.name, set: this.settings() } : { text: this.fields.text.value };
    if (value("target")) order.target = value("target");
    if (value("duration")) order.duration = value("duration");
    if (value("seed")) order.seed = Number(value("seed"));
    return order;
  }

  settings() {
    const changed = Object.entries(this.fields).filter(([key, input]) => key.startsWith("set-") && input.value !== input.dataset.default);
    return Object.fromEntries(changed.map(([key, input]) => [key.slice(4), like(this.scenario.parameters[key.slice(4)], input.value)]));
  }

  forget() {
    this.asked = (this.asked ?? 0) + 1; // what is still on its way is of former settings
    fill(this.plan, h("h2", {}, "Plan"), h("p", { class: "soft" },
      "Before anything is touched you see here what would change, by which mechanism, and how far it reaches."));
  }

  async preview() {
    this.forget();
    const mine = this.asked, order = this.order();
    fill(this.plan, h("h2", {}, "Plan"), h("p", { class: "soft" }, "Working it out…"));
    try {
      const plan = await post("v1/plans", order);
      if (mine === this.asked) this.show(plan, order);
    } catch (error) {
      if (mine === this.asked) fill(this.plan, h("h2", {}, "Plan"), h("div", { class: "bad refused lines" }, h("span", { class: "tone" }, problem(error))));
    }
  }

  show(plan, order) {
    const lines = (what, said) => (said.length ? [h("dt", {}, what), said.map((line) => h("dd", {}, line))] : null);
    const last = plan.faults.some((fault) => fault.irreversible);
    fill(this.plan,
      h("div", { class: "row" }, h("h2", {}, "Plan"), pill(`reaches ${plan.radius}`, radiusTone(plan.radius)), h("span", { class: "soft small push" }, `${seconds(plan.duration)}, seed ${plan.seed}`)),
      plan.faults.map((fault) => h("div", { class: "planned" },
        h("p", {}, h("strong", {}, fault.fault), " on ", h("code", {}, fault.target), " by ", h("code", {}, fault.mechanism),
          fault.irreversible ? [" ", pill("cannot be undone", "bad")] : null),
        fault.start !== 0 || fault.end !== plan.duration || fault.shape !== "constant"
          ? h("p", { class: "soft small" }, `from ${seconds(fault.start)} to ${seconds(fault.end)}, ${fault.shape}`) : null,
        h("dl", { class: "lines" }, lines("change", fault.edits), lines("effect", fault.effect)))),
      h("dl", { class: "lines" }, lines("steady state", Object.entries(plan.steady_state).map(([name, check]) => `${name}: ${check}`)),
        lines("abort when", plan.abort_when), lines("expect", plan.expect)),
      h("p", { class: "soft small" }, "Nothing was touched. Everything is put back at the end, at a threshold, at a stop, and if chaosd dies",
        last ? "; what cannot be undone is not." : "."),
      this.confirmation(plan, order));
  }

  confirmation(plan, order) {
    const targets = [...new Set(plan.faults.map((fault) => fault.target))].join(", ");
    const wide = plan.radius === EVERYTHING, said = h("div", { role: "alert" });
    const word = h("input", { id: "f-word", autocomplete: "off", spellcheck: "false", autocapitalize: "none", oninput: (event) => { event.stopPropagation(); ready(); } });
    const yes = h("button", { type: "button", class: "danger", id: "yes", onclick: () => this.begin(plan, order, wide, yes, said) }, "Yes, start the run");
    const ready = () => { yes.disabled = wide && word.value.trim() !== EVERYTHING; };
    const first = h("button", { type: "button", class: "danger", id: "begin", "data-acts": "", disabled: !mayAct(), onclick: () => {
      fill(place, h("p", {}, h("strong", {}, `Inject ${plan.faults.map((fault) => fault.fault).join(", ")} into ${targets} on ${state.status?.host ?? "this host"} for ${seconds(plan.duration)}?`)),
        wide ? h("div", { class: "field" }, h("label", { for: "f-word" }, "This reaches everything on the host. To confirm, type ", h("code", {}, EVERYTHING)), word) : null,
        h("div", { class: "row" }, yes, h("button", { type: "button", onclick: () => this.show(plan, order) }, "Cancel")), said);
      ready();
      (wide ? word : yes).focus();
    } }, "Start the run…");
    const place = h("div", { class: "confirm" }, first);
    return place;
  }

  /** With the seed of the plan: what was shown is what is done. */
  async begin(plan, order, wide, button, said) {
    button.disabled = true;
    fill(said, h("p", { class: "soft" }, "Starting…"));
    try {
      const { run } = await post("v1/runs", { ...order, seed: plan.seed, yes_entire_system: wide });
      await refresh();
      location.hash = `#/run/${run}`;
    } catch (error) {
      button.disabled = false;
      const holder = error.status === 409 ? /[0-9a-f]{6}/.exec(error.message)?.[0] : null;
      fill(said, h("p", { class: "bad" }, h("span", { class: "tone" }, problem(error)), holder ? [" ", h("a", { href: `#/run/${holder}` }, "Watch it")] : null));
      await refresh();
    }
  }
}

function described(fault) {
  const columns = [{ name: "field" }, { name: "type" }, { name: "default" }, { name: "meaning" }];
  return [h("h3", {}, fault.name), h("p", { class: "small" }, fault.doc),
    table(columns, Object.entries(fault.fields).map(([name, field]) => [h("code", {}, name), field.type, field.default, field.description]), { class: "small" })];
}

/** What is remarked in the file behind each parameter. */
function remarks(written) {
  const block = /^parameters:\n((?:[ #].*\n|\n)*)/m.exec(written)?.[1] ?? "";
  return Object.fromEntries([...block.matchAll(/^ +([\w-]+):.*?\s#\s*(.+)$/gm)].map(([, key, said]) => [key, said]));
}

const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** A value as typed, of the kind that the parameter has; what it cannot be, the daemon says in its own words. */
function like(former, typed) {
  if (typeof former === "string") return typed;
  try {
    return JSON.parse(typed);
  } catch {
    return typed;
  }
}

