// The timeline and the list of transitions, drawn as fallback/live/timeline.py draws them.

import { byId, drawn, make, step } from "./dom.js";
import { admits, length, moment, nameOf, spoken } from "./words.js";

const HEIGHTS = { closed: 4, half_open: 14 };
const HIGHEST = 24;
const WIDTH = 1000;
const NARROWEST = 2;
const SHOWN = 20;

export function paintLanes(body, moves, start, end) {
  byId("lanes").replaceChildren(...body.breakers.map((row) => lane(row, moves, start, end)));
  const clock = (at) => new Date(at).toISOString().slice(11, 16);
  const ticks = [0, 1, 2, 3, 4].map((part) => make("span", { text: clock(start + ((end - start) * part) / 4) }));
  byId("ticks").replaceChildren(...ticks);
}

function lane(row, moves, start, end) {
  const own = moves.filter((move) => nameOf(move) === nameOf(row));
  const parts = partsOf(row, own, start, end);
  const away = parts.filter((part) => !admits(part.state)).reduce((sum, part) => sum + part.to - part.at, 0);
  const label = `${row.provider}: ${away ? `out for ${length(away)}` : "never out"}`;
  const spans = parts.map((part) => span(part, start, end));
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HIGHEST}`, preserveAspectRatio: "none", role: "img", "aria-label": label }, ...spans);
  const name = make("span", { className: "name", text: row.provider });
  return make("div", { className: "lane", "data-kind": row.kind, "data-provider": row.provider }, name, svg);
}

function partsOf(row, own, start, end) {
  const within = own.filter((move) => Date.parse(move.at) > start && Date.parse(move.at) < end);
  const before = own.filter((move) => Date.parse(move.at) <= start);
  const first = before.length ? before.at(-1).to : within.length ? within[0].from : row.state;
  const marks = [{ at: start, state: first }, ...within.map((move) => ({ at: Date.parse(move.at), state: move.to }))];
  const parts = [];
  marks.forEach((mark, i) => {
    const to = marks[i + 1]?.at ?? end;
    if (parts.at(-1)?.state === mark.state) parts.at(-1).to = to;
    else if (to > mark.at) parts.push({ ...mark, to });
  });
  return parts;
}

function span({ state, at, to }, start, end) {
  const height = HEIGHTS[state] ?? HIGHEST;
  const scale = WIDTH / (end - start);
  const clock = (ms) => new Date(ms).toISOString().slice(11, 19);
  const words = `${spoken(state)}, ${clock(at)} to ${clock(to)} UTC, ${length(to - at)}`;
  const title = drawn("title", {});
  title.textContent = words;
  const width = Math.max((to - at) * scale, NARROWEST);
  const x = Math.min((at - start) * scale, WIDTH - width); // what began just now is seen too
  const place = { x: x.toFixed(2), y: (HIGHEST - height) / 2, height };
  return drawn("rect", { class: `span state-${state}`, width: width.toFixed(2), ...place }, title);
}

export function paintMoves(moves, now) {
  const list = byId("moves");
  const wanted = moves.slice(-SHOWN).reverse();
  const held = new Map([...list.querySelectorAll("li[data-id]")].map((line) => [line.dataset.id, line]));
  const lines = wanted.map((move) => held.get(move.id) ?? moveLine(move, now));
  const none = make("li", { className: "none", text: "None in the last 24 hours." });
  list.replaceChildren(...(lines.length ? lines : [none]));
}

function moveLine(move, now) {
  const why = `after ${spoken(move.from)}; ${spoken(move.cause)}, by ${move.actor}${move.reason ? `: ${move.reason.slice(0, 200)}` : ""}`;
  const time = make("time", { text: moment(move.at, now), datetime: move.at });
  const provider = make("strong", { text: move.provider });
  const quiet = make("span", { className: "quiet", text: why });
  return make("li", { "data-id": move.id }, time, " ", provider, " ", step(move.to, spoken(move.to)), " ", quiet);
}
