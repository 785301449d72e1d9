// Relative times. The server writes the absolute time with its zone; the
// relative one beside it is kept true here, corrected by the server's clock.
let skewMs = 0;

export const setServerNow = (ms) => { skewMs = ms - Date.now(); };
export const serverNow = () => Date.now() + skewMs;

export function ago(ms) {
  const s = Math.round(ms / 1000);
  if (s < 0) return s > -5 ? "now" : `in ${span(-s)}`;
  return s < 2 ? "now" : `${span(s)} ago`;
}

export function span(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const [big, small, a, b] = s < 86400 ? [3600, 60, "h", "min"] : [86400, 3600, "d", "h"];
  const rest = Math.floor((s % big) / small);
  return `${Math.floor(s / big)} ${a}${rest ? ` ${rest} ${b}` : ""}`;
}

export function refreshTimes(root = document) {
  for (const t of root.querySelectorAll("time[data-ago]")) {
    const out = t.querySelector(".ago");
    const text = ago(serverNow() - Date.parse(t.dateTime));
    if (out && out.textContent !== text) out.textContent = text;
  }
}

export function startTimes() {
  const now = Number(document.body.dataset.now);
  if (now) setServerNow(now);
  refreshTimes();
  setInterval(refreshTimes, 1000);
}
