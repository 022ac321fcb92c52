// The answer of a rehearsal: today's values beside the proposed, for each provider.

import { make } from "../dashboard/dom.js";
import { paintLanes } from "./lanes.js";
import { amount, length, moment } from "./words.js";

// What is compared, and whether less of it is better (null: neither more nor less is).
const FIGURES = [
  ["Trips", (lane) => lane.trips, null, amount],
  ["From the first failure to the trip, median", (lane) => lane.detection_s?.median ?? null, true, length],
  ["From the first failure to the trip, longest", (lane) => lane.detection_s?.longest ?? null, true, length],
  ["Calls hurt", (lane) => lane.hurt, true, amount],
  ["Calls diverted", (lane) => lane.diverted, null, amount],
  ["… while it was in fact healthy", (lane) => lane.diverted_healthy, true, amount],
  ["… of which nobody can tell", (lane) => lane.fate_unknown, null, amount],
  ["Flaps: out again soon after it came back", (lane) => lane.flaps, true, amount],
  ["Alerts", (lane) => lane.alerts, true, amount],
  ["Time out", (lane) => lane.out_s, null, length],
];
const SHADOW = ["Would have tripped (in shadow)", (lane) => lane.would_trip, null, amount];
const LANES = [["today", "Today's values"], ["proposed", "These values"]];

export function paintReport(place, report, incidentUrl) {
  const eventful = report.providers.filter(isEventful).sort((a, b) => b.failures - a.failures);
  const parts = eventful.map((row) => providerPart(row, report, incidentUrl));
  const calm = report.providers.filter((row) => !isEventful(row)).map((row) => row.provider);
  const rest = calm.length ? [make("p", { className: "quiet", text: `No failure on ${calm.join(", ")}: nothing would have been otherwise there.` })] : [];
  place.replaceChildren(make("h3", { text: "What they would have done" }), recorded(report), ...parts, ...rest, assumptions());
}

function isEventful(row) {
  return row.failures || row.incidents.length || Object.values(row.lanes).some((lane) => lane.spells.length);
}

function recorded({ span, recorded: seen }) {
  const lost = seen.dropped ? ` ${amount(seen.dropped)} sightings found no room and are missing.` : "";
  return make("p", { text: `${moment(span.since)} to ${moment(span.until)}: ${amount(seen.calls)} calls and ${amount(seen.failures)} failures were recorded.${lost}` });
}

function assumptions() {
  const text = "The same breaker, fed what agents reported then, with the orders that operators gave then. What a call that was sent elsewhere would have met is inferred from the calls before the trip, the probes and the calls after the return; where these do not agree it counts as “nobody can tell”.";
  return make("p", { className: "quiet assumptions", text });
}

function providerPart(row, report, incidentUrl) {
  const lanes = LANES.filter(([name]) => row.lanes[name]);
  const head = make("tr", {}, make("th", { scope: "col", text: row.provider }), ...lanes.map(([, label]) => make("th", { scope: "col", text: label })), make("th", { scope: "col", text: "Change" }));
  const figures = lanes.some(([name]) => row.lanes[name].would_trip) ? [SHADOW, ...FIGURES] : FIGURES;
  const lines = figures.map((figure) => figureLine(figure, row, lanes));
  const table = make("table", { className: "figures" }, make("thead", {}, head), make("tbody", {}, ...lines));
  return make("section", { className: "of-provider", "aria-label": row.provider }, make("h4", { text: row.provider }), table, paintLanes(row, report.span, lanes), ...missed(row, lanes, incidentUrl));
}

function figureLine([label, read, lessIsBetter, write], row, lanes) {
  const values = lanes.map(([name]) => read(row.lanes[name]));
  const cells = values.map((value) => make("td", { className: "number", text: value === null ? "—" : write(value) }));
  return make("tr", {}, make("th", { scope: "row", text: label }), ...cells, changeCell(values.at(0), values.at(-1), lessIsBetter, write));
}

// A sign, a word and a colour: none of them alone.
function changeCell(before, after, lessIsBetter, write) {
  if (before === null || after === null || before === after) return make("td", { className: "change", text: before === after ? "= same" : "—" });
  const isLess = after < before;
  const much = write(Math.abs(after - before));
  if (lessIsBetter === null) return make("td", { className: "change", text: `${much} ${isLess ? "less" : "more"}` });
  const isBetter = isLess === lessIsBetter;
  return make("td", { className: `change ${isBetter ? "better" : "worse"}`, text: `${isBetter ? "✓ better" : "✗ worse"}: ${much} ${isLess ? "less" : "more"}` });
}

function missed(row, lanes, incidentUrl) {
  return lanes.filter(([name]) => row.lanes[name].missed.length).map(([name, label]) => {
    const links = row.lanes[name].missed.map((id) => {
      const real = row.incidents.find((one) => one.id === id);
      const text = `incident #${id}${real ? `, ${moment(real.began)}` : ""}`;
      return make("li", {}, make("a", { text, href: incidentUrl.replace("/0/", `/${id}/`) }));
    });
    const lead = `${label} would have missed ${links.length === 1 ? "an incident" : `${links.length} incidents`}:`;
    return make("div", { className: "missed" }, make("p", { text: `⚠ ${lead}` }), make("ul", {}, ...links));
  });
}
