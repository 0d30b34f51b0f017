"""A report as headless Chromium shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rl.commands.report import report as write_report
from rl.instruments.report.rollouts import (
    ReportedRollout,
    RolloutSample,
    ShownStep,
    sample_rollouts,
)
from rl.instruments.report.runs import read_runs
from tests.fixtures.chromium import Page, chromium_page
from tests.fixtures.report_runs import STEPS, a_run

CONTRAST = (Path(__file__).parents[2] / "fixtures" / "page_contrast.js").read_text()
EVIL = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">&lt;"
SHOW_ALL = "(() => { const more = document.querySelector('#more'); while (!more.hidden) more.click(); })()"
SHOWN = "[...document.querySelectorAll('.card')].map((card) => card.dataset.rollout)"
RUNS = ("bis", "random", "bare")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three recorded runs: two with different selectors, and one without a reward model that is not finished."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        a_run(folder / "bis"),
        a_run(folder / "random", "seed=1", "selection.selector=random"),
        a_run(folder / "bare", "seed=2", judged=False, finished=False),
    ]


@pytest.fixture(scope="module")
def sample(folders: list[Path]) -> RolloutSample:
    return sample_rollouts(read_runs(folders), 1000)


@pytest.fixture(scope="module")
def report(folders: list[Path]) -> str:
    """The address of a report on all of them, with all their rollouts."""
    page = folders[0].parent / "report.html"
    write_report(folders, page, 1000)
    return page.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(tmp_path_factory.mktemp("browser") / "profile") as page:
        yield page


@pytest.fixture
def page(browser: Page, report: str) -> Iterator[Page]:
    """The report, freshly opened on a wide screen; whatever a test does to it, nothing may go wrong in it, and nothing
    may be fetched."""
    browser.look(1280, dark=False)
    open_anew(browser, report)
    yield browser
    assert browser.problems == []
    assert set(browser.requests) == {report}


def open_anew(page: Page, address: str) -> None:
    """Load it, even if it is there already with other words after the #."""
    page.open("about:blank")
    page.problems.clear()
    page.requests.clear()
    page.open(address)


def shown_with(page: Page, **filters: str) -> set[str]:
    """The rollouts that are shown once the filters are set so; the number that the page says is as many."""
    page.evaluate(
        """((filters) => {
          const form = document.querySelector("#filters");
          for (const field of form.elements) {
            if (field.tagName === "SELECT") field.selectedIndex = 0;
            else if (field.name) field.value = field.defaultValue;
          }
          for (const [name, value] of Object.entries(filters)) form.elements[name].value = value;
          form.dispatchEvent(new Event("input"));
        })"""
        f"({json.dumps(filters)})"
    )
    page.evaluate(SHOW_ALL)
    found = page.evaluate(SHOWN)
    (number,) = re.findall(r"^([\d,]+) of", page.evaluate("document.querySelector('#matches').textContent"))
    assert int(number.replace(",", "")) == len(found) == len(set(found))
    return set(found)


def apart(step: ShownStep) -> float:
    """How far score and share are apart; -1 where one of them is missing."""
    return abs(step.score - step.correct / step.sampled) if step.score is not None and step.sampled else -1


def said(step: ShownStep) -> tuple[bool, bool] | None:
    """Whether the MPRM says right, and whether the counts do."""
    return (step.score >= 0.5, step.correct > 0) if step.score is not None and step.sampled else None


Wanted = Callable[[ReportedRollout], bool]
CASES: list[tuple[dict[str, str], Wanted]] = [
    ({}, lambda rollout: True),
    ({"kind": "perception"}, lambda rollout: any(step.kind == "perception" for step in rollout.steps)),
    ({"run": "random"}, lambda rollout: rollout.run == 1),
    ({"source": "modulo"}, lambda rollout: rollout.source == "modulo"),
    ({"selected": "kept"}, lambda rollout: rollout.selected == "kept"),
    ({"selected": "passed over"}, lambda rollout: rollout.selected == "passed over"),
    ({"outcome": "wrong"}, lambda rollout: rollout.outcome == 0),
    ({"difference": "0.75"}, lambda rollout: any(apart(step) >= 0.75 for step in rollout.steps)),
    (
        {"verdict": "conflict"},
        lambda rollout: any(said(step) in ((True, False), (False, True)) for step in rollout.steps),
    ),
    ({"verdict": "too-high"}, lambda rollout: any(said(step) == (True, False) for step in rollout.steps)),
    (
        {"verdict": "too-low", "kind": "reasoning", "difference": "0.6", "outcome": "right", "run": "bis"},
        lambda rollout: (
            rollout.run == 0
            and rollout.outcome == 1
            and any(
                said(step) == (False, True) and step.kind == "reasoning" and apart(step) >= 0.6
                for step in rollout.steps
            )
        ),
    ),
    ({"text": "TRIANGLE"}, lambda rollout: "triangle" in text_of(rollout)),
    ({"text": "no such text"}, lambda rollout: False),
]


