"use strict";
// Draws the plots of every run from the data beside it; nothing is fetched.
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const palette = () => [1, 2, 3, 4, 5, 6].map((n) => css("--c" + n));
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
  const drawn = new Map(); // element -> how to draw it anew

  const round = (v, digits) => Number(v.toPrecision(digits)).toString();
  const seconds = (v) => (v == null ? "-" : Math.abs(v) < 1 ? round(v * 1e3, 3) + " ms" : round(v, 3) + " s");
  const percent = (v) => (v == null ? "-" : round(v * 100, 4) + "%");
  const number = (v) => (v == null ? "-" : v.toLocaleString("en", { maximumFractionDigits: v < 10 ? 1 : 0 }));
  const clock = (v) => (v == null ? "-" : (v > 0 ? "+" : v < 0 ? "−" : "") + (Math.abs(v) < 120
    ? round(Math.abs(v), 3) + " s"
    : Math.floor(Math.abs(v) / 60) + ":" + String(Math.floor(Math.abs(v) % 60)).padStart(2, "0") + " min"));

  function shade(run) {
    return (u) => {
      const { ctx, bbox } = u;
      ctx.save();
      for (const phase of run.phases) {
        const from = Math.max(u.valToPos(phase.begins, "x", true), bbox.left);
        const to = Math.min(u.valToPos(phase.ends, "x", true), bbox.left + bbox.width);
        if (to <= from) continue;
        ctx.fillStyle = css("--" + phase.name) || "transparent";
        ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
      }
      ctx.restore();
    };
  }

  function limits(lines) {
    return (u) => {
      const { ctx, bbox } = u, ratio = devicePixelRatio;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = css("--bad");
      ctx.font = 11 * ratio + "px system-ui, sans-serif";
      ctx.textAlign = "right";
      ctx.textBaseline = "alphabetic";
      ctx.setLineDash([5 * ratio, 4 * ratio]);
      let above = 0;
      for (const line of lines) {
        const inside = line.at <= u.scales.y.max && line.at >= u.scales.y.min;
        const y = inside ? u.valToPos(line.at, "y", true) : bbox.top;
        if (inside) {
          ctx.beginPath();
          ctx.moveTo(bbox.left, y);
          ctx.lineTo(bbox.left + bbox.width, y);
          ctx.stroke();
        }
        // a limit far above everything is named at the upper edge rather than squeezing the rest
        const text = inside ? line.says : "↑ " + line.says;
        const down = inside ? (y - bbox.top < 16 * ratio ? 13 : -4) : 13 + 14 * above++;
        ctx.fillText(text, bbox.left + bbox.width - 4 * ratio, y + down * ratio);
      }
      ctx.restore();
    };
  }

  function draw(area, run, plot) {
    const ink = css("--soft"), grid = { stroke: css("--line"), width: 1 }, font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, grid, ticks: grid, font };
    const colors = palette();
    const top = Math.max(...plot.columns.flatMap((c) => c.values).filter((v) => v != null), 0);
    const reach = Math.max(top, ...plot.lines.map((l) => l.at).filter((at) => at <= 3 * top)) * 1.12 || 1;
    area.textContent = "";
    return new uPlot({
      width: area.clientWidth, height: 210,
      cursor: { sync: { key: run.run }, points: { size: 6 } },
      legend: { live: true },
      scales: { x: { time: false }, y: { range: plot.range || [0, reach] } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map(clock), space: 64, incrs: steps },
        { ...axis, values: (_, ticks) => ticks.map(plot.show), size: 58 },
      ],
      series: [{ label: "at", value: (_, v) => clock(v) }, ...plot.columns.map((column) => ({
        label: column.label, value: (_, v) => plot.show(v), stroke: colors[column.color % colors.length],
        width: column.dash ? 1.25 : 1.75, dash: column.dash ? [4, 3] : undefined, spanGaps: Boolean(run.span),
        points: { show: column.values.filter((v) => v != null).length < 3 },
      }))],
      hooks: { drawClear: [shade(run)], draw: [limits(plot.lines)] },
    }, [run.series.at, ...plot.columns.map((column) => column.values)], area);
  }

  function columns(table, figures) {
    return Object.entries(table).flatMap(([name, values], color) => figures.map(([figure, label, dash]) => ({
      label: label ? name + " " + label : name, values: values[figure], color, dash,
    }))).filter((column) => column.values.some((v) => v != null));
  }

  function plots(run) {
    const { checks, faults, levels } = run.series;
    const times = run.thresholds.filter((t) => ["p50", "p95", "p99", "max"].includes(t.metric));
    const shares = run.thresholds.filter((t) => ["availability", "error_rate"].includes(t.metric));
    const least = shares.map((t) => ({ says: t.says, at: t.metric === "availability" ? t.limit : 1 - t.limit }));
    return {
      latency: { show: seconds, lines: times.map((t) => ({ says: t.says, at: t.limit })),
        columns: columns(checks, [["p95", "p95", false], ["p50", "p50", true]]) },
      availability: { show: percent, range: [0, 1.04], columns: columns(checks, [["availability", "", false]]),
        // two ways to say the same are one line
        lines: least.filter((l, i) => least.findIndex((o) => o.at === l.at) === i && l.at >= 0 && l.at <= 1) },
      throughput: { show: number, lines: [], columns: columns(checks, [["per_second", "", false]]) },
      evidence: { show: number, lines: [],
        columns: columns(faults, [["injected", "hit", false], ["matched", "matched", true]]) },
      strength: { show: percent, range: [0, 1.04], lines: [],
        columns: Object.entries(levels).map(([label, values], color) => ({ label, values, color })) },
    };
  }

  function show(article) {
    const run = JSON.parse(article.querySelector("script[type='application/json']").textContent);
    const all = plots(run);
    for (const card of article.querySelectorAll(".plot")) {
      const plot = all[card.dataset.plot], area = card.querySelector(".area");
      if (drawn.has(area) || !plot.columns.length) {
        card.hidden = !plot.columns.length;
        continue;
      }
      let chart = draw(area, run, plot);
      drawn.set(area, () => { chart.destroy(); chart = draw(area, run, plot); });
      new ResizeObserver(() => area.clientWidth && chart.setSize({ width: area.clientWidth, height: 210 })).observe(area);
    }
  }

  const again = () => drawn.forEach((redraw) => redraw());
  const runs = [...document.querySelectorAll(".inside")];
  const visible = (run) => !run.closest("details.run:not([open])");
  runs.filter(visible).forEach(show);
  for (const run of runs) run.closest("details.run")?.addEventListener("toggle", () => visible(run) && show(run));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("print").addEventListener("change", again);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((d) => (d.open = true));
    runs.forEach(show);
  });
  const wanted = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target) target.open = true;
  };
  addEventListener("hashchange", wanted);
  wanted();
})();
