// Which rollouts match: pure functions of the data and of the filters' values.

const RIGHT = 0.5;

function share(step) {
  return step.correct / step.sampled;
}

// How far the MPRM's score is from the counts; null where one of the two is missing.
function difference(step) {
  return step.score === null || !step.sampled ? null : Math.abs(step.score - share(step));
}

// "too-high": only the MPRM says right; "too-low": only the counts do; "agree"; null where one of the two is missing.
function verdict(step) {
  if (difference(step) === null) return null;
  const [scored, counted] = [step.score >= RIGHT, step.correct > 0];
  return scored === counted ? "agree" : scored ? "too-high" : "too-low";
}

function asksForSteps(filters) {
  return Boolean(filters.kind || filters.verdict || filters.difference > 0);
}

// One and the same step has to meet everything that is asked of steps.
function stepMatches(step, filters) {
  const said = verdict(step);
  return (
    (!filters.kind || step.kind === filters.kind) &&
    (!filters.verdict || said === filters.verdict || (filters.verdict === "conflict" && said?.startsWith("too"))) &&
    (filters.difference === 0 || difference(step) >= filters.difference)
  );
}

function rolloutMatches(rollout, filters, runs) {
  const { run, source, selected, outcome, text } = filters;
  return (
    (!run || runs[rollout.run] === run) &&
    (!source || rollout.source === source) &&
    (!selected || rollout.selected === selected) &&
    (!outcome || answered(rollout) === outcome) &&
    (!asksForSteps(filters) || rollout.steps.some((step) => stepMatches(step, filters))) &&
    (!text || says(rollout, text.toLowerCase()))
  );
}

function answered(rollout) {
  return rollout.outcome > 0 ? "right" : "wrong";
}

function says(rollout, text) {
  const texts = [rollout.question, rollout.answer, rollout.ending, ...rollout.steps.map((step) => step.text)];
  return texts.some((each) => each.toLowerCase().includes(text));
}

// Of the steps that match, the largest difference; -1 where there is none.
function disagreement(rollout, filters) {
  const found = rollout.steps.filter((step) => stepMatches(step, filters));
  return Math.max(-1, ...found.map((step) => difference(step) ?? -1));
}

const ORDERS = {
  disagreement: (filters) => (one, other) => disagreement(other, filters) - disagreement(one, filters),
  step: () => (one, other) => one.step - other.step,
  informative: () => (one, other) => (other.informative ?? -Infinity) - (one.informative ?? -Infinity) || 0,
};

function matching(rollouts, filters, runs) {
  return rollouts
    .filter((rollout) => rolloutMatches(rollout, filters, runs))
    .sort((ORDERS[filters.order] ?? ORDERS.disagreement)(filters));
}
