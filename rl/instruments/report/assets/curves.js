// The curves: drawn as SVG, as wide as there is room. A point is [policy step, label tokens, minutes, value].

const AXES = { step: "policy steps", tokens: "label tokens", minutes: "minutes" };
const PLACE = { step: 0, tokens: 1, minutes: 2 };
const VALUE = 3;
const HEIGHT = 190;
const MARGIN = { left: 46, right: 10, top: 10, bottom: 22 };
const COLOURS = 8;
const DASHES = ["none", "6 3", "2 3", "8 3 2 3"];
const FEW_POINTS = 40;

function showQuestions(questions, runs) {
  const redraws = [];
  for (const question of questions) {
    const charts = element("div", { class: "charts" });
    for (const chart of question.charts) redraws.push(addChart(charts, chart, runs));
    byId("questions").append(
      element(
        "section",
        { id: question.name, "aria-labelledby": `${question.name}-title` },
        element("h2", { id: `${question.name}-title` }, question.title),
        element("p", { class: "reading" }, question.reading),
        question.charts.length ? charts : element("p", {}, "Nothing has been measured that would tell."),
      ),
    );
  }
  byId("against").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
}

function addChart(host, chart, runs) {
  const view = { chart, runs, hidden: new Set(), cursor: null };
  view.plot = element("div", { class: "plot" });
  view.legend = element("ul", { class: "legend" });
  view.moment = element("span", { class: "moment" });
  const caption = element("figcaption", {}, element("h3", {}, chart.title), element("p", {}, chart.reading));
  host.append(element("figure", { class: "chart" }, caption, view.plot, view.moment, view.legend));
  chart.lines.forEach((line) => view.legend.append(legendEntry(view, line)));
  new ResizeObserver(() => draw(view)).observe(view.plot);
  return () => {
    view.cursor = null;
    draw(view);
  };
}

function chosenAxis(view) {
  return view.chart.against ?? document.querySelector("#against input:checked").value;
}

function colourOf(view, line) {
  return `series-${(view.runs.length > 1 ? line.run : line.metric) % COLOURS}`;
}

function dashOf(view, line) {
  const round = view.runs.length > 1 ? Math.floor(line.run / COLOURS) : 0;
  return DASHES[(line.metric + round) % DASHES.length];
}

function labelOf(view, line) {
  if (view.runs.length === 1) return line.label;
  const several = view.chart.lines.some((other) => other.metric !== line.metric);
  return several ? `${view.runs[line.run]}, ${line.label}` : view.runs[line.run];
}

function legendEntry(view, line) {
  const sample = svgElement(
    "svg",
    { class: "sample", viewBox: "0 0 24 8", "aria-hidden": "true" },
    svgElement("path", { d: "M0 4H24", "stroke-dasharray": dashOf(view, line) }),
  );
  const value = element("span", { class: "value" });
  const label = element("span", { class: "label" }, labelOf(view, line));
  const button = element("button", { type: "button", "aria-pressed": "true", class: colourOf(view, line) });
  button.append(sample, label, value);
  button.addEventListener("click", () => {
    if (!view.hidden.delete(line)) view.hidden.add(line);
    button.setAttribute("aria-pressed", String(!view.hidden.has(line)));
    draw(view);
  });
  return element("li", {}, button);
}

function draw(view) {
  const width = view.plot.clientWidth;
  if (!width) return;
  const lines = view.chart.lines.filter((line) => !view.hidden.has(line));
  const axis = chosenAxis(view);
  const points = lines.flatMap((line) => line.points);
  const spent = points.map((point) => point[PLACE[axis]]);
  const x = scale(spent, MARGIN.left, width - MARGIN.right, axis === "step" ? 1 : 0);
  const values = [...points.map((point) => point[VALUE]), ...lines.flatMap((line) => line.interval.flat())];
  const y = scale(values, HEIGHT - MARGIN.bottom, MARGIN.top, 0);
  const picture = svgElement("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`,
    width,
    height: HEIGHT,
    tabindex: 0,
    role: "img",
    "aria-label": spoken(view, lines, axis),
  });
  picture.append(...grid(x, y, width, AXES[axis]), ...lines.map((line) => curve(view, line, x, y, axis)));
  view.marks = svgElement("g", { class: "marks" });
  picture.append(view.marks);
  listen(view, picture, x, y, axis);
  const focused = view.plot.contains(document.activeElement);
  view.plot.replaceChildren(picture);
  if (focused) picture.focus();
  showMoment(view, x, y, axis);
}

function scale(values, from, to, leastStep) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (!values.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const room = (high - low) * 0.04;
  [low, high] = [low - room, high + room];
  const place = (value) => from + ((value - low) / (high - low)) * (to - from);
  return { place, ticks: ticks(low, high, Math.abs(to - from) / 36, leastStep) };
}

function ticks(low, high, wanted, leastStep) {
  const rough = (high - low) / Math.min(6, Math.max(2, wanted));
  const power = 10 ** Math.floor(Math.log10(rough));
  const round = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const step = Math.max(round, leastStep);
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high; number += 1) found.push(number * step + 0);
  return found;
}

