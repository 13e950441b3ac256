// Charts of a run, live or over: phases shaded, limits dashed; drawn by uPlot, as in the reports.

/* global uPlot */
import { h } from "./dom.js";
import { rates } from "./fold.js";
import { clock, number, seconds, share } from "./words.js";

const HEIGHT = 170;
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const UNITS = { us: 1e-6, ms: 1e-3, s: 1, m: 60, "%": 0.01, "": 1 };
const LIMIT = /^(?:[^\s.]+\.)?(p50|p95|p99|max|error_rate|availability)\s*[<>]=?\s*([\d.]+)\s*(us|ms|s|m|%|)(?:\s|$)/;
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function limits(run) {
  const said = [...(run.plan.abort_when ?? []), ...(run.plan.expect ?? [])];
  return said.flatMap((says) => {
    const [, metric, value, unit] = LIMIT.exec(says) ?? [];
    return metric ? [{ says, metric, at: Number(value) * UNITS[unit] }] : [];
  });
}

const PLOTS = {
  latency: {
    title: "Latency", show: seconds,
    columns: (run) => figures(run, [["p95", "p95", false], ["p50", "p50", true]]),
    lines: (run) => limits(run).filter((limit) => limit.metric[0] === "p" || limit.metric === "max"),
  },
  errors: {
    title: "Error rate", show: share, range: [0, 1.04],
    columns: (run) => figures(run, [["error_rate", "", false]]),
    lines: (run) => limits(run).filter((limit) => ["error_rate", "availability"].includes(limit.metric))
      .map((limit) => (limit.metric === "availability" ? { ...limit, at: 1 - limit.at } : limit))
      .filter((limit, i, all) => all.findIndex((other) => other.at === limit.at) === i), // two ways to say the same
  },
  throughput: { title: "Throughput, probes per second", show: number, columns: (run) => figures(run, [["per_second", "", false]]), lines: () => [] },
  evidence: {
    title: "Evidence, hits per second", show: number, lines: () => [],
    columns: (run) => Object.entries(run.counts).flatMap(([name, [matched, injected]], color) => [
      { label: `${name} injected`, values: rates(run.at, injected), color },
      { label: "matched", values: rates(run.at, matched), color, dash: true }]),
  },
  host: { title: "Host, used", show: share, range: [0, 1.04], columns: hosts, lines: () => [] },
};

const some = (column) => column.some((value) => value !== null);
const ofHost = (columns) => some(columns["cpu.used"]); // what it takes to read /proc is no latency of anything

function figures(run, wanted) {
  const services = Object.entries(run.series).filter(([, columns]) => !ofHost(columns));
  return services.flatMap(([name, columns], color) => wanted.map(([figure, label, dash]) => ({
    label: label ? `${name} ${label}` : name, values: columns[figure], color, dash,
  }))).filter((column) => some(column.values));
}

function hosts(run) {
  const found = Object.entries(run.series).filter(([, columns]) => ofHost(columns));
  return found.flatMap(([name, columns], i) => ["cpu", "memory"].map((what, k) => (
    { label: found.length > 1 ? `${name} ${what}` : what, values: columns[`${what}.used`], color: 2 * i + k })));
}

/** What the legend says while no moment is pointed at. */
const newest = (column) => column.findLast((value) => value !== null);

/** The charts of a run, in an element each; `update` draws what is new, `end` lets go of them. */
export class Charts {
  constructor(run) {
    this.run = run;
    this.cards = Object.entries(PLOTS).map(([name, plot]) => new Card(name, plot, this));
    this.element = h("div", { class: "plots" }, this.cards.map((card) => card.element));
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.anew = () => this.cards.forEach((card) => card.forget());
    this.theme.addEventListener("change", this.anew);
  }
  update() {
    this.cards.forEach((card) => card.update());
  }
  end() {
    this.theme.removeEventListener("change", this.anew);
    this.cards.forEach((card) => card.end());
  }
  reach() {
    const { run } = this, last = run.at.at(-1) ?? run.started;
    const until = run.over ? last : Math.max(last, run.ends, run.started + 10);
    return [(run.at[0] ?? run.started) - run.origin, until - run.origin];
  }
}

