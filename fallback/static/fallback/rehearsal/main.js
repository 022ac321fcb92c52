// The panel on a policy's page: what these values would do now, would have done, and what would
// have done better. Nothing here saves anything.

import { byId } from "../dashboard/dom.js";
import { ask, follow, onAnswer } from "./jobs.js";
import { watchNow } from "./now.js";
import { paintReport } from "./report.js";
import { paintTradeOff } from "./tradeoff.js";

const panel = byId("rehearsal");
const room = panel?.querySelector(".needs-script");

if (room) {
  room.hidden = false;
  watchNow(panel.dataset.nowUrl);
  const answer = byId("answer");
  onAnswer((job) => {
    if (job.what === "suggest") paintTradeOff(answer, job.result);
    else paintReport(answer, job.result, panel.dataset.incidentUrl);
    answer.focus({ preventScroll: true });
    answer.scrollIntoView({ block: "nearest" });
  });
  byId("rehearse").addEventListener("click", () => ask(panel.dataset.askUrl, "rehearse"));
  byId("suggest").addEventListener("click", () => ask(panel.dataset.askUrl, "suggest"));
  if (panel.dataset.goingOnUrl) follow(panel.dataset.goingOnUrl);
}