function grid(x, y, width, name) {
  const bottom = HEIGHT - MARGIN.bottom;
  const text = (attributes, content) => svgElement("text", { class: "tick", ...attributes }, content);
  return [
    ...y.ticks.map((tick) =>
      svgElement("path", { class: "rule", d: `M${MARGIN.left} ${y.place(tick)}H${width - MARGIN.right}` }),
    ),
    ...y.ticks.map((tick) =>
      text({ x: MARGIN.left - 6, y: y.place(tick) + 4, "text-anchor": "end" }, shortNumber(tick)),
    ),
    ...x.ticks
      .filter((tick) => tick >= 0 && x.place(tick) < width - MARGIN.right - 8 * name.length)
      .map((tick) => text({ x: x.place(tick), y: bottom + 16, "text-anchor": "middle" }, shortNumber(tick))),
    text({ x: width - MARGIN.right, y: bottom + 16, "text-anchor": "end" }, name),
    svgElement("path", { class: "axis", d: `M${MARGIN.left} ${bottom}H${width - MARGIN.right}` }),
  ];
}

function curve(view, line, x, y, axis) {
  const places = line.points.map((point) => [x.place(point[PLACE[axis]]), y.place(point[VALUE])]);
  const path = places.map(([across, down]) => `${across.toFixed(1)} ${down.toFixed(1)}`).join("L");
  const dots = places.length <= FEW_POINTS ? places : [];
  return svgElement(
    "g",
    { class: colourOf(view, line) },
    svgElement("path", { class: "interval", d: band(line, x, y, axis) }),
    svgElement("path", { class: "curve", d: `M${path}`, "stroke-dasharray": dashOf(view, line) }),
    ...dots.map(([across, down]) => svgElement("circle", { cx: across, cy: down, r: 2.2 })),
  );
}

function band(line, x, y, axis) {
  if (!line.interval.length) return "";
  const across = line.points.map((point) => x.place(point[PLACE[axis]]));
  const bound = (which) => line.interval.map((each, place) => `${across[place]} ${y.place(each[which])}`);
  return `M${[...bound(0), ...bound(1).reverse()].join("L")}Z`;
}

function listen(view, picture, x, y, axis) {
  const stops = () => {
    const shown = view.chart.lines.filter((line) => !view.hidden.has(line));
    return [...new Set(shown.flatMap((line) => line.points.map((point) => point[PLACE[axis]])))].sort((a, b) => a - b);
  };
  const move = (cursor) => {
    view.cursor = cursor ?? null;
    showMoment(view, x, y, axis);
  };
  picture.addEventListener("pointermove", (event) => {
    const across = event.clientX - picture.getBoundingClientRect().left;
    const distance = (stop) => Math.abs(x.place(stop) - across);
    move(stops().reduce((best, stop) => (best === null || distance(stop) < distance(best) ? stop : best), null));
  });
  picture.addEventListener("pointerleave", () => move(null));
  picture.addEventListener("keydown", (event) => {
    const all = stops();
    const now = view.cursor === null ? all.length : all.indexOf(view.cursor);
    if (event.key === "ArrowLeft") move(all[Math.max(0, now - 1)]);
    else if (event.key === "ArrowRight") move(all[Math.min(all.length - 1, now + 1)]);
    else if (event.key === "Escape") move(null);
    else return;
    event.preventDefault();
  });
}

function showMoment(view, x, y, axis) {
  const { cursor } = view;
  view.moment.textContent = cursor === null ? "latest" : momentText(cursor, axis);
  view.marks.replaceChildren();
  if (cursor !== null) {
    const across = x.place(cursor);
    view.marks.append(svgElement("path", { class: "cursor", d: `M${across} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}` }));
  }
  view.chart.lines.forEach((line, place) => {
    const point = line.points.findLast((each) => cursor === null || each[PLACE[axis]] <= cursor);
    view.legend.children[place].querySelector(".value").textContent = point ? shortNumber(point[VALUE]) : "";
    if (!point || cursor === null || view.hidden.has(line)) return;
    const mark = { class: colourOf(view, line), cx: x.place(point[PLACE[axis]]), cy: y.place(point[VALUE]), r: 4 };
    view.marks.append(svgElement("circle", mark));
  });
}

function momentText(cursor, axis) {
  if (axis === "step") return `at policy step ${shortNumber(cursor)}`;
  return axis === "tokens" ? `after ${shortNumber(cursor)} label tokens` : `after ${shortNumber(cursor)} minutes`;
}

function spoken(view, lines, axis) {
  const said = lines.map((line) => {
    const [first, last] = [line.points[0][VALUE], line.points.at(-1)[VALUE]];
    return `${labelOf(view, line)} from ${shortNumber(first)} to ${shortNumber(last)}`;
  });
  return `${view.chart.title}, against ${AXES[axis]}: ${said.join("; ")}. Left and right arrows read the values.`;
}
