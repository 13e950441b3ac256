// The frame around the pages: which one is shown, how the daemon stands, what must be known at once.

import { by, fill, h, notice, unnotice } from "./dom.js";
import { history } from "./history.js";
import { host } from "./host.js";
import { library } from "./library.js";
import { now } from "./now.js";
import { run } from "./run.js";
import { start } from "./start.js";
import { begin, live, mayAct, state, watch, whyNot } from "./state.js";

const PAGES = { "": now, library, start, run, history, host };
let leave = () => {};
let warned = false;

function show() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const page = PAGES[name] ?? now;
  leave();
  const place = fill(by("main"));
  leave = page(place, ...rest) ?? (() => {});
  const goes = live().some((each) => each.run === rest[0]);
  const section = { start: "library", run: goes ? "" : "history" }[name] ?? name;
  for (const link of by("nav").children) {
    if (link.hash === `#/${section}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

function frame() {
  const { status, gone } = state, link = by("link");
  if (status) by("host").textContent = status.host;
  const running = live().filter((each) => each.alive);
  document.title = `${running.length ? "● " : ""}chaosd ${status?.host ?? ""}`;
  link.className = gone ? "bad" : running.length ? "hot" : "calm";
  fill(link, gone ? "no answer" : !status ? "connecting" : running.length
    ? h("a", { href: `#/run/${running[0].run}` }, `live: ${running[0].scenario}`) : "idle");
  if (gone) {
    notice("gone", "bad", h("strong", {}, gone.status === 401 ? gone.message : "The daemon does not answer."),
      h("div", { class: "soft" }, gone.status === 401 ? gone.hint
        : "This page tries again every second. When a daemon dies its runs are put back. On the host: chaosd status; systemctl status chaosd"));
  } else unnotice("gone");
  if (status && !gone && !mayAct() && !warned) {
    warned = true;
    notice("reader", "calm", whyNot());
  }
}

/** Who may only look can press nothing that acts, and is told why. */
function acts() {
  const { gone } = state;
  for (const each of document.querySelectorAll("[data-acts]")) {
    each.disabled = !mayAct() || Boolean(gone) || each.dataset.acts === "busy";
    each.title = !mayAct() || gone ? whyNot() : "";
  }
}

let told = "";
watch(() => {
  const now = JSON.stringify([state.status?.host, state.status?.you, live().map((each) => [each.run, each.alive]), state.gone?.message]);
  if (now !== told) frame();
  told = now;
  acts();
});
addEventListener("hashchange", () => {
  document.querySelectorAll(".notice.good").forEach((each) => each.remove()); // it has been seen
  show();
  by("main").focus({ preventScroll: true });
  acts();
});
show();
begin();
