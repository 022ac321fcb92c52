// What these values would do now: asked again as they change, and as time passes.

import { byId, make } from "../dashboard/dom.js";
import { form, post, problemLines } from "./form.js";

const TYPING_MS = 350;
const AGAIN_MS = 10_000;
const STILL_SHOWN = 8;
let asking = null; // what the latest question can be called off by
let waiting = null;
let shownAs = "";

export function watchNow(url) {
  const soon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => refresh(url), TYPING_MS);
  };
  for (const kind of ["input", "change"]) form().addEventListener(kind, (event) => {
    if (!event.target.name?.startsWith("rehearsal_")) soon();
  });
  setInterval(() => document.hidden || refresh(url), AGAIN_MS);
  refresh(url);
}

async function refresh(url) {
  asking?.abort();
  const mine = (asking = new AbortController());
  try {
    const { ok, body } = await post(url, {}, mine.signal);
    if (mine === asking) paint(...(ok && !body.problems ? preview(body) : refusal(body)));
  } catch (error) {
    if (error.name !== "AbortError") paint(...refusal({ detail: "The server cannot be reached: what these values would do now is not known." }));
  }
}

// Painted only when it says something else, so that a screen reader is not told twice.
function paint(words, ...parts) {
  if (words === shownAs) return;
  shownAs = words;
  byId("now-said").replaceChildren(...parts);
  strip(parts);
}

// The same in short at the foot of the window, in sight while a field far above is changed.
function strip(parts) {
  const [lead, list] = parts;
  const lines = [...(list?.querySelectorAll(".changed") ?? [])].map((line) => line.lastChild.textContent.trim());
  const text = lines.length ? lines.join(" · ") : lead.className === "still" ? "" : lead.textContent;
  byId("now-strip").hidden = !text;
  byId("now-strip").textContent = text;
}

function refusal(body) {
  const lines = problemLines(body.problems);
  return [JSON.stringify(body), make("p", { className: "not-known", text: body.detail }), make("ul", {}, ...lines)];
}

function preview(body) {
  const moved = body.breakers.filter((one) => one.is_changed);
  const still = body.breakers.filter((one) => !one.is_changed);
  const lineOf = (one) => line(one.is_changed, one.after, one.sentence);
  const routes = body.routes.map((one) => line(true, "", routeSentence(one)));
  const lines = [...moved.map(lineOf), ...routes, ...still.slice(0, STILL_SHOWN).map(lineOf)];
  if (still.length > STILL_SHOWN) lines.push(line(false, "", `${still.length - STILL_SHOWN} more stay as they are`));
  const isStill = !routes.length && !moved.length;
  const words = JSON.stringify([body.breakers, body.routes]);
  const lead = !body.breakers.length ? "No provider that is switched on uses this policy."
    : isStill ? "Saved now, these values would move nothing." : "Saved now, these values would move this:";
  return [words, make("p", { className: isStill ? "still" : "moving", text: lead }), make("ul", {}, ...lines)];
}

function line(isChanged, state, text) {
  const mark = make("span", { className: "mark", "aria-hidden": "true", text: isChanged ? "→" : "=" });
  return make("li", { className: isChanged ? `changed to-${state || "route"}` : "same" }, mark, " ", text);
}

function routeSentence({ route, before, after, starts_elsewhere: elsewhere }) {
  if (elsewhere) return `${route}: new calls would start on ${after[0]} instead of ${before[0]}.`;
  return `${route}: the order behind ${after[0]} would be ${after.slice(1).join(", ")}.`;
}
