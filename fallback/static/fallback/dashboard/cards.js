// The verdict, the cards and the routes: the same elements that the server painted, kept true.

import { byId, make, say, step } from "./dom.js";
import { admits, card, nameOf, sentence, spoken, unknownNames, verdict } from "./words.js";

export function paintSummary(body) {
  say(byId("verdict"), verdict(body));
  say(byId("sentence"), sentence(body));
  say(byId("unknown-names"), unknownNames(body));
  byId("unknown-names").hidden = !unknownNames(body);
  document.body.className = document.body.className.replace(/verdict-\w+/, `verdict-${body.verdict}`);
  const title = document.title.replace(/^\S+/, verdict(body));
  if (document.title !== title) document.title = title;
}

export function paintCards(body, now, pages) {
  const place = byId("cards");
  const known = new Map([...place.querySelectorAll(".card")].map((one) => [nameOf(one.dataset), one]));
  place.querySelector(":scope > .quiet")?.remove();
  for (const row of body.breakers) {
    const name = nameOf(row);
    const element = known.get(name) ?? place.appendChild(newCard(row, pages[name]));
    known.delete(name);
    paintCard(element, row, now);
  }
  known.forEach((element) => element.remove());
}

function newCard(row, page) {
  const element = byId("card").content.firstElementChild.cloneNode(true);
  Object.assign(element.dataset, { kind: row.kind, provider: row.provider });
  for (const kind of element.querySelectorAll('[data-f="kind"]')) {
    if (row.kind === "stt") kind.remove();
    else kind.textContent = row.kind;
  }
  if (!page) element.querySelector(".orders")?.remove(); // a new one: after the next full paint
  element.querySelectorAll("a[data-verb]").forEach((one) => (one.href = one.href.replace("ids=0", `ids=${page}`)));
  return element;
}

function paintCard(element, row, now) {
  const state = `state-${row.state}`;
  if (!element.classList.contains(state)) element.className = `card ${state}`;
  for (const [field, text] of Object.entries(card(row, now))) {
    element.querySelectorAll(`[data-f="${field}"]`).forEach((one) => say(one, text));
  }
  const incident = element.querySelector('[data-f="incident"]');
  const text = row.incident ? `#${row.incident}` : "";
  if (incident.textContent !== text) {
    const href = `/admin/fallback/incident/${row.incident}/change/`;
    incident.replaceChildren(...(row.incident ? [make("a", { text, href })] : []));
  }
}

export function paintRoutes(body) {
  const states = new Map(body.breakers.map((row) => [nameOf(row), row.state]));
  const lines = body.routes.map((route) => {
    const steps = route.order.map(({ provider }) => {
      const state = states.get(`${route.kind}/${provider}`) ?? "closed";
      const line = make("li", { className: `step state-${state}` });
      line.append(...step(state, provider, admits(state) ? "" : spoken(state)).childNodes);
      return line;
    });
    const line = make("li", {}, make("span", { className: "route", text: route.route }), make("ol", {}, ...steps));
    if (!route.fallback_enabled) line.append(make("span", { className: "switch", text: "fallback is switched off" }));
    return line;
  });
  const none = make("li", { className: "quiet", text: "No route is set up." });
  byId("routes").replaceChildren(...(lines.length ? lines : [none]));
}
