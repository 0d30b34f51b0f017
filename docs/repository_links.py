"""MkDocs hook: links that are right in the repository lead somewhere on the site, too.

Pages link as one who reads them in the repository needs it, ``../rl/loop.py`` for example. On the site the README is
the front page, and every file or folder of the repository that a page links to has a page of its own under
``source/``, which shows it; the declarations that the reference is made from lead to the reference. A link to what is
not there stays as it is, and MkDocs warns.
"""

from __future__ import annotations

import ast
import itertools
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\[[^\]\n]*(?:\n[^\]\n]+)?\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
REFERENCES = {
    "rl/cli.py": "reference/commands.md",
    "rl/config/sections.py": "reference/keys.md",
    "rl/monitoring/metric_table.py": "reference/metrics.md",
}
HIDDEN_FROM_SEARCH = "---\nsearch:\n  exclude: true\n---\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the README the front page, and add a page for every file and folder that a page links to."""
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=front))
    linked = set()
    for file in files.documentation_pages():
        for _, target, _ in LINK.findall(file.content_string):
            path = _in_repository(file.src_uri, target)
            if _on_site(path) == f"source/{path}.md":
                linked |= {path, *_files(path)}
    for path in sorted(linked):
        page = HIDDEN_FROM_SEARCH + _shown(path)
        files.append(File.generated(config, f"source/{path}.md", content=page, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn every link within the repository into the one within the site."""
    address = page.file.src_uri
    if address.startswith("source/"):
        return markdown

    def on_site(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        path = _on_site(_in_repository(address, target))
        return f"{before}{posixpath.relpath(path, posixpath.dirname(address)) if path else target}{after}"

    return LINK.sub(on_site, markdown)


def _in_repository(address: str, target: str) -> str:
    """What a page links to, from the repository's root; pages that are made link from there."""
    is_made = address == "index.md" or address.startswith("reference/")
    return posixpath.normpath(posixpath.join("" if is_made else "docs", target))


def _on_site(path: str) -> str | None:
    """Where the site has a file or folder of the repository; nothing if there is none."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return REFERENCES.get(path, f"source/{path}.md") if (ROOT / path).exists() else None


def _files(path: str) -> list[str]:
    """What a folder holds, but for other folders; of a file nothing."""
    found = sorted((ROOT / path).glob("*.*"))
    return [f"{path}/{file.name}" for file in found if file.is_file() and file.name != "__init__.py"]


def _shown(path: str) -> str:
    """A file as it is; of a folder, what each of its files is, in a line."""
    place = ROOT / path
    if place.is_dir():
        links = [(posixpath.basename(file), posixpath.relpath(file, posixpath.dirname(path))) for file in _files(path)]
        rows = [f"| [`{name}`]({link}.md) | {_first_sentence(place / name)} |" for name, link in links]
        return "\n".join([f"# {path}", "", "| file | what it is |", "|---|---|", *rows])
    language = {".py": "python", ".yaml": "yaml"}.get(place.suffix, "text")
    return f"# {path}\n\n~~~~~~{language}\n{place.read_text(encoding='utf-8')}\n~~~~~~\n"


def _first_sentence(file: Path) -> str:
    """Of a module's docstring, or of the comment that a configuration begins with."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        said = ast.get_docstring(ast.parse(text)) or ""
    else:
        comment = itertools.takewhile(lambda line: line.startswith("# "), text.splitlines())
        said = " ".join(line.removeprefix("# ") for line in comment)
    return re.split(r"(?<=\.)\s", " ".join(said.split()))[0]
