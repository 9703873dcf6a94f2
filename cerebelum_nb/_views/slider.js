// The slider of a run: shows what was known as of one of its events. No kernel, no library, nothing is fetched.
// `data` stands before this text: {page, names, first, events: [{title, detail, time, set}]}; `page` is the HTML to fill,
// `first` how many events were left out before these, `set` what the event changed, as pairs of a slot's name and its new
// text (null: it is gone).
const root = document.currentScript.parentElement;
root.insertAdjacentHTML("beforeend", data.page);
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const [play, range, count] = ["play", "range", "count"].map(part);
const now = new Map();
const undo = [];
const boxes = new Map();
for (const box of root.querySelectorAll("g[data-step]"))
  boxes.set(box.dataset.step, [...(boxes.get(box.dataset.step) ?? []), box]);
const rows = new Map([...root.querySelectorAll("tbody[data-step]")].map((row) => [row.dataset.step, row]));
let at = 0;
let timer = null;

// What each event replaces, so that one can go back.
for (const event of data.events) {
  undo.push(event.set.map(([slot]) => [slot, now.get(slot) ?? null]));
  for (const [slot, text] of event.set) now.set(slot, text);
}
now.clear();

function go(number) {
  const stale = new Set();
  const apply = (set) => set.forEach(([slot, text]) => (now.set(slot, text), stale.add(slot)));
  while (at < number) apply(data.events[at++].set);
  while (at > number) apply(undo[--at]);
  for (const slot of stale) draw(slot, now.get(slot));
  facts();
  tell();
}

function draw(slot, text) {
  const [kind, name] = [slot.slice(0, slot.indexOf(":")), slot.slice(slot.indexOf(":") + 1)];
  if (kind === "part") part(name).innerHTML = text ?? "";
  if (kind === "row") rows.get(name).innerHTML = text ?? "";
  if (kind === "box")
    for (const box of boxes.get(name) ?? []) box.style.display = box.dataset.state === text ? "" : "none";
}

function line(cells, bold) {
  const row = document.createElement("tr");
  for (const text of cells) {
    const cell = row.appendChild(document.createElement("td"));
    cell.textContent = text;
    const wrap = row.children.length === 1 ? "white-space:nowrap" : "overflow-wrap:anywhere";
    cell.style.cssText = `text-align:left;vertical-align:top;${wrap};font-weight:${bold ? "bold" : "normal"}`;
  }
  return row;
}

function facts() {
  const event = data.events[at - 1];
  const before = new Map(undo[at - 1]);
  const changed = event.set.filter(([slot]) => slot.startsWith("fact:"));
  const arrow = (slot, text) => [before.get(slot) ?? "", "→", text ?? ""];
  part("changed").replaceChildren(...changed.map(([slot, text]) => line([slot.slice(5), ...arrow(slot, text)])));
  if (!part("state").parentElement.parentElement.open) return;
  const fresh = new Set(changed.map(([slot]) => slot));
  const known = data.names.map((name) => `fact:${name}`).filter((slot) => now.get(slot) != null);
  part("state").replaceChildren(...known.map((slot) => line([slot.slice(5), now.get(slot)], fresh.has(slot))));
}

function tell() {
  const { title, detail, time } = data.events[at - 1];
  part("title").textContent = `event ${data.first + at}: ${title}`;
  part("detail").textContent = detail;
  part("time").textContent = time;
  range.value = at;
  range.setAttribute("aria-valuetext", `event ${data.first + at}: ${title}`);
  count.textContent = `${data.first + at} of ${data.first + data.events.length}`;
}

function pause() {
  clearInterval(timer);
  timer = null;
  play.textContent = "play";
}

function toggle() {
  if (timer !== null) return pause();
  if (at === data.events.length) go(1);
  play.textContent = "pause";
  timer = setInterval(() => (at < data.events.length && root.isConnected ? go(at + 1) : pause()), 600);
}

const move = (by) => (pause(), go(Math.min(data.events.length, Math.max(1, at + by))));
play.onclick = toggle;
part("previous").onclick = () => move(-1);
part("next").onclick = () => move(1);
range.oninput = () => (pause(), go(Number(range.value)));
part("state").parentElement.parentElement.ontoggle = facts;
// JupyterLab takes keys at the document, before they come here; so this one listens at the window, while it is shown.
const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e9, End: 1e9 };
function keys(event) {
  if (!root.isConnected) return window.removeEventListener("keydown", keys, true);
  if (!root.contains(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const pressed = ["BUTTON", "SUMMARY"].includes(event.target.tagName) && ["Enter", " "].includes(event.key);
  if (event.key in steps) move(steps[event.key]);
  else if (event.key === " " && !pressed) toggle();
  else if (!pressed) return;
  if (!pressed) event.preventDefault();
  event.stopPropagation();
}
window.addEventListener("keydown", keys, true);
part("still").remove();
go(data.events.length);
