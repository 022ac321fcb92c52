// Keeps the dashboard true: what the server painted, from the feed, until the page is left.

import { paintCards, paintRoutes, paintSummary } from "./cards.js";
import { byId, fetchJson, make, say } from "./dom.js";
import { Feed } from "./feed.js";
import { listenForOrders } from "./orders.js";
import { paintTraffic } from "./plots.js";
import { paintLanes, paintMoves } from "./timeline.js";
import { length, moment, spoken } from "./words.js";

const DAY_MS = 86_400_000;
const MOVES_MAX = 1_000;
const held = JSON.parse(byId("held").textContent);
let { moves, window: span } = held;
let isLive = false;
let hasBeenLive = false;
let wantsIncidents = 0;

const feed = new Feed(held.status, {
  told(status, transitions, isWhole) {
    addMoves(transitions);
    paint(status);
    if (isWhole && hasBeenLive) catchUp();
    if (transitions.length) soonIncidents();
    hasBeenLive = true;
  },
  live() {
    if (!isLive) {
      isLive = true;
      document.body.classList.remove("is-stale");
      document.body.classList.add("is-live");
      say(byId("lost"), "");
    }
    say(byId("as-of"), `live, ${moment(new Date(feed.now()).toISOString(), feed.now())}`);
  },
  lost(at, why) {
    isLive = false;
    document.body.classList.remove("is-live");
    document.body.classList.add("is-stale");
    say(byId("as-of"), `as of ${moment(at, feed.now())}, reconnecting…`);
    const cause = why ? `No live updates: ${why}; trying again` : "The connection is lost";
    say(byId("lost"), `${cause}: all this is as of ${moment(at, feed.now())}.`);
    askWhy();
  },
});

function paint(status) {
  const now = feed.now();
  paintSummary(status);
  paintCards(status, now, held.pages);
  paintRoutes(status);
  paintMoves(moves, now);
  paintTimeline();
}

function paintTimeline() {
  const end = isLive || !hasBeenLive ? feed.now() : Date.parse(feed.heardAt);
  paintLanes(feed.status, moves, end - held.windows[span] * 1000, end);
}

function addMoves(news) {
  const known = new Set(moves.map((move) => move.id));
  const fresh = news.filter((move) => !known.has(move.id));
  if (!fresh.length) return;
  const oldest = new Date(feed.now() - DAY_MS).toISOString();
  moves = [...moves, ...fresh].filter((move) => move.at >= oldest).slice(-MOVES_MAX);
  moves.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}

// After a gap: what moved meanwhile is in the history, as soon as the pump has carried it.
async function catchUp() {
  try {
    const since = moves.length ? moves.at(-1).at : new Date(feed.now() - DAY_MS).toISOString();
    const page = await fetchJson(`/api/v1/transitions?page_size=200&since=${encodeURIComponent(since)}`);
    addMoves(page.results.reverse());
    paint(feed.status);
    soonIncidents();
  } catch (error) {
    setTimeout(() => isLive && catchUp(), 3_000);
  }
}

// The pump stores an incident a moment after its event; the numbers of calls rise without one.
function soonIncidents() {
  clearTimeout(wantsIncidents);
  wantsIncidents = setTimeout(paintIncidents, 700);
}

async function paintIncidents() {
  const today = `${new Date(feed.now()).toISOString().slice(0, 10)}T00:00:00Z`;
  const asked = [`since=${today}`, "state=going_on"].map((which) =>
    fetchJson(`/api/v1/incidents?page_size=50&${which}`));
  const pages = await Promise.all(asked).catch(() => null);
  if (!pages) return;
  const rows = new Map(pages.flatMap((page) => page.results).map((row) => [row.id, row]));
  if (!rows.size) return;
  const newest = [...rows.values()].sort((a, b) => (a.opened_at < b.opened_at ? 1 : -1));
  byId("incidents").replaceChildren(...newest.map(incidentLine));
}

function incidentLine(row) {
  const link = make("a", { text: `#${row.id}`, href: `/admin/fallback/incident/${row.id}/change/` });
  const quiet = (text) => make("span", { className: "quiet", text });
  const number = (text) => make("td", { className: "number", text: String(text) });
  const ended = row.closed_at ? Date.parse(row.closed_at) : feed.now();
  return make("tr", {},
    make("th", { scope: "row" }, link, ` ${row.provider}`),
    make("td", {}, `${moment(row.opened_at, feed.now())} `, quiet(spoken(row.cause))),
    make("td", {}, `${length(ended - Date.parse(row.opened_at))} `, quiet(row.closed_at ? "over" : "going on")),
    number(row.diverted), number(row.hurt), number(row.saved));
}

// A session that ended looks like a lost connection: ask, and lead to the sign-in.
async function askWhy() {
  try {
    await fetchJson("/api/v1/status");
  } catch (error) {
    if (isLive || (error.status !== 401 && error.status !== 403)) return;
    const href = `/admin/login/?next=${encodeURIComponent(location.pathname + location.search)}`;
    byId("lost").replaceChildren("You are signed out. ", make("a", { text: "Sign in again", href }));
  }
}

function chooseWindow(event) {
  const link = event.target.closest("a[data-window]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  span = link.dataset.window;
  history.replaceState(null, "", `?window=${span}`);
  document.querySelectorAll("a[data-window]").forEach((one) => one.removeAttribute("aria-current"));
  link.setAttribute("aria-current", "true");
  paintTimeline();
  traffic();
}

const traffic = () => paintTraffic(held.windows[span]).catch(() => null);

document.querySelector(".windows").addEventListener("click", chooseWindow);
document.querySelectorAll(".needs-script").forEach((one) => (one.hidden = false));
listenForOrders();
traffic();
setInterval(() => (isLive ? paintCards(feed.status, feed.now(), held.pages) : null), 1_000);
setInterval(() => isLive && (paintTimeline(), say(byId("as-of"), `live, ${moment(new Date(feed.now()).toISOString(), feed.now())}`)), 5_000);
setInterval(() => isLive && (traffic(), paintIncidents()), 15_000);
addEventListener("resize", () => traffic());
document.querySelector(".theme-toggle").addEventListener("click", () => setTimeout(traffic));
