// A rollout as it is shown.

function card(rollout, filters, sample, runs, link) {
  const title = element("a", { href: link }, `${rollout.source || "rollout"}, policy step ${rollout.step}`);
  return element(
    "article",
    { class: "card", tabindex: -1, id: `rollout ${rollout.id}`, "data-rollout": rollout.id },
    element("header", {}, element("h3", {}, title), badges(rollout, runs)),
    element("div", { class: "images" }, ...rollout.images.map((place) => image(sample.images[place], rollout))),
    element(
      "div",
      { class: "told" },
      element("p", { class: "question" }, rollout.question),
      steps(rollout, filters),
      element("p", { class: "ending" }, "Ends: ", element("q", {}, rollout.ending)),
      element("p", { class: "reference" }, "Reference answer: ", element("strong", {}, rollout.answer)),
    ),
  );
}

function badges(rollout, runs) {
  const right = rollout.outcome > 0;
  const said = [
    element("li", { class: right ? "right" : "wrong" }, right ? "✓ answer right" : "✗ answer wrong"),
    element("li", { class: rollout.selected === "kept" ? "kept" : "" }, rollout.selected),
  ];
  if (rollout.informative !== null) said.push(element("li", {}, `selector ${shortNumber(rollout.informative)}`));
  if (runs.length > 1) said.push(element("li", {}, runs[rollout.run]));
  return element("ul", { class: "badges" }, ...said);
}

function image(uri, rollout) {
  return element("img", { src: uri, alt: `Image of the question: ${rollout.question}`, loading: "lazy" });
}

function steps(rollout, filters) {
  if (!rollout.steps.length) return element("p", {}, "No written step.");
  const known = rollout.steps.some((step) => step.truth !== null);
  const titles = ["Step", "MPRM", "Counts", ...(known ? ["Truth"] : [])];
  const heads = titles.map((title) => element("th", { scope: "col" }, title));
  const rows = rollout.steps.map((step) => stepRow(step, asksForSteps(filters) && stepMatches(step, filters)));
  return element(
    "table",
    { class: "steps" },
    element("thead", {}, element("tr", {}, ...heads)),
    element("tbody", {}, ...rows),
  );
}

function stepRow(step, found) {
  const text = element("td", {}, element("span", { class: "step-text" }, step.text));
  if (step.kind) text.append(" ", element("span", { class: "kind" }, step.kind));
  if (found) text.append(" ", element("span", { class: "found-mark" }, "matches"));
  return element(
    "tr",
    { class: found ? "found" : null },
    text,
    shareCell(step.score, step.score === null ? "none" : step.score.toFixed(2)),
    shareCell(step.sampled ? share(step) : null, step.sampled ? counts(step) : "none"),
    step.truth === null ? null : shareCell(Number(step.truth), step.truth ? "right" : "wrong"),
  );
}

function counts(step) {
  return `${shortNumber(step.correct)}/${shortNumber(step.sampled)}`;
}

function shareCell(value, text) {
  const cell = element("td", { class: value === null ? "cell missing" : "cell" }, text);
  if (value !== null) cell.style.setProperty("--share", `${(100 * value).toFixed(0)}%`);
  return cell;
}
