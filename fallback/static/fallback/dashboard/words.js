// How the dashboard says things, in the same words as fallback/live/words.py.

const ADMITS = new Set(["closed", "forced_closed", "shadow"]);
const VERDICTS = { healthy: "Healthy", degraded: "Degraded", critical: "Critical", unknown: "Unknown" };
const UNREACHABLE =
  " The shared state cannot be reached: this is the last that is known, and calls go on by it.";

const UNKNOWN = {
  provider: "Agents name providers that are not configured",
  route: "Agents name routes that are not configured",
};

export const admits = (state) => ADMITS.has(state);
export const verdict = (body) => VERDICTS[body.verdict] ?? body.verdict;
export const spoken = (word) => word.replaceAll("_", " ");
export const nameOf = (row) => `${row.kind}/${row.provider}`;

export function sentence(body) {
  return judged(body) + (body.degraded ? UNREACHABLE : "");
}

function judged(body) {
  const states = new Map(body.breakers.map((row) => [nameOf(row), row.state]));
  const out = new Map();
  const alone = [];
  for (const route of body.routes) {
    const away = route.order
      .map((step) => [step.provider, states.get(`${route.kind}/${step.provider}`) ?? "closed"])
      .filter(([, state]) => !admits(state));
    away.forEach(([slug, state]) => out.set(slug, state));
    if (away.length === route.order.length) alone.push(route.route);
  }
  if (body.verdict === "unknown") {
    return "Nothing is known yet: nothing is configured, or nothing has answered.";
  }
  if (body.verdict === "critical") {
    return `No provider admits calls on ${listed(alone)}: they get the last resort.`;
  }
  if (body.verdict === "degraded") {
    return `${awayOf(out)}: calls go to the next provider.`;
  }
  return "Every provider gets its calls.";
}

function awayOf(out) {
  const named = (isProbed) =>
    [...out].filter(([, state]) => (state === "half_open") === isProbed).map(([slug]) => slug).sort();
  const part = (names, what) => names.length && `${listed(names)} ${names.length === 1 ? "is" : "are"} ${what}`;
  return [part(named(false), "out"), part(named(true), "being probed")].filter(Boolean).join(", ");
}

function listed(names) {
  return [names.slice(0, -1).join(", "), ...names.slice(-1)].filter(Boolean).join(" and ");
}

// What agents name and nobody configured; empty: nothing.
export function unknownNames(body) {
  const named = (one) => (one.host ? `${one.name} (from ${one.host})` : one.name);
  const parts = Object.entries(UNKNOWN)
    .map(([what, said]) => [said, (body.unknown_names ?? []).filter((one) => one.what === what)])
    .filter(([, found]) => found.length)
    .map(([said, found]) => `${said}: ${found.map(named).join(", ")}.`);
  if (!parts.length) return "";
  const more = body.more_unknown_names ? ["There are more."] : [];
  return [...parts, ...more, "Calls with them run unprotected."].join(" ");
}

// The texts of one breaker's card; an empty one is not shown. `now` in ms by the server's clock.
export function card(row, now) {
  const ordered = row.override;
  const reasons = Object.entries(row.last_reasons).map(([name, count]) => `${name} ${count}`);
  const keys = Object.entries(row.keys ?? {}).map(([name, count]) => `${name} ${count}`);
  return {
    name: row.provider,
    state: spoken(row.state),
    since: moment(row.since, now),
    ago: row.since ? `for ${length(now - Date.parse(row.since))}` : "",
    until: row.until ? moment(row.until, now) : ordered ? "cleared" : "",
    left: row.until ? `${length(Date.parse(row.until) - now)} left` : "",
    failures: row.failure_threshold
      ? `${row.failures} of ${row.failure_threshold} in ${row.failure_window_s} s`
      : `${row.failures} (the count rule is off)`,
    probes: `${row.leases} of ${row.probe_slots}`,
    reasons: reasons.join(", ") || "none",
    keys: row.held_back || keys.join(", ") || "none",
    cause: spoken(row.cause ?? "nothing yet"),
    override: ordered ? `${ordered.by}: “${ordered.reason}”` : "none",
  };
}

export function moment(text, now) {
  if (!text) return "";
  const at = new Date(text).toISOString();
  const day = at.slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? "" : `${at.slice(0, 10)} `;
  return `${day}${at.slice(11, 19)} UTC`;
}

export function length(ms) {
  let seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}
