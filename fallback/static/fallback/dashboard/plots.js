// Calls, failures and first transcripts over time, from GET /api/v1/stats.

import { byId, fetchJson, make } from "./dom.js";

const HEIGHT = 130;
let drawnAs = ""; // the providers and the look that the plots stand for
let plots = new Map();

const perStep = (seconds) => (seconds === 60 ? "a minute" : seconds < 3600 ? `in ${seconds / 60} min` : `in ${seconds / 3600} h`);

export async function paintTraffic(windowS) {
  const [hour, span] = await Promise.all([
    fetchJson("/api/v1/stats?last_s=3600"),
    fetchJson(`/api/v1/stats?last_s=${windowS}`),
  ]);
  paintTable(hour.providers.map((row) => ({ ...row.total, provider: row.provider })));
  paintPlots(span);
}

function paintTable(rows) {
  const number = (text) => make("td", { className: "number", text: String(text) });
  const ms = (value) => (value === null ? "—" : `${value} ms`);
  const lines = rows.map((row) =>
    make("tr", {}, make("th", { scope: "row", text: row.provider }), number(row.calls), number(row.failures),
      number(row.diverted), number(ms(row.latency_p50_ms)), number(ms(row.latency_p95_ms))));
  const none = make("tr", { className: "none" }, make("td", { colspan: "6", text: "No calls in the last hour." }));
  byId("traffic").replaceChildren(...(lines.length ? lines : [none]));
}

function paintPlots(span) {
  const place = byId("plots");
  const rows = span.providers.filter((row) => row.calls.some(Boolean) || row.failures.some(Boolean));
  const look = getComputedStyle(document.documentElement).getPropertyValue("--fg");
  const wanted = [look, place.clientWidth, span.step_s, ...rows.map((row) => `${row.kind}/${row.provider}`)].join();
  if (wanted !== drawnAs) {
    plots.forEach((pair) => pair.forEach((plot) => plot.destroy()));
    place.replaceChildren();
    plots = new Map(rows.map((row) => [row, figuresOf(place, row, perStep(span.step_s))]).map(([row, pair]) => [`${row.kind}/${row.provider}`, pair]));
    drawnAs = wanted;
  }
  const first = Date.parse(span.since) / 1000;
  for (const row of rows) {
    const at = row.calls.map((_, i) => first + i * span.step_s);
    const [counts, latency] = plots.get(`${row.kind}/${row.provider}`);
    counts.setData([at, row.calls, row.failures]);
    latency.setData([at, row.latency_p50_ms, row.latency_p95_ms]);
  }
}

function figuresOf(place, row, per) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const line = (label, name, extra = {}) => ({ label, stroke: colour(name), width: 1.5, points: { show: false }, ...extra });
  const dashed = { dash: [4, 3] };
  const dots = { points: { size: 4 } }; // a lone minute between two silent ones must be seen
  return [
    figure(place, `${row.provider}: calls and failures ${per}`, [line("calls", "link"), line("failures", "bad", { fill: colour("bad-soft"), ...dashed })], colour),
    figure(place, `${row.provider}: first transcript, ms`, [line("median", "link", dots), line("95 of 100 within", "held", { ...dashed, ...dots })], colour),
  ];
}

function figure(place, caption, series, colour) {
  const box = place.appendChild(make("figure", {}, make("figcaption", { text: caption })));
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
  const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC");
  const options = {
    width: box.clientWidth, height: HEIGHT, tzDate: utc,
    series: [{ label: "UTC", value: "{HH}:{mm}" }, ...series],
    axes: [{ ...axis, values: [[1, "{HH}:{mm}", null, null, null, null, null, null, 1]] }, { ...axis, size: 56 }],
    scales: { y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.1] } },
    cursor: { drag: { x: false, y: false } },
  };
  return new uPlot(options, [[], [], []], box);
}
