// The red button. It loads and works by itself, whatever becomes of the rest of the page.

import { post } from "./api.js";
import { by, h, notice, problem } from "./dom.js";
import { live, mayAct, refresh, state, watch, whyNot } from "./state.js";
import { several } from "./words.js";

const button = by("stop");
let busy = false;

async function stop() {
  if (busy) return;
  busy = true;
  const began = performance.now();
  const show = () => (button.textContent = `STOPPING ${Math.round((performance.now() - began) / 1e3)} s`);
  const ticking = setInterval(show, 1000);
  show();
  try {
    tell(await post("v1/stop", { all: true }));
  } catch (error) {
    notice("stop", "bad", problem(error), h("div", {}, "On the host: ", h("code", {}, "chaosd revert --all")));
  } finally {
    clearInterval(ticking);
    button.textContent = "STOP ALL";
    busy = false;
    refresh();
  }
}

function tell({ runs, stuck }) {
  if (stuck.length) {
    notice("stop", "bad", h("strong", {}, `NOT restored: ${stuck.join(", ")}`),
      h("div", {}, "See ", h("a", { href: "#/host" }, "Host"), " for what is left, or on the host: ", h("code", {}, "chaosd revert --all")));
    return;
  }
  const names = [...new Set(runs)];
  const links = names.flatMap((run) => [" ", h("a", { href: `#/run/${run}` }, run)]);
  notice("stop", "good", names.length
    ? [h("strong", {}, `Stopped ${several(names.length, "run")}`), links, h("strong", {}, ". Host restored.")]
    : h("strong", {}, "No run was live: nothing to stop."), coming());
}

/** What would begin all the same. */
function coming() {
  const { schedules = [], monkey } = state.status ?? {};
  const waiting = [...schedules, ...(monkey ? [{ ...monkey, name: "the monkey" }] : [])].filter((each) => !each.paused);
  if (!waiting.length) return null;
  return h("div", { class: "soft" }, `Still to come: ${waiting.map((each) => each.name).join(", ")}. `, h("a", { href: "#/" }, "Pause them"));
}

button.addEventListener("click", stop);
watch(() => {
  // a daemon that does not answer may do so in a moment: only who may not act is kept from it
  button.disabled = Boolean(state.status) && !mayAct();
  button.title = button.disabled ? whyNot() : "End every run and suite on this host, and put everything back";
  button.classList.toggle("hot", live().length > 0);
});
