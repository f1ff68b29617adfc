"use strict";
// Keeps an open page fresh. Without it the page is whole all the same, as of the moment at which it was made.
const LOST_AFTER_MS = 15000;
const AGAIN_AFTER_MS = 3000;
const place = (id) => document.getElementById(id);
const clock = (moment) => new Date(moment).toISOString().slice(0, 19).replace("T", " ") + " UTC";
let source = null, heard = 0, again = 0, paused = false, over = false;

function say(text, stale) {
  if (place("live").textContent !== text) place("live").textContent = text;
  document.body.classList.toggle("stale", stale);
}

// Changes what differs and leaves the rest alone: focus, selection and where somebody reads stay as they are.
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) return old.replaceWith(fresh);
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.nodeName === "FORM" && old.contains(document.activeElement)) return;
  const [was, is] = [[...old.childNodes], [...fresh.childNodes]];
  is.forEach((node, at) => (at < was.length ? morph(was[at], node) : old.append(node)));
  was.slice(is.length).forEach((node) => node.remove());
}

function show({ id, html }) {
  const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(id);
  if (fresh && place(id)) morph(place(id), fresh);
}

function close() {
  clearTimeout(again);
  if (source) source.close();
  source = null;
}

function end(text) {
  over = true;
  close();
  say(text, true);
  place("pause").hidden = true;
  place("enter").hidden = false;
}

async function lost() {
  close();
  say("The connection is lost; trying again. What stands here may be out of date.", true);
  try {
    const asked = { method: "HEAD", cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(LOST_AFTER_MS) };
    const answer = await fetch(location.pathname, asked);
    if (answer.type === "opaqueredirect") return end("Another replica of this scheduler leads now; reload to go there.");
    if (answer.status === 401) return end("You are signed out. What stands here is out of date.");
  } catch { /* nobody answers yet */ }
  if (!paused && !document.hidden) again = setTimeout(open, AGAIN_AFTER_MS);
}

function open() {
  close();
  if (paused || over || document.hidden) return;
  heard = Date.now();
  source = new EventSource(document.body.dataset.stream + location.search);
  const on = (name, act) => source.addEventListener(name, (event) => { heard = Date.now(); act(JSON.parse(event.data)); });
  on("section", show);
  on("beat", ({ now }) => {
    const at = place("at");
    at.dateTime = new Date(now * 1000).toISOString();
    at.textContent = clock(now * 1000);
    say("Live: changes appear by themselves.", false);
  });
  on("ended", () => end("Your session has ended. What stands here is out of date."));
  source.onerror = lost;
}

function pause() {
  paused = !paused;
  place("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) return open();
  close();
  say("Paused: what stands here does not change.", true);
}

// The link's secret is behind the #, which is sent nowhere; it leaves the address bar before anything else happens.
function enter() {
  const linked = location.hash.slice(1);
  if (!linked) return;
  history.replaceState(null, "", location.pathname);
  place("code").value = linked;
  place("code").form.submit();
}

if (place("code")) {
  enter();
  // A link that is pasted where this page is open already changes nothing but what stands behind the #.
  addEventListener("hashchange", enter);
}
if (document.body.dataset.stream) {
  place("pause").hidden = false;
  place("pause").addEventListener("click", pause);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  setInterval(() => { if (source && Date.now() - heard > LOST_AFTER_MS) lost(); }, 1000);
  open();
}
