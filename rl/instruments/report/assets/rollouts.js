// The browser of rollouts: the filters' values stand in the address after "#rollouts", so that a view can be linked to.

const AT_A_TIME = 20;
const HOME = "rollouts";

function showRollouts(sample, runs) {
  byId("sample").textContent = about(sample, runs);
  if (!sample.rollouts.length) {
    byId("browser").remove();
    return;
  }
  const view = { sample, runs, form: byId("filters"), matches: [], shown: AT_A_TIME, current: null };
  offer(view.form.elements.run, runs.length > 1 ? runs : []);
  offer(view.form.elements.source, [...new Set(sample.rollouts.map((rollout) => rollout.source))].sort());
  view.form.addEventListener("input", () => refilter(view));
  view.form.addEventListener("submit", (event) => event.preventDefault());
  view.form.addEventListener("reset", () => setTimeout(() => refilter(view)));
  byId("more").addEventListener("click", () => showMore(view));
  byId("cards").addEventListener("focusin", (event) => become(view, event.target.closest(".card")?.dataset.rollout));
  document.addEventListener("keydown", (event) => onKey(view, event));
  window.addEventListener("hashchange", () => followAddress(view));
  apply(view);
  followAddress(view);
}

function about(sample, runs) {
  const recorded = sample.recorded.reduce((sum, number) => sum + number, 0);
  if (!recorded) return "No rollouts were recorded: train with sieve train CONFIG record=true.";
  const without = runs.filter((_, run) => !sample.recorded[run]);
  const missing = without.length ? ` Not recorded, for want of record=true: ${without.join(", ")}.` : "";
  const [shown, all] = [sample.rollouts.length, recorded].map((number) => number.toLocaleString("en"));
  if (sample.rollouts.length === recorded) return `All ${all} recorded rollouts.${missing}`;
  return (
    `${shown} of ${all} recorded rollouts, from every tenth of the run: half of them those on which MPRM and counts ` +
    `disagree most, the others at random. They are no fair sample: shares among them are not the run's.${missing}`
  );
}

function offer(select, values) {
  select.append(...values.map((value) => element("option", { value }, value)));
  if (values.length < 2) select.closest("label").hidden = true;
}

function currentFilters(form) {
  const values = Object.fromEntries(new FormData(form));
  return { ...values, text: values.text.trim(), difference: Number(values.difference) };
}

function refilter(view) {
  view.shown = AT_A_TIME;
  view.current = null;
  apply(view);
  writeAddress(view);
}

function apply(view) {
  const filters = currentFilters(view.form);
  byId("difference-shown").textContent = filters.difference ? filters.difference.toFixed(2) : "any";
  view.matches = matching(view.sample.rollouts, filters, view.runs);
  const found = view.matches.length.toLocaleString("en");
  byId("matches").textContent = `${found} of ${view.sample.rollouts.length.toLocaleString("en")} shown here match.`;
  byId("cards").replaceChildren();
  showUpTo(view, view.shown);
}

function showMore(view) {
  const first = view.shown;
  showUpTo(view, first + AT_A_TIME);
  focusCard(view, first);
}

function showUpTo(view, number) {
  view.shown = Math.max(view.shown, number);
  const filters = currentFilters(view.form);
  const cards = byId("cards");
  const missing = view.matches.slice(cards.children.length, view.shown);
  const link = (rollout) => address(view, rollout.id);
  cards.append(...missing.map((rollout) => card(rollout, filters, view.sample, view.runs, link(rollout))));
  byId("more").hidden = view.shown >= view.matches.length;
}

function focusCard(view, place) {
  if (place < 0 || place >= view.matches.length) return;
  if (place >= view.shown) showUpTo(view, place + AT_A_TIME);
  const found = byId("cards").children[place];
  found.focus({ preventScroll: true });
  found.scrollIntoView({ block: "nearest" });
}

function become(view, id) {
  if (!id || id === view.current) return;
  view.current = id;
  writeAddress(view);
}

function onKey(view, event) {
  const writing = event.target.closest("input[type=search], select, textarea");
  if (writing || event.ctrlKey || event.metaKey || event.altKey) return;
  const now = view.matches.findIndex((rollout) => rollout.id === view.current);
  if (event.key === "j") focusCard(view, now + 1);
  else if (event.key === "k") focusCard(view, Math.max(0, now - 1));
  else if (event.key === "/") view.form.elements.text.focus();
  else return;
  event.preventDefault();
}

function address(view, id) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(currentFilters(view.form))) {
    const field = view.form.elements[name];
    const usual = field.tagName === "SELECT" ? field.options[0].value : field.defaultValue;
    if (String(value) !== usual) parts.set(name, value);
  }
  if (id) parts.set("rollout", id);
  const text = parts.toString();
  return `#${HOME}${text && `&${text}`}`;
}

function writeAddress(view) {
  history.replaceState(null, "", address(view, view.current));
}

function followAddress(view) {
  const [home, ...others] = location.hash.slice(1).split("&");
  if (home !== HOME || !others.length) return;
  const values = new URLSearchParams(others.join("&"));
  for (const field of view.form.elements) {
    if (field.name) field.value = values.get(field.name) ?? (field.tagName === "SELECT" ? "" : field.defaultValue);
  }
  if (!values.has("order")) view.form.elements.order.selectedIndex = 0;
  view.current = values.get("rollout");
  view.shown = AT_A_TIME;
  apply(view);
  const place = view.matches.findIndex((rollout) => rollout.id === view.current);
  if (place >= 0) {
    focusCard(view, place);
    return;
  }
  byId(HOME).scrollIntoView();
  if (view.current !== null) byId("matches").textContent += " The one that the address names is not among them.";
}
