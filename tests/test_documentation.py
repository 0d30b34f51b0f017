"""The README is one page, the documentation says what is there, and its site holds all of it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config as load_site_config
from typer.main import get_command

from rl.cli import app
from rl.config import Config, load_config
from rl.monitoring.metric_table import METRICS
from tests.fixtures.chromium import Page, chromium_page
from tests.fixtures.documented_examples import DOCUMENTATION, PAGES, ROOT

README = PAGES[Path("README.md")]
KEYS = load_config(ROOT / "configs" / "quickstart.yaml").model_dump()
SECTIONS = {name for name, value in KEYS.items() if isinstance(value, dict)}
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")
REFERENCE = ("reference/keys.html", "reference/metrics.html", "reference/commands.html")
LOOKED_AT = ("index.html", "learner.html", *REFERENCE, "source/rl/loop.py.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a link that leads nowhere ends it."""
    folder = tmp_path_factory.mktemp("site")
    build(load_site_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium_page(tmp_path_factory.mktemp("chromium")) as page:
        yield page


def test_the_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 250


def test_every_make_target_it_names_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^ {4})make ([a-z]+)\b", DOCUMENTATION, re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere_in_the_repository(page: Path) -> None:
    for target, anchor in LINK.findall(PAGES[page]):
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, (target, anchor)


def test_the_tree_in_the_readme_is_the_tree() -> None:
    (block,) = re.findall(r"((?:^ {4}.*\n)+)", README.partition("## The loop")[2], re.MULTILINE)[:1]
    named, folder = set(), ""
    for name in re.findall(r"^ {4}( {2})?(\S+)", block, re.MULTILINE):
        path = name[1] if not name[0] else folder + name[1]
        folder = folder if name[0] else name[1]
        assert (ROOT / path).exists(), path
        named.add(path.rstrip("/"))
    for package in ("rl", "selection", "rewards"):
        folders = {path.parent for path in (ROOT / package).glob("*/__init__.py")}
        assert {str(path.relative_to(ROOT)) for path in folders} <= named
    files = {f"rl/{path.name}" for path in (ROOT / "rl").glob("*.py")} - {"rl/__init__.py"}
    assert files <= named


def test_every_key_named_is_a_key() -> None:
    tables = re.findall(r"^\| key \|.*\|\n((?:\|.*\n)+)", DOCUMENTATION, re.MULTILINE)
    first_cells = re.findall(r"^\| ([^|]*) \|", "".join(tables), re.MULTILINE)
    in_tables = set(re.findall(r"`([a-z_.]+)`", "".join(first_cells)))
    in_text = set(re.findall(rf"`((?:{'|'.join(SECTIONS)})\.[a-z_]+)(?=[`=:])", DOCUMENTATION))
    assert len(in_tables) > 50 and len(in_text) > 80
    for name in in_tables | in_text - {"judge.sqlite", "served.sqlite"}:
        value: Any = KEYS
        for part in name.split("."):
            assert part in value, name
            value = value[part]


def test_equal_numbers_are_promised_where_they_are_equal() -> None:
    """On a GPU batches change sums, and some kernels add in any order."""
    promises = re.findall(r"[^.|]*(?:the same numbers|to the last digit)[^.|]*", " ".join(DOCUMENTATION.split()))
    assert len(promises) >= 3 and all("on a CPU" in promise for promise in promises)


def test_the_readme_tells_twelve_keys() -> None:
    (table,) = re.findall(r"^\| key \| what it does \|\n\|---\|---\|\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert len(re.findall(r"^\| `[a-z_.]+` \|", table, re.MULTILINE)) == len(table.splitlines()) == 12


def test_every_metric_named_is_a_metric() -> None:
    groups = {name.split("/")[0] for name in METRICS}
    named = set(re.findall(rf"`((?:{'|'.join(groups)})/[a-z0-9_]+)`", DOCUMENTATION))
    assert len(named) > 5 and named <= set(METRICS)


def test_the_reference_holds_every_key_metric_command_and_option(site: Path) -> None:
    keys, metrics, commands = ((site / page).read_text(encoding="utf-8") for page in REFERENCE)
    told = dict(
        re.findall(
            r"<td><code>([\w.]+)</code></td>\n.*\n.*\n<td><code>(.*)</code></td>", keys.partition('id="a-study"')[0]
        )
    )
    defaults = Config().model_dump(mode="json")
    for name, value in defaults.items():
        for key, default in value.items() if name in SECTIONS else [("", value)]:
            assert json.loads(html.unescape(told.pop(f"{name}.{key}".strip(".")))) == default, (name, key)
    assert told == {}
    for name in METRICS:
        assert f"<code>{name}</code>" in metrics, name
    for words, command in _commands("sieve", get_command(app)):
        assert f">{words}<" in commands, words
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("-")):
            assert f"<code>{option}</code>" in commands, (words, option)


@pytest.mark.parametrize("page", LOOKED_AT)
def test_pages_fetch_nothing_and_fit_a_phone(site: Path, browser: Page, page: str) -> None:
    browser.requests.clear()
    browser.problems.clear()
    for width in (360, 1280):
        browser.look(width, dark=False)
        browser.open((site / page).as_uri())
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate("[...document.images].filter((image) => !image.naturalWidth).map((i) => i.src)") == []
    assert [address for address in browser.requests if not address.startswith("file:")] == []
    assert browser.problems == []


def test_the_site_is_searched_without_a_server(site: Path, browser: Page) -> None:
    browser.look(1280, dark=False)
    browser.open((site / "index.html").as_uri())
    found = browser.evaluate("""new Promise((done, fail) => {
        const field = document.querySelector("[data-md-component=search-query]")
        const look = () => {
            field.focus()
            field.value = "selection.half_life"
            field.dispatchEvent(new KeyboardEvent("keyup", {key: "e"}))
            const links = document.querySelectorAll(".md-search-result__link")
            links.length ? done([...links].map((link) => link.href)) : setTimeout(look, 200)
        }
        look()
    })""")
    assert any("reference/keys.html" in address for address in found)


def _anchor(heading: str) -> str:
    """As the repository's readers make it of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def _commands(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that is no group of others."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{words} {name}", inner)
    if not hasattr(command, "commands"):
        yield words, command
