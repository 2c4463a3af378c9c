"""Build the documentation into site/ as plain HTML and check every link in it.

Each Markdown file becomes one page beside its neighbours; headings get anchors; links to .md files are turned into
links to their pages. A link to a missing file or heading fails the build. Hosts outside are not visited.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "docs/**/*.md")
FILES = ("LICENSE",)
OUTSIDE = re.compile(r"^[a-z]+:")
STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1b2733, #dfe7ee); --soft: light-dark(#5a6b7b, #93a4b3);
  --paper: light-dark(#fbfcfd, #10161c); --line: light-dark(#dbe3ea, #26323d); --link: light-dark(#0b6170, #6cc5d3); }
body { font: 1rem/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 52rem; padding: 1.5rem; overflow-wrap: break-word; }
nav { border-bottom: 1px solid var(--line); padding-bottom: .75rem;
  display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
a { color: var(--link); }
h1, h2, h3 { line-height: 1.25; margin-top: 2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
code { font: .9em ui-monospace, monospace; }
pre { border: 1px solid var(--line); border-radius: .5rem; padding: .9rem 1rem; overflow-x: auto; line-height: 1.45; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One Markdown file, read and rendered."""

    path: str  # of the Markdown file, from the root of the project
    title: str  # text of the first heading
    body: str  # HTML of the content
    anchors: frozenset[str]  # ids of the headings
    links: tuple[str, ...]  # targets as written


def slug(text: str) -> str:
    """Return the anchor of a heading.

    >>> slug("`tidewheel loop status`")
    'tidewheel-loop-status'
    """
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-")


def read_page(path: str, text: str) -> Page:
    """Render one Markdown file."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    headings = [(token, following) for token, following in pairwise(tokens) if _is_heading(token)]
    for token, following in headings:
        token.attrSet("id", slug(following.content))
    links = [child for token in tokens for child in token.children or [] if child.type == "link_open"]
    targets = tuple(str(link.attrGet("href")) for link in links)
    for link in links:
        link.attrSet("href", _as_page(str(link.attrGet("href"))))
    return Page(
        path=path,
        title=headings[0][1].content.strip("`") if headings else path,
        body=parser.renderer.render(tokens, parser.options, {}),
        anchors=frozenset(slug(following.content) for _, following in headings),
        links=targets,
    )


def _is_heading(token: Token) -> bool:
    return token.type == "heading_open"


def _as_page(target: str) -> str:
    """Return the address on the site of a link to a Markdown file."""
    if OUTSIDE.match(target):
        return target
    file, mark, anchor = target.partition("#")
    return (file[:-3] + ".html" if file.endswith(".md") else file) + mark + anchor


def broken_links(pages: dict[str, Page], root: Path) -> list[str]:
    """Return one line for each link whose file or heading does not exist."""
    broken = []
    for page in pages.values():
        for target in page.links:
            if OUTSIDE.match(target):
                continue
            file, _, anchor = target.partition("#")
            path = _resolve(page.path, file) if file else page.path
            known = path in pages or (root / path).is_file()
            if not known or (anchor and path in pages and anchor not in pages[path].anchors):
                broken.append(f"{page.path}: broken link: {target}")
    return broken


def _resolve(page: str, file: str) -> str:
    parts: list[str] = []
    for part in (*PurePosixPath(page).parent.parts, *PurePosixPath(file).parts):
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def as_html(page: Page, pages: dict[str, Page]) -> str:
    """Return the whole HTML document of a page."""
    depth = page.path.count("/")
    first = (
        "docs/index.md",
        "docs/how_it_works.md",
        "docs/glossary.md",
        "docs/reference.md",
        "docs/decisions/index.md",
    )
    entries = "\n".join(
        f'<a href="{"../" * depth}{_as_page(path)}">{html.escape(pages[path].title)}</a>'
        for path in first
        if path in pages
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(page.title)}</title>\n<style>{STYLE}</style>\n"
        f'<nav aria-label="Pages">\n{entries}\n</nav>\n<main>\n{page.body}</main>\n</html>\n'
    )


def build(root: Path, site: Path) -> list[str]:
    """Build every page of a project into a folder; return the broken links."""
    paths = sorted({path for pattern in PAGES for path in root.glob(pattern)})
    read = (read_page(path.relative_to(root).as_posix(), path.read_text("utf-8")) for path in paths)
    pages = {page.path: page for page in read}
    shutil.rmtree(site, ignore_errors=True)
    for page in pages.values():
        target = site / _as_page(page.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(as_html(page, pages), encoding="utf-8")
    for name in FILES:
        if (root / name).is_file():
            shutil.copy(root / name, site / name)
    (site / "index.html").write_text('<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">\n')
    return broken_links(pages, root)


def main() -> int:
    """Build the site of this project and print what is broken."""
    broken = build(ROOT, ROOT / "site")
    for line in broken:
        print(line)
    print(f"docs: built site/index.html, {len(broken)} broken links")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
