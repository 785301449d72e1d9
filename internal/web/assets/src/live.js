// The live connection. One WebSocket per page carries what changed: parts of
// the page by id, the order of lists, and points for charts. The chip in the
// header always says whether what you see is live, and if not, since when.
import { morph } from "./morph.js";
import { refreshTimes, setServerNow } from "./times.js";

const silenceMs = 12_000; // the server speaks at least every 5 s
const waitsMs = [250, 500, 1000, 2000, 4000, 8000];

let socket, path, attempt = 0, heardAt = Date.now(), timer, paused = false;

const source = () => (document.querySelector("main [data-live]") ?? document.querySelector("main"))?.dataset.live ?? "";

export function startLive() {
  if (!source()) return;
  document.addEventListener("htmx:afterSettle", follow);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !socket) connect(); });
  addEventListener("online", () => { if (!socket) connect(); });
  addEventListener("pagehide", () => { drop(); clearTimeout(timer); });
  addEventListener("pageshow", (e) => { if (e.persisted) connect(); });
  document.querySelector("#live")?.addEventListener("click", togglePause);
  setInterval(() => { if (!paused && Date.now() - heardAt > silenceMs) lose(); }, 1000);
  connect();
}

// follow reconnects when a filter or a page number changed what is shown.
function follow() {
  if (source() && source() !== path) { drop(); attempt = 0; connect(); }
}

function connect() {
  clearTimeout(timer);
  if (paused) return;
  drop();
  path = source();
  const mine = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")));
  let opened = false;
  socket = mine;
  mine.onopen = () => { opened = true; };
  mine.onmessage = (e) => {
    if (socket !== mine) return;
    heardAt = Date.now();
    attempt = 0;
    receive(JSON.parse(e.data));
    show("live");
  };
  mine.onclose = async (e) => {
    if (socket !== mine) return;
    socket = undefined;
    if (e.code === 4401 || (!opened && await signedOut())) { location.reload(); return; }
    lose();
  };
}

async function signedOut() {
  try { return (await fetch(path, { headers: { Accept: "application/json" } })).status === 401; } catch { return false; }
}

function lose() {
  drop();
  show("stale");
  clearTimeout(timer);
  const wait = waitsMs[Math.min(attempt++, waitsMs.length - 1)];
  timer = setTimeout(connect, wait * (0.8 + 0.4 * Math.random()));
  heardAt = Math.max(heardAt, Date.now() - silenceMs); // the interval must not fire again at once
}

function drop() {
  const s = socket;
  socket = undefined;
  if (s) { s.onmessage = s.onclose = null; s.close(); }
}

function togglePause() {
  paused = !paused;
  if (paused) { clearTimeout(timer); drop(); show("paused"); } else { attempt = 0; heardAt = Date.now(); show("connecting"); connect(); }
}

let shown = "connecting", lastGood = Date.now();

function show(state) {
  if (state === "live") lastGood = Date.now();
  if (state === shown) return;
  shown = state;
  const chip = document.querySelector("#live");
  document.body.dataset.liveState = state;
  if (!chip) return;
  const at = new Date(lastGood).toLocaleTimeString([], { hour12: false, timeZoneName: "short" });
  const words = { live: "Live", connecting: "Connecting", paused: `Paused at ${at}`, stale: `Stale since ${at}` };
  chip.dataset.state = state;
  chip.querySelector(".word").textContent = words[state];
  chip.title = paused ? "Resume live updates" : "Pause live updates";
  chip.setAttribute("aria-pressed", String(paused));
}

function receive(m) {
  setServerNow(m.now);
  const fresh = new Map();
  const box = document.createElement("template");
  for (const [id, html] of m.parts ?? []) {
    box.innerHTML = html;
    const el = box.content.firstElementChild;
    if (!el) continue;
    const old = document.getElementById(id);
    if (!old) { fresh.set(id, el); continue; }
    const was = old.dataset.state;
    const now = morph(old, el);
    if (was !== now.dataset.state) flash(now);
  }
  for (const id of m.drop ?? []) document.getElementById(id)?.remove();
  for (const [list, ids] of Object.entries(m.order ?? {})) arrange(list, ids, fresh);
  for (const el of fresh.values()) window.htmx?.process(el);
  refreshTimes();
  if (m.series) document.dispatchEvent(new CustomEvent("hf:series", { detail: m.series }));
}

// arrange puts the list's children in the server's order, moving as few as
// possible and never the one that has the focus.
function arrange(list, ids, fresh) {
  const box = document.getElementById(list);
  if (!box) return;
  const want = ids.map((id) => document.getElementById(id) ?? fresh.get(id)).filter(Boolean);
  const keep = new Set(want);
  for (const c of [...box.children]) if (!keep.has(c)) c.remove();
  const held = want.find((el) => el.contains(document.activeElement));
  const at = held ? want.indexOf(held) : want.length;
  place(box, want.slice(0, at), box.firstElementChild);
  if (held) place(box, want.slice(at + 1), held.nextElementSibling);
}

// place puts the elements, in their order, before what follows `next`.
function place(box, els, next) {
  for (const el of els) {
    if (el === next) next = next.nextElementSibling; else box.insertBefore(el, next);
  }
}

function flash(el) {
  el.classList.remove("changed");
  void el.offsetWidth;
  el.classList.add("changed");
}
