// The dialog in which an order gets its reason and its end. Without a script the admin's page asks.

import { byId, say } from "./dom.js";

let asked = null; // the order's template
let opener = null; // gets the focus back

export function listenForOrders() {
  const dialog = byId("order");
  if (!dialog) return;
  byId("cards").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-verb]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    ask(dialog, link);
  });
  byId("order-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => opener?.focus());
  dialog.querySelector("form").addEventListener("submit", (event) => {
    event.preventDefault();
    give(dialog, event.target);
  });
}

function ask(dialog, link) {
  const { kind, provider } = link.closest(".card").dataset;
  opener = link;
  asked = dialog.querySelector(`template[data-verb="${link.dataset.verb}"]`).dataset;
  Object.assign(dialog.dataset, { kind, provider });
  say(byId("order-title"), `${asked.label}: ${provider}`);
  say(byId("order-effect"), asked.effect);
  say(byId("order-danger"), asked.danger);
  say(byId("order-errors"), "");
  say(byId("order-give"), asked.label);
  byId("order-give").classList.toggle("danger", Boolean(asked.danger));
  byId("order-end-line").hidden = !asked.hasEnd;
  byId("order-reason").value = "";
  dialog.showModal();
  byId("order-reason").focus();
}

async function give(dialog, form) {
  const body = new FormData(form);
  for (const name of ["kind", "provider"]) body.set(name, dialog.dataset[name]);
  body.set("verb", asked.verb);
  byId("order-give").disabled = true;
  try {
    const response = await fetch(form.action, { method: "POST", body });
    const answer = await response.json().catch(() => ({ errors: [`The server answered ${response.status}.`] }));
    if (response.ok) dialog.close();
    else say(byId("order-errors"), answer.errors.join(" "));
  } catch {
    say(byId("order-errors"), "The server cannot be reached: nothing was done, as far as is known.");
  } finally {
    byId("order-give").disabled = false;
  }
}
