"use strict";
// The bearer is kept in this browser until `grafos dev down`: the helper is gone then, and what was kept is forgotten.
const KEPT_AS = "grafos.bearer";
const LOOK_EVERY_MS = 2000;
let misses = 0;

function kept() { return localStorage.getItem(KEPT_AS); }
function say(text) { const place = document.getElementById("said"); if (place) place.textContent = text; }

const pageOf = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

async function forget(why) {
  localStorage.removeItem(KEPT_AS);
  try {
    show(await pageOf(await fetch("/", { cache: "no-store" })));
  } catch {
    document.body.dataset.signedIn = "no";
    document.querySelector("h1").textContent = "Developer tab";
    document.querySelector("main").replaceChildren(document.querySelector("h1"), document.getElementById("said"));
  }
  say(why);
}

async function ask(path, options) {
  const answer = await fetch(path, { ...options, headers: { Authorization: "Bearer " + kept() }, cache: "no-store" });
  if (answer.status === 401) throw new Error("The bearer is not the one of this dev up.");
  if (answer.redirected) history.replaceState(null, "", answer.url);
  return pageOf(answer);
}

function show(page) {
  document.title = page.title;
  document.body.dataset.signedIn = page.body.dataset.signedIn;
  document.querySelector("main").replaceWith(page.querySelector("main"));
  dress();
}

async function open(path, options) {
  try {
    show(await ask(path, options));
    document.querySelector("h1").focus();
  } catch (error) {
    forget(error instanceof TypeError ? "The local fabric is down: grafos dev up" : error.message);
  }
}

function dress() {
  for (const button of document.querySelectorAll("[data-script]")) button.hidden = false;
  const signIn = document.getElementById("sign-in");
  if (signIn) signIn.addEventListener("submit", (event) => {
    event.preventDefault();
    localStorage.setItem(KEPT_AS, signIn.elements.bearer.value.trim());
    open("/");
  });
  const run = document.getElementById("run");
  if (run && kept()) run.addEventListener("submit", async (event) => {
    event.preventDefault();
    run.querySelector("button").disabled = true;
    say("The run is under way.");
    await open("/run", { method: "POST", body: new URLSearchParams(new FormData(run)) });
  });
  const out = document.getElementById("forget");
  if (out) out.addEventListener("click", () => forget("The bearer is forgotten in this browser."));
}

async function look() {
  if (!kept() || document.body.dataset.signedIn !== "yes" || document.hidden) return;
  try {
    const fresh = (await ask("/" + location.search)).getElementById("runs");
    const here = document.getElementById("runs");
    misses = 0;
    if (fresh && here && fresh.innerHTML !== here.innerHTML && !here.contains(document.activeElement)) here.replaceWith(fresh);
  } catch (error) {
    misses += 1;
    if (!(error instanceof TypeError) || misses > 1) forget(error instanceof TypeError ? "The local fabric is down: grafos dev up" : error.message);
  }
}

function enter() {
  const linked = new URLSearchParams(location.hash.slice(1)).get("bearer");
  if (linked) {
    localStorage.setItem(KEPT_AS, linked);
    history.replaceState(null, "", location.pathname + location.search);
  }
  if (kept() && document.body.dataset.signedIn === "no") open("/");
}

dress();
enter();
// The link of dev up, pasted where this page is open already, changes nothing but what stands behind the #.
addEventListener("hashchange", enter);
setInterval(look, LOOK_EVERY_MS);
