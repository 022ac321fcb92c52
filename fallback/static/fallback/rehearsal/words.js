// How numbers, lengths and times are written here. Times are in UTC.

export const msOf = (time) => (typeof time === "number" ? time : Date.parse(time));

export const amount = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 2 });

export function length(seconds) {
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${amount(Math.round(seconds * 10) / 10)} s`;
  const whole = Math.round(seconds);
  const parts = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  const words = [];
  let left = whole;
  for (const [size, unit] of parts) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count) words.push(`${count} ${unit}`);
  }
  return words.slice(0, 2).join(" ");
}

export const moment = (time) => `${new Date(msOf(time)).toISOString().slice(0, 16).replace("T", " ")} UTC`;

export const clock = (time, spanMs) => {
  const text = new Date(msOf(time)).toISOString();
  return spanMs > 2 * 86_400_000 ? text.slice(5, 10) : text.slice(11, 16);
};
