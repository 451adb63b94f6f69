// Fetches the page again every 15 s and puts its main part in place, but not while somebody is writing a note.
// What somebody unfolded stays unfolded.
const PAUSE_MS = 15000;

async function refresh() {
  const main = document.getElementById("main");
  const isWriting = [...main.querySelectorAll("input")].some((i) => i === document.activeElement || i.value);
  if (document.hidden || isWriting) return;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
  if (!fresh) return;
  const folds = new Map([...main.querySelectorAll("details[id]")].map((fold) => [fold.id, fold.open]));
  for (const fold of fresh.querySelectorAll("details[id]")) fold.open = folds.get(fold.id) ?? fold.open;
  main.replaceWith(document.adoptNode(fresh));
}

setInterval(() => refresh().catch(() => {}), PAUSE_MS);