def text_of(rollout: ReportedRollout) -> str:
    texts = [rollout.question, rollout.answer, rollout.ending, *(step.text for step in rollout.steps)]
    return "\n".join(texts).lower()


@pytest.mark.parametrize(("filters", "wanted"), CASES, ids=[str(filters) for filters, _ in CASES])
def test_a_filter_shows_what_it_says(
    page: Page, sample: RolloutSample, filters: dict[str, str], wanted: Wanted
) -> None:
    assert shown_with(page, **filters) == {rollout.id for rollout in sample.rollouts if wanted(rollout)}


def test_the_filters_tell_rollouts_apart(sample: RolloutSample) -> None:
    sizes = [sum(map(wanted, sample.rollouts)) for _, wanted in CASES[2:-1]]
    assert all(0 < size < len(sample.rollouts) for size in sizes), sizes


def test_the_most_disputed_come_first_and_the_steps_that_match_are_marked(page: Page, sample: RolloutSample) -> None:
    shown_with(page, kind="reasoning", difference="0.4")
    worst = {
        rollout.id: max((apart(step) for step in rollout.steps if step.kind == "reasoning"), default=-1)
        for rollout in sample.rollouts
    }
    disputes = [worst[rollout] for rollout in page.evaluate(SHOWN)]
    assert disputes == sorted(disputes, reverse=True)
    marked = page.evaluate(
        "[...document.querySelectorAll('.card')].map((card) => card.querySelectorAll('.found').length)"
    )
    assert min(marked) >= 1
    kinds = page.evaluate(
        "[...new Set([...document.querySelectorAll('.found .kind')].map((kind) => kind.textContent))]"
    )
    assert kinds == ["reasoning"]


def test_a_card_says_everything_of_its_rollout(page: Page, sample: RolloutSample) -> None:
    rollout = next(each for each in sample.rollouts if each.selected == "kept")
    shown_with(page, selected="kept", run=RUNS[rollout.run])
    card = f"document.querySelector('[data-rollout=\"{rollout.id}\"]')"
    text = page.evaluate(f"{card}.innerText")
    for said in (
        rollout.question,
        rollout.answer,
        rollout.ending,
        "kept",
        f"policy step {rollout.step}",
        rollout.source,
    ):
        assert said in text
    rows = page.evaluate(
        f"[...{card}.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((c) => c.innerText))"
    )
    assert rows == [
        [
            f"{step.text} {step.kind}",
            f"{step.score:.2f}",
            f"{step.correct:.0f}/{step.sampled:.0f}" if step.sampled else "none",
            "right" if step.truth else "wrong",
        ]
        for step in rollout.steps
    ]
    assert (
        page.evaluate(f"{card}.querySelector('img').decode().then(() => {card}.querySelector('img').naturalWidth)")
        == 84
    )


def test_a_view_can_be_linked_to(page: Page, report: str) -> None:
    found = shown_with(page, kind="reasoning", difference="0.3", selected="kept")
    last = page.evaluate(SHOWN)[-1]
    page.evaluate("[...document.querySelectorAll('.card')].at(-1).focus()")
    address = page.evaluate("location.href")
    assert {"kind=reasoning", "difference=0.3", "selected=kept"} <= set(address.split("&"))
    open_anew(page, address)
    assert page.evaluate("document.activeElement.dataset.rollout") == last
    page.evaluate(SHOW_ALL)
    assert set(page.evaluate(SHOWN)) == found
    # The links of the cards lead to the same place.
    assert page.evaluate("document.activeElement.querySelector('h3 a').href") == address
    assert page.requests == [report]


def test_a_link_to_a_rollout_that_is_not_shown_says_so(page: Page) -> None:
    page.evaluate("void (location.hash = '#rollouts&selected=kept&rollout=other:1:2')")
    page.evaluate("new Promise((done) => setTimeout(done))")
    assert "is not among them" in page.evaluate("document.querySelector('#matches').textContent")
    assert page.evaluate("document.querySelector('#rollouts').getBoundingClientRect().top") < 50


def test_keys_lead_from_rollout_to_rollout(page: Page) -> None:
    shown = page.evaluate(SHOWN)
    focused = []
    for key in "jjjk":
        page.press(key)
        focused.append(page.evaluate("document.activeElement.dataset.rollout"))
    assert focused == [shown[0], shown[1], shown[2], shown[1]]
    page.press("/")
    assert page.evaluate("document.activeElement.name") == "text"
    page.press("j")
    assert page.evaluate("document.activeElement.value") == "j"
    page.evaluate("document.querySelector('#filters [type=reset]').click()")
    page.evaluate("new Promise((done) => setTimeout(done))")
    assert page.evaluate("location.hash") == "#rollouts"


