// Charts. Each <figure data-chart="id"> of the facility page is fed by the live
// connection's series; a <figure data-points> carries its points and stands
// still. Caption and table say the same in words.
import uPlot from "uplot";

const windowSeconds = 30 * 60, pointsMax = 4000;
const charts = new Map();

const css = (el, name) => {
  const probe = document.createElement("span");
  probe.className = `probe-${name}`;
  el.append(probe);
  const c = getComputedStyle(probe).color;
  probe.remove();
  return c;
};

const msSteps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 1800e3, 3600e3, 7200e3, 21600e3, 86400e3];
const steps = { ms: fmtMs, rows: fmtCount, bytes: fmtBytes, rate: fmtCount };

function fmtMs(v) { return v == null ? "–" : v >= 3600000 ? `${+(v / 3600000).toFixed(1)} h` : v >= 60000 ? `${+(v / 60000).toFixed(1)} min` : v >= 1000 ? `${+(v / 1000).toFixed(1)} s` : `${+v.toFixed(1)} ms`; }
function fmtCount(v) { return v == null ? "–" : v >= 1e6 ? `${+(v / 1e6).toFixed(1)} M` : v >= 1e4 ? `${+(v / 1e3).toFixed(1)} k` : `${+v.toFixed(1)}`; }
function fmtBytes(v) { return v == null ? "–" : v >= 1 << 30 ? `${+(v / (1 << 30)).toFixed(1)} GiB` : v >= 1 << 20 ? `${+(v / (1 << 20)).toFixed(1)} MiB` : v >= 1024 ? `${+(v / 1024).toFixed(1)} KiB` : `${Math.round(v)} B`; }

function make(fig) {
  const box = fig.querySelector(".plot"), unit = steps[fig.dataset.unit] ?? fmtCount;
  const zone = document.body.dataset.zone || undefined;
  const at = (s, o) => new Date(s * 1000).toLocaleTimeString("en-GB", { timeZone: zone, hourCycle: "h23", hour: "2-digit", minute: "2-digit", second: "2-digit", ...o });
  const ink = css(fig, "ink"), grid = css(fig, "grid"), line = css(fig, "line"), fill = css(fig, "fill");
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif" };
  return new uPlot({
    width: Math.max(200, box.clientWidth), height: 180, legend: { show: false },
    cursor: { y: false, points: { size: 7 } },
    scales: {
      x: { time: true, range: (u) => { const t = u.data[0], end = t.at(-1) ?? Date.now() / 1000; return [Math.min(t[0] ?? end, end - 120), end]; } },
      y: { range: (u, lo, hi) => [0, Math.max(hi * 1.15 || 0, Number(fig.dataset.floor) || 1)] },
    },
    axes: [
      { ...axis, values: (u, vs) => vs.map((v) => at(v, { second: vs[1] - vs[0] < 60 ? "2-digit" : undefined })), space: 70 },
      { ...axis, values: (u, vs) => vs.map(unit), size: 62, incrs: fig.dataset.unit === "ms" ? msSteps : undefined },
    ],
    series: [{}, { stroke: line, width: 2, fill, points: { show: false }, spanGaps: false }],
    hooks: {
      setCursor: [(u) => {
        const i = u.cursor.idx, out = fig.querySelector(".reading");
        if (i == null) reading(fig, charts.get(fig));
        else if (out) out.textContent = `${unit(u.data[1][i])} at ${at(u.data[0][i], { timeZoneName: "short" })}`;
      }],
    },
  }, charts.get(fig)?.data ?? [[], []], box);
}

function draw(fig) {
  const c = charts.get(fig);
  c.plot?.destroy();
  c.plot = make(fig);
  reading(fig, c);
}

function reading(fig, c) {
  const unit = steps[fig.dataset.unit] ?? fmtCount, out = fig.querySelector(".reading"), n = c.data[0].length;
  if (out && n && c.plot && c.plot.cursor.idx == null) out.textContent = c.data[1][n - 1] == null ? "not known now" : `now ${unit(c.data[1][n - 1])}`;
}

function feed(e) {
  for (const [id, s] of Object.entries(e.detail)) {
    const fig = document.querySelector(`figure[data-chart="${CSS.escape(id)}"]`);
    if (!fig) continue;
    let c = charts.get(fig);
    if (!c) { c = { data: [[], []] }; charts.set(fig, c); new ResizeObserver(() => c.plot?.setSize({ width: Math.max(200, fig.querySelector(".plot").clientWidth), height: 180 })).observe(fig); }
    if (s.reset) c.data = [[], []];
    c.data[0].push(...s.t);
    c.data[1].push(...s.v);
    const oldest = c.data[0].at(-1) - windowSeconds;
    let cut = c.data[0].findIndex((t) => t >= oldest);
    cut = Math.max(cut, c.data[0].length - pointsMax);
    if (cut > 0) c.data = c.data.map((a) => a.slice(cut));
    if (!c.plot) draw(fig); else c.plot.setData(c.data);
    reading(fig, c);
  }
}

// A still chart: points by week, a line for each name with a dash of its own,
// so that colour is not the only sign.
const dashes = { p50: [], p95: [8, 4], p99: [2, 3] };

function makeStill(fig) {
  const box = fig.querySelector(".plot"), unit = steps[fig.dataset.unit] ?? fmtCount, names = fig.dataset.names.split(",");
  const zone = document.body.dataset.zone || undefined;
  const day = (s, o) => new Date(s * 1000).toLocaleDateString("en-GB", { timeZone: zone, day: "numeric", month: "short", ...o });
  const ink = css(fig, "ink"), grid = css(fig, "grid");
  const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif" };
  const out = fig.querySelector(".reading");
  const say = (data, i) => { if (out) out.textContent = i == null ? names.join(" · ") : `${names.map((n, k) => `${n} ${unit(data[k + 1][i])}`).join(" · ")}, week until ${day(data[0][i])}`; };
  const data = JSON.parse(fig.dataset.points);
  say(data, data[1].findLastIndex((v) => v != null));
  return new uPlot({
    width: Math.max(200, box.clientWidth), height: 220, legend: { show: false }, cursor: { y: false, points: { size: 7 } },
    scales: { x: { time: true }, y: { range: (u, lo, hi) => [0, (hi || 1) * 1.15] } },
    axes: [
      { ...axis, values: (u, vs) => vs.map((v) => day(v)), space: 60 },
      { ...axis, values: (u, vs) => vs.map(unit), size: 62, incrs: fig.dataset.unit === "ms" ? msSteps : undefined },
    ],
    series: [{}, ...names.map((n) => ({ stroke: css(fig, n), width: 2, dash: dashes[n], points: { show: true, size: 6 }, spanGaps: false }))],
    hooks: { setCursor: [(u) => say(u.data, u.cursor.idx ?? u.data[1].findLastIndex((v) => v != null))] },
  }, data, box);
}

const still = new Map();

function drawStill(fig) {
  still.get(fig)?.destroy();
  still.set(fig, makeStill(fig));
}

for (const fig of document.querySelectorAll("figure[data-points]")) {
  drawStill(fig);
  new ResizeObserver(() => still.get(fig)?.setSize({ width: Math.max(200, fig.querySelector(".plot").clientWidth), height: 220 })).observe(fig);
}

document.addEventListener("hf:series", feed);
document.addEventListener("hf:theme", () => { for (const fig of charts.keys()) draw(fig); for (const fig of still.keys()) drawStill(fig); });
