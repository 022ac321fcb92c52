// A rehearsal as a job: asked for, followed until it ends, and stopped.

import { byId, make, say } from "../dashboard/dom.js";
import { get, post, problemLines } from "./form.js";

const LOOK_MS = 400;
const NAMES = { rehearse: "Rehearsal", suggest: "Search" };
let tell = () => {};
let followed = null; // the address of the job that is shown

export const onAnswer = (listener) => {
  tell = listener;
};

export async function ask(url, what) {
  const span = document.querySelector('[name="rehearsal_span"]:checked')?.value ?? "";
  setBusy(true);
  problems({});
  say(byId("work-said"), "");
  const { ok, body } = await post(url, { rehearsal_what: what, rehearsal_span: span }).catch(away);
  if (ok) return follow(body.url);
  setBusy(false);
  problems(body.problems);
  say(byId("work-said"), body.detail);
  if (body.rehearsal) follow(body.rehearsal.url, body.detail);
}

// Follow a job to its end. `why`: what else there is to say, such as why it is not a new one.
export async function follow(url, why = "") {
  followed = url;
  setBusy(true);
  byId("work").hidden = false;
  byId("work-stop").onclick = () => stop(url);
  while (followed === url) {
    const { ok, status, body } = await get(url).catch(away);
    if (status === 404) return finish("It is gone: somebody deleted it.");
    if (ok && !body.is_unfinished) return conclude(body);
    if (ok) progress(body, why);
    else say(byId("work-said"), body.detail);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function stop(url) {
  say(byId("work-said"), "Stopping…");
  await post(`${url}stop/`).catch(away);
}

function progress(job, why) {
  const percent = Math.floor(job.progress * 100);
  byId("work-progress").value = percent;
  byId("work-progress").setAttribute("aria-label", NAMES[job.what]);
  say(byId("work-percent"), `${percent} %`);
  if (job.is_stopping) say(byId("work-said"), "Stopping…");
  else say(byId("work-said"), [why, job.waits_for].filter(Boolean).join(" ") || `${NAMES[job.what]} of ${spanOf(job)} is running.`);
}

function conclude(job) {
  const name = `${NAMES[job.what]} of ${spanOf(job)}`;
  if (job.state === "done") {
    finish(`${name}: done.`);
    tell(job);
  } else finish(job.state === "stopped" ? `${name}: stopped.` : `${name}: failed. ${job.problem}`);
}

function finish(text) {
  followed = null;
  byId("work").hidden = true;
  byId("work-progress").value = 0;
  setBusy(false);
  say(byId("work-said"), text);
}

function setBusy(isBusy) {
  for (const id of ["rehearse", "suggest"]) byId(id).disabled = isBusy;
}

function problems(found) {
  const list = byId("rehearsal-problems");
  const lines = problemLines(found);
  list.hidden = !lines.length;
  list.replaceChildren(...lines);
}

const spanOf = (job) => document.querySelector(`[name="rehearsal_span"][value="${CSS.escape(job.span)}"]`)?.parentNode.textContent.trim() ?? job.span;

const away = () => ({ ok: false, status: 0, body: { detail: "The server cannot be reached." } });