def test_curves_tell_their_values_and_can_be_hidden(page: Page) -> None:
    first = "document.querySelector('#policy .chart')"
    assert page.evaluate(f"{first}.querySelectorAll('.curve').length") == 3
    x, y = page.evaluate(
        f"(() => {{ {first}.scrollIntoView(); const box = {first}.querySelector('.plot').getBoundingClientRect();"
        " return [box.left + 50, box.top + 80]; })()"
    )
    page.point(x, y)
    assert page.evaluate(f"{first}.querySelector('.moment').textContent") == "at policy step 0"
    assert page.evaluate(f"[...{first}.querySelectorAll('.value')].map((v) => v.textContent)") == [
        "0.6",
        "0.61",
        "0.62",
    ]
    page.point(1, 1)
    assert page.evaluate(f"{first}.querySelector('.value').textContent") == "0.72"
    page.evaluate(f"{first}.querySelector('.legend button').click()")
    assert page.evaluate(f"{first}.querySelectorAll('.curve').length") == 2
    page.evaluate("document.querySelector('#against [value=minutes]').click()")
    ticks = page.evaluate(f"[...{first}.querySelectorAll('.tick')].map((tick) => tick.textContent)")
    assert "minutes" in ticks
    assert "policy steps" not in ticks


def test_policy_steps_are_whole_numbers(page: Page) -> None:
    axis = "[...document.querySelectorAll('#policy .chart:first-child .tick[text-anchor=middle]')]"
    assert page.evaluate(f"{axis}.map((tick) => tick.textContent)") == ["0", "2", "4"]


def test_runs_are_compared(page: Page) -> None:
    rows = page.evaluate("[...document.querySelectorAll('#final tbody tr')].map((row) => row.cells[0].textContent)")
    assert rows == list(RUNS)
    settings = page.evaluate("document.querySelector('#differences').innerText")
    assert "selection.selector" in settings
    assert "learner.samples" not in settings
    bars = page.evaluate("[...document.querySelectorAll('#stages .stage strong')].map((stage) => stage.textContent)")
    assert bars == ["rollout", "score", "annotate", "other"] * 3


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_readable_on_wide_and_narrow_screens_by_day_and_by_night(page: Page, width: int, dark: bool) -> None:
    page.look(width, dark)
    shown_with(page, verdict="conflict")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(19, 23, 27)" if dark else "rgb(255, 255, 255)"
    )
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scrolled = "[...document.querySelectorAll('*')].filter((each) => each.scrollWidth > each.clientWidth + 1)"
    inside = (
        f"{scrolled}.filter((each) => getComputedStyle(each).overflowX !== 'visible').map((each) => each.className)"
    )
    assert page.evaluate(inside) == []


def test_everything_has_a_name(page: Page) -> None:
    unnamed = (
        "[...document.querySelectorAll('#filters input, #filters select')].filter((field) => !field.labels.length)"
    )
    assert page.evaluate(f"{unnamed}.length") == 0
    assert page.evaluate("[...document.images].every((image) => image.alt)")
    assert page.evaluate("[...document.querySelectorAll('.plot svg')].every((chart) => chart.ariaLabel.length > 20)")


def with_texts(folder: Path, **texts: Any) -> None:
    """Have every rollout of the first policy step say something else."""
    path = folder / "stream" / "step-000001.parquet"
    table = pq.read_table(path)
    for name, text in texts.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array([text] * len(table), pa.string()))
    pq.write_table(table, path)


def test_what_a_run_says_stays_text(browser: Page, tmp_path: Path) -> None:
    run = a_run(tmp_path / "<img src=x onerror=alert(1)>")
    with_texts(run, question=EVIL, answer=EVIL, text=f"Answer: 4\n{EVIL}", source=EVIL)
    page = tmp_path / "report.html"
    write_report([run], page, 1000)
    open_anew(browser, page.as_uri())
    assert browser.evaluate("document.title") == f"Sieve report: {run.name}"
    assert len(shown_with(browser, text="onerror")) == 16
    assert browser.evaluate("document.querySelector('.question').textContent") == EVIL
    assert browser.evaluate("document.querySelectorAll('main script, main [onerror]').length") == 0
    assert (browser.problems, browser.requests) == ([], [page.as_uri()])
    # Even if a script had come in, the page would not let it run, nor fetch anything.
    browser.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    browser.evaluate("new Promise((done) => Object.assign(new Image(), {onerror: done, src: 'https://example.com/a'}))")
    assert browser.evaluate("window.ran") is None
    assert len(browser.problems) == 2
    assert all("Content Security Policy" in problem for problem in browser.problems)


def test_a_run_that_was_not_recorded_says_how_to_record_it(browser: Page, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_report([a_run(tmp_path / "run", recorded=False)], page, 200)
    open_anew(browser, page.as_uri())
    assert "record=true" in browser.evaluate("document.querySelector('#rollouts').innerText")
    assert browser.evaluate("document.querySelector('#filters')") is None
    assert browser.evaluate("document.querySelectorAll('.chart').length") > 3
    assert browser.problems == []


@pytest.mark.slow
def test_a_sample_says_that_it_is_one(browser: Page, folders: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_report(folders[:2], page, 30)
    open_anew(browser, page.as_uri())
    about = browser.evaluate("document.querySelector('#sample').textContent")
    assert about.startswith(f"30 of {2 * 16 * STEPS} recorded rollouts")
    assert len(shown_with(browser)) == 30
