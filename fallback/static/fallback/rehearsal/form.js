// The policy's form: read as it would be posted, told where it is wrong, and filled in.

import { byId, make } from "../dashboard/dom.js";

export const form = () => byId("policy_form");

// Post the form as it stands; an answer that is no JSON (signed out, a proxy) is said as such.
export async function post(url, extra = {}, signal = undefined) {
  const data = new FormData(form());
  for (const [name, value] of Object.entries(extra)) data.set(name, value);
  const response = await fetch(url, { method: "POST", body: data, credentials: "same-origin", signal });
  return answerOf(response);
}

export async function get(url) {
  return answerOf(await fetch(url, { credentials: "same-origin", headers: { Accept: "application/json" } }));
}

async function answerOf(response) {
  const isJson = (response.headers.get("Content-Type") ?? "").startsWith("application/json");
  if (isJson) return { ok: response.ok, status: response.status, body: await response.json() };
  const detail = response.status === 403 ? "You are signed out: reload this page." : `The server answered ${response.status}.`;
  return { ok: false, status: response.status, body: { detail } };
}

// A line for each thing that is wrong, which leads to its field.
export function problemLines(problems) {
  return Object.entries(problems ?? {}).flatMap(([name, texts]) => texts.map((text) => {
    const field = byId(`id_${name}`);
    if (!field) return make("li", { text });
    const link = make("a", { text: labelOf(name), href: `#id_${name}` });
    link.addEventListener("click", (event) => {
      event.preventDefault();
      field.focus();
    });
    return make("li", {}, link, `: ${text}`);
  }));
}

// What a field is called on the page; a what-counts row is called by its reason.
export function labelOf(name) {
  const row = /^reasons-(\d+)-(.*)$/.exec(name);
  if (row) {
    const reason = byId(`id_reasons-${row[1]}-reason`);
    return `${reason?.selectedOptions[0]?.text ?? "what counts"}, ${row[2].replaceAll("_", " ")}`;
  }
  const label = document.querySelector(`label[for="id_${CSS.escape(name)}"]`);
  return label?.textContent.replace(/:$/, "").trim() ?? name.replaceAll("_", " ");
}

// Put values into their fields, mark what changed, and have everybody who listens know.
export function fill(values) {
  const changed = [];
  for (const [name, value] of Object.entries(values)) {
    const field = byId(`id_${name}`);
    if (!field) continue;
    const isBox = field.type === "checkbox";
    if (isBox ? field.checked === value : field.value === String(value)) continue;
    if (isBox) field.checked = value;
    else field.value = value;
    field.classList.add("filled-in");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.dispatchEvent(new Event("change", { bubbles: true }));
    changed.push(name);
  }
  return changed;
}
