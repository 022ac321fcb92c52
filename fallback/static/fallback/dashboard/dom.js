// Small helpers. Texts are only ever set as text: nothing that anybody wrote becomes markup.

export const byId = (id) => document.getElementById(id);

// Set a text only when it differs, so that a screen reader hears of real changes alone.
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

export function make(tag, { text = "", className = "", ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function step(state, text, word = "") {
  const shape = make("span", { className: "shape", "aria-hidden": "true" });
  const parts = word ? [shape, text, " ", make("span", { className: "word", text: word })] : [shape, text];
  return make("span", { className: `step state-${state}` }, ...parts);
}

export async function fetchJson(url) {
  const response = await fetch(url, { headers: { Accept: "application/json" } });
  if (!response.ok) throw Object.assign(new Error(`${url}: ${response.status}`), { status: response.status });
  return response.json();
}
