// Shows an alert template as Slack would, while it is being written.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const shown = document.getElementById("slack-preview");
  const form = document.getElementById("alerttemplate_form");
  if (!shown || !form) return;
  let waiting = null;
  let latest = 0;
  async function refresh() {
    const mine = ++latest;
    const answer = await fetch(shown.dataset.url, {
      method: "POST", body: new FormData(form), credentials: "same-origin",
    });
    if (answer.ok && mine === latest) shown.innerHTML = await answer.text();
  }
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 300);
  });
});
