// The state of a run, folded from its records, as chaosd/report/fold.py has it.

export const PHASES = ["baseline", "inject", "fault", "revert", "recover"];
const FIGURES = ["p50", "p95", "error_rate", "per_second", "cpu.used", "memory.used"];
const HITS = 100;

export class Run {
  constructor() {
    this.run = "";
    this.scenario = "";
    this.plan = {};
    this.began = this.started = this.live = this.ends = this.now = 0; // CLOCK_BOOTTIME, but `began`
    this.heard = 0; // by the page's clock, when `now` was told
    this.phase = "starting";
    this.phases = [];
    this.checks = {};
    this.evidence = [];
    this.hits = [];
    this.levels = [];
    this.stats = {};
    this.edits = new Map();
    this.expected = [];
    this.restored = null;
    this.recovered = null;
    this.verdict = this.reason = "";
    this.at = [];
    this.series = {}; // check -> figure -> column
    this.counts = {}; // fault -> [matched, injected], each a column of what was counted until then
    this.seen = new Set();
  }

  /** Take one more record into account; one that was taken before, and kinds that are not known, are passed over. */
  add(record) {
    const key = `${record.type} ${record.t} ${record.n ?? ""}`;
    if (this.seen.has(key)) return;
    this.seen.add(key);
    this.now = record.t ?? this.now;
    this.heard = performance.now() / 1e3;
    this[`on_${record.type}`]?.(record);
  }

  get over() { return this.phase === "ended"; }
  get open() { return [...this.edits.values()].filter((edit) => edit.open); }
  /** The moment that the time axis counts from. */
  get origin() { return this.live || this.started; }
  /** CLOCK_BOOTTIME as of now, as far as the page can know. */
  clock() { return this.over ? this.now : this.now + performance.now() / 1e3 - this.heard; }

  on_run(r) {
    this.run = r.run;
    this.scenario = r.scenario;
    this.began = r.at;
    this.started = r.t;
    this.plan = r.plan;
  }
  on_phase(r) {
    this.phase = r.phase;
    this.phases.push({ name: r.phase, t: r.t });
    this.ends = r.ends ?? this.ends;
    if (r.phase === "fault") this.live = r.t;
  }
  on_intend(r) { this.edits.set(r.n, { says: r.says, state: "promised", open: true }); }
  on_applied(r) { this.edits.get(r.n).state = "applied"; }
  on_reverted(r) { Object.assign(this.edits.get(r.n), { state: r.undo, open: false }); }
  on_stuck(r) { this.edits.get(r.n).state = `stuck: ${r.error}`; }
  on_sample(r) {
    this.checks = r.checks;
    if (!["revert", "recover"].includes(this.phase) && r.evidence.length) this.evidence = r.evidence;
    this.levels = r.levels ?? [];
    this.hits = [...this.hits, ...(r.hits ?? [])].slice(-HITS);
    const length = this.at.push(r.t);
    for (const [name, figures] of Object.entries(r.checks)) {
      const columns = (this.series[name] ??= Object.fromEntries(FIGURES.map((figure) => [figure, []])));
      for (const figure of FIGURES) put(columns[figure], length, figures[figure] ?? figures.figures?.[figure] ?? null);
    }
    for (const entry of r.evidence) {
      const name = r.evidence.length > 1 ? `${entry.fault} on ${entry.target}` : entry.fault;
      const columns = (this.counts[name] ??= [[], []]);
      [entry.matched, entry.injected].forEach((count, i) => put(columns[i], length, count + (columns[i].length === length ? columns[i][length - 1] : 0)));
    }
  }
  on_stats(r) { this.stats[r.when] = r.checks; }
  on_expected(r) { this.expected = r.outcomes; }
  on_restored(r) { this.restored = r; }
  on_recovered(r) { this.recovered = r.took; }
  on_end(r) {
    this.verdict = r.verdict;
    this.reason = r.reason;
    this.phase = "ended";
  }
}

function put(column, length, value) {
  while (column.length < length - 1) column.push(null);
  column[length - 1] = value;
}

/** What was counted, as events a second between one sample and the next. */
export function rates(at, column) {
  return at.map((t, i) => {
    const [before, after] = [column[i - 1], column[i]];
    if (i === 0 || after === null || after === undefined) return null;
    return Math.max(after - (before ?? 0), 0) / (t - at[i - 1]);
  });
}
