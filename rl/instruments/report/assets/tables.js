// Tables, and the bars of where the time goes. On a narrow screen a row becomes a block in which each number has its
// column's title beside it.

function table(content) {
  const [first, ...others] = content.columns;
  const head = element("tr", {}, ...[first, ...others].map((title) => element("th", { scope: "col" }, title)));
  const rows = content.rows.map(([name, ...texts]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      ...texts.map((text, place) => element("td", { "data-column": others[place] }, text)),
    ),
  );
  const made = element("table", { class: "numbers" }, element("thead", {}, head), element("tbody", {}, ...rows));
  return element("div", { class: "wide" }, made);
}

function showSettings(settings, runs) {
  const reading = runs.length > 1 ? "Those in which the runs differ." : "Those that differ from the defaults.";
  byId("settings-reading").textContent = settings.rows.length ? reading : `${reading} There are none.`;
  if (settings.rows.length) byId("differences").append(table(settings));
}

function showTime(time, runs) {
  time.forEach((stages, run) => {
    const longest = Math.max(...stages.map((stage) => stage.share));
    const bars = stages
      .filter((stage) => stage.share >= 0.0005)
      .map((stage) => stageRow(stage, stage.share / longest));
    const body = bars.length ? element("ul", { class: "bars" }, ...bars) : element("p", {}, "No policy step yet.");
    byId("stages").append(element("div", { class: "run" }, element("h3", {}, runs[run]), body));
  });
}

function stageRow(stage, length) {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--length", length);
  const seconds = `${shortNumber(stage.seconds)} s`;
  const share = `${(100 * stage.share).toFixed(0)} %`;
  return element(
    "li",
    {},
    element("span", { class: "stage" }, element("strong", {}, stage.name), ` ${stage.what}`),
    element("span", { class: "amount" }, `${seconds}, ${share}`),
    bar,
  );
}
