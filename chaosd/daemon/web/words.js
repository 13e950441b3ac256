// Figures as people read them, as in the reports.

const round = (value, digits) => Number(value.toPrecision(digits)).toString();

export const seconds = (v) => {
  if (v === null || v === undefined) return "-";
  if (Math.abs(v) < 1) return `${round(v * 1e3, 3)} ms`;
  if (Math.abs(v) < 120) return `${round(v, 3)} s`;
  return `${Math.floor(v / 60)} min ${Math.round(v % 60)} s`;
};
export const share = (v) => {
  if (v === null || v === undefined) return "-";
  const said = `${round(v * 100, 3)}%`;
  return said === "100%" && v < 1 ? ">99.9%" : said;
};
export const number = (v) => (v === null || v === undefined ? "-"
  : v.toLocaleString("en", { maximumFractionDigits: v < 10 ? 1 : 0 }));
export const rate = (v) => (v === null || v === undefined ? "-" : `${number(v)}/s`);
export const points = (v) => (v === null || v === undefined ? "-" : round(Math.floor(v * 10 + 1e-6) / 10, 4));
export const several = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

/** Seconds around the moment from which the faults were in force. */
export const clock = (v) => {
  if (v === null || v === undefined) return "-";
  const sign = v > 0 ? "+" : v < 0 ? "−" : "", at = Math.abs(v);
  return at < 120 ? `${sign}${round(at, 3)} s`
    : `${sign}${Math.floor(at / 60)}:${String(Math.floor(at % 60)).padStart(2, "0")} min`;
};

const two = (v) => String(v).padStart(2, "0");
/** A moment, Unix time in seconds, by the reader's clock. */
export const moment = (unix) => {
  const d = new Date(unix * 1e3);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
};

const TONES = {
  passed: "good", failed: "bad", aborted: "bad", "target-lost": "bad", "not-restored": "bad", refused: "bad",
  inconclusive: "warn", interrupted: "warn", killed: "warn", unfinished: "warn", unsupported: "warn",
};
export const tone = (verdict) => TONES[verdict] || "calm";

const RADII = { "single-request": "calm", "single-service": "calm", "service-cluster": "warn", "entire-system": "bad" };
export const radiusTone = (radius) => RADII[radius] || "calm";
