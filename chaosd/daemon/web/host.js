// What this host can do, and what is left over on it.

import { get, post } from "./api.js";
import { asking, fill, h, notice, pill, problem, table } from "./dom.js";
import { mayAct, refresh, state, watch } from "./state.js";

let found = null, looking = null; // what the daemon said last, and its answer that is on the way

/** Which mechanism each fault would use here, null where none works; nothing before the host was looked at. */
export const known = () => found && new Map(found.faults.map((each) => [each.fault, each.mechanism]));

function look() {
  looking ??= get("v1/capabilities").then((told) => { found = told; }).finally(() => { looking = null; });
  return looking;
}

export function host(place) {
  const again = h("button", { type: "button", onclick: () => begin() }, "Look again");
  const you = h("p", { class: "soft" }), inside = h("div", {});
  fill(place, h("div", { class: "row" }, h("h1", {}, "Host"), h("span", { class: "push" }, again)), you, inside);
  let gone = false, ticking;
  const begin = async () => {
    const since = performance.now();
    again.disabled = true;
    const bar = h("progress", { "aria-label": "Looking" }), said = h("span", {});
    const tick = () => { said.textContent = `Trying every mechanism in scratch namespaces and cgroups: ${Math.round((performance.now() - since) / 1e3)} s`; };
    tick();
    clearInterval(ticking);
    ticking = setInterval(tick, 500);
    fill(inside, h("p", { class: "row soft" }, bar, said), found ? [...inside.childNodes].slice(1) : null);
    try {
      await look();
      if (!gone) fill(inside, told(begin));
    } catch (error) {
      if (!gone) fill(inside, h("div", { class: "notice bad" }, h("div", {}, problem(error))));
    }
    clearInterval(ticking);
    again.disabled = false;
  };
  const who = () => {
    const { status } = state;
    if (status) fill(you, `${status.host}, chaosd ${status.version}${found ? `, Linux ${found.kernel}` : ""}. You are ${status.you.name} and may ${mayAct() ? "act" : "look"}.`);
  };
  who();
  if (found && !looking) fill(inside, told(begin));
  else begin().then(who);
  const unwatch = watch(who);
  return () => {
    gone = true;
    clearInterval(ticking);
    unwatch();
  };
}

function told(again) {
  const { faults, leftovers } = found, works = faults.filter((each) => each.mechanism);
  const columns = [{ name: "fault" }, { name: "mechanism" }, { name: "why not another", class: "words" }];
  return [
    h("section", { class: "card" }, h("h2", {}, "Left over"), left(leftovers, again)),
    h("section", { class: "card" }, h("div", { class: "row" }, h("h2", {}, "What this host can do"), h("span", { class: "soft" }, `${works.length} of ${faults.length} faults`)),
      table(columns, faults.map((each) => [h("code", {}, each.fault), each.mechanism ? pill(each.mechanism, "good") : pill("not here", "warn"), missing(each)]))),
  ];
}

function missing(each) {
  const reasons = Object.entries(each.missing).filter(([, why]) => String(why).length);
  const lines = h("ul", { class: "rows small" }, reasons.map(([mechanism, why]) => h("li", {}, h("code", {}, mechanism), " ", Array.isArray(why) ? why.join("; ") : String(why))));
  if (!reasons.length) return "";
  return each.mechanism ? h("details", {}, h("summary", { class: "small" }, reasons.map(([mechanism]) => mechanism).join(", ")), lines) : lines;
}

function left({ ours, others }, again) {
  const scrub = async () => {
    try {
      const { done, problems } = await post("v1/revert", { all: true, scrub: true });
      notice("revert", problems.length ? "bad" : "good", problems.length ? problems.join("; ") : done.length ? `Put back or removed: ${done.join(", ")}` : "There was nothing to put back.");
    } catch (error) {
      notice("revert", "bad", problem(error));
    }
    refresh();
    again();
  };
  return [
    ours.length ? h("ul", { class: "rows" }, ours.map((each) => h("li", { class: "bad tone" }, each))) : h("p", {}, h("span", { class: "good tone" }, "✓ "), "Nothing of chaosd is left over."),
    ours.length ? asking("Remove it all…", "Ends live runs, too.", "Yes, remove", scrub, { "data-acts": "", disabled: !mayAct() }) : null,
    others.length ? [h("h3", {}, "Of others, left alone"), h("ul", { class: "rows small" }, others.map((each) => h("li", {}, typeof each === "string" ? each : JSON.stringify(each))))] : null,
  ];
}
