// The timeline of one provider: failures, the incidents there were, and what each lane would have
// done, under one another on one axis.

import { drawn, make } from "../dashboard/dom.js";
import { clock, length, moment, msOf } from "./words.js";

const WIDTH = 1000;
const HIGH = 22;
const HEIGHTS = { closed: 4, shadow: 4, forced_closed: 4, half_open: 12 };
const NARROWEST = 2;
const ADMITS = ["closed", "shadow", "forced_closed"];

export function paintLanes(row, span, lanes) {
  const axis = { since: msOf(span.since), until: msOf(span.until) };
  const lines = [
    failuresLine(row, axis),
    line("Incidents", "incident", row.incidents.map((one) => ({ state: "incident", since: one.began, until: one.ended })), axis),
    ...lanes.map(([name, label]) => line(label, name, row.lanes[name].spells, axis, row.lanes[name])),
  ];
  const marks = [0, 1, 2, 3, 4].map((part) => axis.since + ((axis.until - axis.since) * part) / 4);
  const ticks = marks.map((at) => make("span", { text: clock(at, axis.until - axis.since) }));
  return make("div", { className: "lanes" }, ...lines, make("div", { className: "lane-ticks", "aria-hidden": "true" }, make("span", {}), make("div", {}, ...ticks)));
}

// `lane`: its own sums, which count what there was no room to list too.
function line(label, name, spells, axis, lane = null) {
  const parts = spells.map((one) => ({ ...one, since: msOf(one.since), until: one.until === null ? axis.until : msOf(one.until) }));
  const out = parts.filter((one) => !ADMITS.includes(one.state));
  const listed = out.filter((one) => one.state !== "half_open").length;
  const times = Math.max(listed, lane?.trips ?? 0);
  const said = lane === null ? `${times || "none"}` : times ? `out ${times === 1 ? "once" : `${times} times`}, for ${length(lane.out_s)}` : "never out";
  const cut = times > listed ? `, drawn up to ${moment(parts.at(-1).until)}` : "";
  return shownLine(label, `${said}${cut}`, name, parts.map((one) => bar(one, axis)));
}

function shownLine(label, said, name, shapes) {
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HIGH}`, preserveAspectRatio: "none", role: "img", "aria-label": `${label}: ${said}` }, ...shapes);
  const words = make("span", { className: "lane-name" }, make("b", { text: label }), " ", make("span", { className: "quiet", text: said }));
  return make("div", { className: `lane-line lane-${name}` }, words, svg);
}

function bar({ state, since, until }, axis) {
  const scale = WIDTH / (axis.until - axis.since);
  const height = HEIGHTS[state] ?? HIGH;
  const from = Math.max(since, axis.since);
  const width = Math.max((Math.min(until, axis.until) - from) * scale, NARROWEST);
  const x = Math.min((from - axis.since) * scale, WIDTH - width);
  const title = drawn("title", {});
  title.textContent = `${state.replaceAll("_", " ")}, ${moment(since)} to ${moment(until)}, ${length((until - since) / 1000)}`;
  const place = { x: x.toFixed(2), width: width.toFixed(2), y: (HIGH - height) / 2, height };
  return drawn("rect", { class: `spell spell-${state}`, ...place }, title);
}

function failuresLine(row, axis) {
  const counts = row.failed_in;
  const most = Math.max(...counts, 1);
  const step = WIDTH / Math.max(counts.length, 1);
  const bars = counts.map((count, index) => {
    const height = count ? Math.max((HIGH * count) / most, 2) : 0;
    return drawn("rect", { class: "failures", x: (index * step).toFixed(2), width: Math.max(step, 1).toFixed(2), y: (HIGH - height).toFixed(2), height: height.toFixed(2) });
  });
  const total = counts.reduce((sum, count) => sum + count, 0);
  return shownLine("Failures", total ? `${total}, at most ${most} at a time` : "none", "failures", bars.filter((one) => one.getAttribute("height") !== "0.00"));
}
