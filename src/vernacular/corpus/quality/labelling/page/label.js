"use strict";

// Text comes from anywhere, so it is only ever put in as text, never as markup.
const KEYS = { 1: "HIGH", 2: "MEDIUM", 3: "LOW", h: "HIGH", m: "MEDIUM", l: "LOW" };
const at = (id) => document.getElementById(id);
let annotator = new URLSearchParams(location.search).get("annotator") || "";
let task = null;
let shownAt = 0;
let busy = false;

async function ask(act, more = {}) {
  if (busy) return;
  busy = true;
  try {
    const answer = await fetch("/api/" + act, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ annotator, ...more }),
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(value.error || answer.statusText);
    show(value);
  } catch (error) {
    say("Not saved: " + error.message + ". Is the program still running? Reload to go on.");
  } finally {
    busy = false;
  }
}

function say(words) {
  at("message").textContent = words;
  at("message").hidden = !words;
}

function show({ task: next, progress }) {
  task = next;
  shownAt = performance.now();
  at("bar").max = Math.max(progress.total, 1);
  at("bar").value = progress.done;
  at("count").textContent = `${progress.done} of ${progress.total}`;
  at("agreement").textContent = agreement(progress);
  at("text").hidden = at("keys").hidden = !task;
  say(task ? "" : "All documents are graded. Thank you.");
  if (!task) return;
  at("text").textContent = task.text;
  at("text").lang = task.language;
  at("text").dataset.document = task.document;
  window.scrollTo(0, 0);
  at("text").focus({ preventScroll: true });
}

function agreement(progress) {
  const said = (name, one) =>
    one.documents ? `${name}: ${one.same} of ${one.documents} the same` + (one.kappa === null ? "" : `, κ ${one.kappa.toFixed(2)}`) : "";
  const parts = Object.entries(progress.with_others).map(([name, one]) => said("with " + name, one));
  return [...parts, said("with yourself", progress.with_herself)].filter(Boolean).join(" · ");
}

function grade(name) {
  if (task) ask("verdict", { document: task.document, grade: name, seconds: (performance.now() - shownAt) / 1000 });
}

function act(name) {
  if (name === "undo") ask("undo");
  else if (name === "skip") grade(null);
}

function begin() {
  at("door").hidden = !!annotator;
  at("who").textContent = annotator;
  if (annotator) ask("next");
  else at("name").focus();
}

document.addEventListener("keydown", (event) => {
  if (!task || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT") return;
  if (event.key in KEYS) grade(KEYS[event.key]);
  else if (event.key === "s") act("skip");
  else if (event.key === "u" || event.key === "Backspace") act("undo");
  else return;
  event.preventDefault();
});

at("keys").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) button.dataset.grade ? grade(button.dataset.grade) : act(button.dataset.act);
});

at("door").addEventListener("submit", (event) => {
  event.preventDefault();
  annotator = at("name").value.trim();
  if (annotator) history.replaceState(null, "", "?annotator=" + encodeURIComponent(annotator));
  begin();
});

begin();
