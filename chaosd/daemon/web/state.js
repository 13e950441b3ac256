// What the page knows: how the daemon stands, asked every few seconds, and what happens, as it happens.
//
// There is one stream for each page, of everything, and none while the page is not seen: a browser opens
// six connections to a server and no more, and STOP ALL must never wait for one.

import { get, stream } from "./api.js";
import { Run } from "./fold.js";

const EVERY = 3000;
const LONGEST = 5000; // until it is called gone
const AGAIN = 1000;

export const state = { status: null, gone: null, runs: new Map() };
const watchers = new Set();

/** Be told of every change; returns a way not to be any more. */
export function watch(tell) {
  watchers.add(tell);
  return () => watchers.delete(tell);
}

let due = false;
function changed() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    watchers.forEach((tell) => tell());
  });
}

export const mayAct = () => state.status?.you.may === "act";
export const whyNot = () => (state.gone ? "The daemon does not answer."
  : `${state.status?.you.name ?? "You"} may only look: root and members of the daemon's group may act.`);
/** The runs that hold the host; one that is known to be over and put back does not, whatever was said before. */
export const live = () => (state.status?.live ?? []).filter(({ run }) => {
  const known = state.runs.get(run);
  return !known?.over || known.open.length > 0;
});

const calm = (promise) => promise.catch(() => null);

/** Ask how the daemon stands. */
export async function refresh() {
  const before = live().map((each) => each.run);
  try {
    state.status = await get("v1/status", AbortSignal.timeout(LONGEST));
    state.gone = null;
  } catch (error) {
    state.gone = error;
  }
  changed();
  const now = live().map((each) => each.run);
  const over = before.filter((name) => !now.includes(name) && !state.runs.get(name)?.over); // how it ended
  await calm(Promise.all([...now.map(heal), ...over.map(read)]));
}

const asked = new Map(); // run -> the moment of its newest record when it was looked at last

/** A run that nothing new is heard of, such as one that the daemon has not started, is read once more. */
async function heal(name) {
  const known = state.runs.get(name), before = asked.get(name);
  asked.set(name, known?.now);
  if (!known || known.now === before) await read(name);
}

/** All records of a run that there are so far, taken into account once. */
export async function read(name) {
  const records = [];
  for await (const record of await stream(`v1/runs/${name}/events?follow=false`)) records.push(record);
  const run = state.runs.get(name) ?? new Run();
  records.forEach((record) => run.add(record)); // at once: what the other stream tells comes before or after
  state.runs.set(name, run);
  changed();
  return run;
}

async function take(record) {
  if (record.run && record.type !== "schedule") {
    let run = state.runs.get(record.run);
    if (!run && record.type !== "run") run = await calm(read(record.run));
    if (!run) state.runs.set(record.run, run = new Run());
    run.add(record);
  }
  if (["run", "end", "schedule", "monkey", "refused"].includes(record.type)) refresh();
  changed();
}

async function listen() {
  for (;;) {
    if (document.hidden) {
      await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
      continue;
    }
    const cut = new AbortController(), unseen = () => document.hidden && cut.abort();
    document.addEventListener("visibilitychange", unseen);
    try {
      const records = await stream("v1/events", cut.signal);
      await refresh();
      await Promise.all(live().map((each) => read(each.run))); // what happened while nobody listened
      for await (const record of records) await take(record);
    } catch {
      // the daemon is gone, or the page is not seen: either way it is tried again
    }
    document.removeEventListener("visibilitychange", unseen);
    if (!document.hidden) await refresh();
    await new Promise((later) => setTimeout(later, AGAIN));
  }
}

export function begin() {
  setInterval(() => document.hidden || refresh(), EVERY);
  listen();
}
