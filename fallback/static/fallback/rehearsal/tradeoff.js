// The answer of a search: calls hurt against calls moved for nothing, today's values among them.
// Choosing a point fills the form. Nothing is saved.

import { byId, drawn, make, say } from "../dashboard/dom.js";
import { fill, labelOf } from "./form.js";
import { amount } from "./words.js";

const WIDTH = 640;
const HEIGHT = 340;
const LEFT = 84;
const BOTTOM = 60;
const TOP = 16;
const RIGHT = 24;

export function paintTradeOff(place, { points }) {
  if (!points.length) return place.replaceChildren(make("p", { text: "Nothing was recorded in that time: there is nothing to search." }));
  const shown = points.filter((one) => one.is_best || one.is_today);
  shown.sort((a, b) => a.hurt - b.hurt || a.moved_for_nothing - b.moved_for_nothing);
  const names = [...new Set(shown.flatMap((one) => Object.keys(one.values)))].filter(
    (name) => new Set(shown.map((one) => one.values[name])).size > 1);
  const best = points.filter((one) => one.is_best).length;
  const lead = `The values that were tried on the past would have come out in ${points.length} ways. Nothing does better in both than what is marked ● (${best}): choose what matters more.`;
  place.replaceChildren(make("h3", { text: "What would have done better" }), make("p", { text: lead }), plot(points, shown, names), table(shown, names),
    make("p", { id: "chosen", role: "status" }));
}

function choose(point) {
  const changed = fill(point.values);
  const what = changed.length ? `Filled in: ${changed.map((name) => `${labelOf(name)} ${point.values[name]}`).join(", ")}.` : "These are the values in the form.";
  say(byId("chosen"), `${what} Nothing is saved yet.`);
  for (const one of document.querySelectorAll("[data-point]")) {
    if (one.dataset.point === keyOf(point)) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  }
}

const keyOf = (point) => JSON.stringify(point.values);

const valuesOf = (point, names) => names.map((name) => `${labelOf(name)} ${point.values[name]}`).join(", ");

function plot(points, shown, names) {
  const scale = scalesOf(points);
  const others = points.filter((one) => !shown.includes(one)).map((one) => drawn("circle", { class: "point other", cx: scale.x(one.moved_for_nothing), cy: scale.y(one.hurt), r: 3 }));
  const front = shown.filter((one) => one.is_best).map((one) => `${scale.x(one.moved_for_nothing)},${scale.y(one.hurt)}`);
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "tradeoff", role: "group", "aria-label": "Calls hurt against calls moved for nothing" },
    ...axes(scale), ...others, drawn("polyline", { class: "front", points: front.join(" ") }), ...shown.map((one) => pointOf(one, names, scale)));
  return make("figure", { className: "tradeoff-figure" }, svg, make("figcaption", { text: "● nothing does better in both, ◆ today's values, · the others. Lower left is better." }));
}

function scalesOf(points) {
  const most = (read) => Math.max(...points.map(read), 1);
  const [maxX, maxY] = [most((one) => one.moved_for_nothing), most((one) => one.hurt)];
  return {
    maxX, maxY,
    x: (value) => round(LEFT + ((WIDTH - LEFT - RIGHT) * value) / maxX),
    y: (value) => round(HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / maxY),
  };
}

const round = (value) => Math.round(value * 10) / 10;

function axes(scale) {
  const text = (words, place) => {
    const label = drawn("text", { class: "axis-label", ...place });
    label.textContent = words;
    return label;
  };
  const marks = (max) => [...new Set([0, Math.round(max / 2), max])];
  return [
    drawn("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
    ...marks(scale.maxX).map((value) => text(amount(value), { x: scale.x(value), y: HEIGHT - BOTTOM + 30, "text-anchor": "middle" })),
    ...marks(scale.maxY).map((value) => text(amount(value), { x: LEFT - 20, y: scale.y(value) + 4, "text-anchor": "end" })),
    text("calls moved for nothing →", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }),
    text("calls hurt →", { x: 14, y: (HEIGHT - BOTTOM + TOP) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(HEIGHT - BOTTOM + TOP) / 2})` }),
  ];
}

function pointOf(point, names, scale) {
  const [x, y] = [scale.x(point.moved_for_nothing), scale.y(point.hurt)];
  const shape = point.is_today ? drawn("path", { d: `M${x} ${y - 9}l9 9-9 9-9-9z` }) : drawn("circle", { cx: x, cy: y, r: 7 });
  const said = `${point.is_today ? "Today: " : ""}${valuesOf(point, names)}. ${amount(point.hurt)} calls hurt, ${amount(point.moved_for_nothing)} moved for nothing, ${amount(point.trips)} trips.`;
  const title = drawn("title", {});
  title.textContent = said;
  const parts = [title, drawn("circle", { class: "reach", cx: x, cy: y, r: 14 }), shape];
  if (point.is_today) {
    const label = drawn("text", { class: "axis-label today-label", x: x + 13, y: y - 8 });
    label.textContent = "today";
    parts.push(label);
  }
  const group = drawn("g", { class: `point ${point.is_today ? "today" : "best"}`, tabindex: "0", role: "button", "aria-label": said, "data-point": keyOf(point) }, ...parts);
  group.addEventListener("click", () => choose(point));
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(point);
  });
  return group;
}

function table(shown, names) {
  const number = (value) => make("td", { className: "number", text: typeof value === "number" ? amount(value) : String(value) });
  const heads = [...names.map(labelOf), "Calls hurt", "Moved for nothing", "Trips", "Choose"];
  const lines = shown.map((point) => {
    const button = make("button", { type: "button", className: "button", text: "Fill in" });
    button.setAttribute("aria-label", `Fill in ${valuesOf(point, names)}`);
    button.addEventListener("click", () => choose(point));
    const marks = point.is_today ? " ◆ today" : "";
    return make("tr", { "data-point": keyOf(point) }, ...names.map((name) => number(point.values[name])), number(point.hurt), number(point.moved_for_nothing), number(point.trips), make("td", {}, button, marks));
  });
  return make("table", { className: "figures" }, make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", text })))), make("tbody", {}, ...lines));
}