class Card {
  constructor(name, plot, charts) {
    Object.assign(this, { plot, charts, chart: null, drawn: "" });
    this.area = h("div", { class: "area" });
    this.element = h("figure", { class: "card plot", "data-plot": name, hidden: true }, h("figcaption", {}, plot.title), this.area);
    this.sizes = new ResizeObserver(() => this.chart && this.area.clientWidth && this.chart.setSize(this.size()));
    this.sizes.observe(this.area);
  }
  size() { return { width: this.area.clientWidth, height: HEIGHT }; }
  forget() {
    this.chart?.destroy();
    this.chart = null;
    this.update();
  }
  end() {
    this.sizes.disconnect();
    this.chart?.destroy();
  }
  update() {
    const { run } = this.charts, columns = this.plot.columns(run), { origin } = run;
    this.element.hidden = !columns.length;
    this.element.dataset.points = run.at.length;
    if (!columns.length || !this.area.clientWidth) return;
    const shape = columns.map((column) => column.label).join();
    const data = [run.at.map((t) => t - origin), ...columns.map(({ values }) => run.at.map((_, i) => values[i] ?? null))];
    this.top = data.slice(1).flat().reduce((most, value) => Math.max(most, value ?? 0), 0);
    this.lines = this.plot.lines(run);
    if (this.chart && this.drawn === shape) {
      this.chart.setData(data);
      return;
    }
    this.chart?.destroy();
    this.drawn = shape;
    this.chart = new uPlot(this.options(columns), data, this.area);
  }
  options(columns) {
    const grid = { stroke: () => css("--line"), width: 1 }, show = this.plot.show;
    const axis = { stroke: () => css("--soft"), grid, ticks: grid, font: "11px system-ui, sans-serif" };
    const colors = [1, 2, 3, 4, 5, 6].map((n) => css(`--c${n}`));
    return {
      ...this.size(), padding: [6, 6, 0, 0],
      cursor: { sync: { key: this.charts.run.run }, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { x: { time: false, range: () => this.charts.reach() }, y: { range: () => this.plot.range ?? [0, this.highest()] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map(clock), space: 64, size: 34, incrs: STEPS },
        { ...axis, values: (_, ticks) => ticks.map(show), size: 58, space: 34 },
      ],
      series: [{ label: "at", value: (u, v) => clock(v ?? u.data[0].at(-1)) }, ...columns.map((column) => ({
        label: column.label, value: (u, v, i, at) => show(at === null ? newest(u.data[i]) : v), stroke: colors[column.color % colors.length],
        width: column.dash ? 1.25 : 1.75, dash: column.dash ? [4, 3] : undefined, points: { show: false },
      }))],
      hooks: { drawClear: [(u) => this.shade(u)], draw: [(u) => this.limits(u)] },
    };
  }
  highest() {
    return Math.max(this.top, ...this.lines.map((line) => line.at).filter((at) => at <= 3 * this.top)) * 1.12 || 1;
  }
  shade(u) {
    const { run } = this.charts, { ctx, bbox } = u;
    run.phases.forEach((phase, i) => {
      const from = Math.max(u.valToPos(phase.t - run.origin, "x", true), bbox.left);
      const until = (run.phases[i + 1]?.t ?? run.now) - run.origin;
      const to = Math.min(u.valToPos(until, "x", true), bbox.left + bbox.width);
      ctx.fillStyle = css(`--${phase.name}`) || "transparent";
      if (to > from) ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
    });
  }
  limits(u) {
    const { ctx, bbox } = u, ratio = devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = css("--bad");
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textAlign = "right";
    ctx.setLineDash([5 * ratio, 4 * ratio]);
    let above = 0;
    for (const line of this.lines) {
      const inside = line.at <= u.scales.y.max && line.at >= u.scales.y.min;
      const y = inside ? u.valToPos(line.at, "y", true) : bbox.top;
      if (inside) {
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
      }
      // a limit far above everything is named at the upper edge rather than squeezing the rest
      const down = inside ? (y - bbox.top < 16 * ratio ? 13 : -6) : 13 + 14 * above++;
      ctx.fillText(inside ? line.says : `↑ ${line.says}`, bbox.left + bbox.width - 4 * ratio, y + down * ratio);
    }
    ctx.restore();
  }
}
