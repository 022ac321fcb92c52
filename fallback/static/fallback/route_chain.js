// A chain that comes back with an error is in the order in which it was sent, not as it was stored.

document.addEventListener("DOMContentLoaded", () => {
  const body = document.querySelector("#steps-group tbody");
  if (!body) return;
  const rows = [...body.querySelectorAll("tr.form-row:not(.empty-form)")];
  const place = (row) => {
    const given = row.querySelector("input[name$=-position]")?.value;
    return given ? Number(given) : Infinity; // a new step stays last until it is dragged
  };
  const before = (row) => {
    const errors = row.previousElementSibling;
    return errors?.classList.contains("row-form-errors") ? [errors, row] : [row];
  };
  const groups = rows.map((row) => [place(row), before(row)]);
  groups.sort(([one], [other]) => (one === other ? 0 : one - other));
  const first = body.querySelector("tr.empty-form, tr.add-row");
  for (const [, group] of groups) group.forEach((row) => body.insertBefore(row, first));
});
