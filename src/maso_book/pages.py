"""What the pages of the site get besides Jupyter Book's own; `setup` makes the module a Sphinx extension.

A chapter's page begins with its claim, its verdicts and its picture: the code of its opening stands in one fold below
that picture, and each figure's provenance line links code and notebook. Names of the package lead to the API, numbers
of claims to the claims, and each chapter ends with the sources that it cites.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.util.osutil import relative_uri

import maso_book.tree
from maso_book.claims import claims
from maso_book.site import anchor
from maso_book.style import MIME, NARROW, PROVENANCE

SOURCES = "## Sources\n\n```{bibliography}\n:filter: docname in docnames\n:list: bullet\n:style: plain\n```\n"
PHONE = "screen and (max-width: 40rem)"
"""Screens on which figures are shown in their narrow form."""
_PRE = re.compile(r"<pre>.*?</pre>", re.DOTALL)
_LINES = re.compile(r'<dl>\n(<dd><em class="sig-param">.*?)</dl>', re.DOTALL)
_DOTTED = re.compile(r'<span class="n">maso</span>(?:<span class="o">\.</span><span class="n">\w+</span>)+')


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx's entry point."""
    app.connect("autodoc-process-docstring", _plain_docstring, priority=100)  # before napoleon
    app.connect("source-read", _arrange_chapter)
    app.connect("doctree-resolved", _arrange_cells)
    app.connect("doctree-resolved", _let_choose)
    app.connect("doctree-resolved", _link_names)
    app.connect("doctree-resolved", _link_claims)
    app.connect("html-page-context", _finish_html)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# A chapter's notebook, before it is read


def _arrange_chapter(_app: Sphinx, page: str, source: list[str]) -> None:
    if page.startswith("chapters/"):
        notebook = json.loads(source[0])
        notebook["cells"] = _with_provenance(_picture_first(notebook["cells"]), Path(page).name)
        notebook["cells"] = _with_narrow(notebook["cells"])
        if any("{cite" in _text(cell) for cell in notebook["cells"]):
            notebook["cells"].append({"cell_type": "markdown", "id": "sources", "metadata": {}, "source": SOURCES})
        source[0] = json.dumps(notebook)


def _picture_first(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The code above the first section goes into one fold, that of the last of these cells; the others show outputs.

    So does what the others printed: it says what is left out, below the picture.
    """
    end = next((k for k, c in enumerate(cells) if c["cell_type"] == "markdown" and "## " in _source(c)), 0)
    opening = [cell for cell in cells[:end] if cell["cell_type"] == "code"]
    if not opening:
        return cells
    *before, last = opening
    last["source"] = "\n\n".join(_source(cell) for cell in opening)
    last["metadata"]["tags"] = sorted({*last["metadata"].get("tags", []), "hide-input"})
    for cell in before:
        last["outputs"] += [output for output in cell["outputs"] if output["output_type"] == "stream"]
        cell["outputs"] = [output for output in cell["outputs"] if output["output_type"] != "stream"]
        cell["metadata"]["tags"] = ["remove-input"]
    return [cell for cell in cells if cell["cell_type"] != "code" or cell["outputs"] or cell not in before]


def _with_provenance(cells: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Moves each provenance line out of its figure's outputs (they would be captioned too) to below it."""
    found = []
    for number, cell in enumerate(cells):
        found.append(cell)
        for output in [o for o in cell.get("outputs", []) if PROVENANCE in _html(o)]:
            cell["outputs"].remove(output)
            place = cell["metadata"]["maso_anchor"] = (
                f"code-{name[:2]}-{number}"  # one name in the whole book, for print
            )
            links = f'<a href="#{place}">code</a> · <a href="../notebooks/{name}.ipynb" download>notebook</a>'
            line = f"{_html(output).strip().removesuffix('</div>')} · {links}</div>"
            found.append({"cell_type": "markdown", "id": place, "metadata": {}, "source": line})
    return found


def _with_narrow(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Moves the narrow form of each figure to a cell of its own behind it, which `_let_choose` takes apart."""
    found = []
    for cell in cells:
        found.append(cell)
        figures = [output["data"] for output in cell.get("outputs", []) if {*MIME.values()} & {*output.get("data", {})}]
        for number, data in enumerate(figures):
            if form := data.pop(NARROW, None):
                shown = {"output_type": "display_data", "metadata": {}, "data": {MIME[form["kind"]]: form["image"]}}
                about = {"maso_narrow": [number, form["panels"]], "tags": ["remove-input"]}
                extra = {"cell_type": "code", "execution_count": None, "outputs": [shown], "metadata": about}
                found.append(extra | {"id": f"{cell['id']}-narrow-{number}"[-64:], "source": "pass"})  # not left out
    return found


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def _html(output: dict[str, Any]) -> str:
    return "".join(output.get("data", {}).get("text/html", ""))


def _text(cell: dict[str, Any]) -> str:
    """A cell's source and what it shows as Markdown."""
    shown = [text for o in cell.get("outputs", []) for text in o.get("data", {}).get("text/markdown", [])]
    return _source(cell) + "".join(shown)


# A page's document, before it is written


def _arrange_cells(_app: Sphinx, document: nodes.document, _page: str) -> None:
    """Gives the code of each figure the anchor that its provenance line links; folded code stands below its figure."""
    for cell in document.findall(nodes.container):
        place = cell.get("cell_metadata", {}).get("maso_anchor")
        if place:
            for code in cell.findall(nodes.container):
                if code.get("nb_element") == "cell_code_source":
                    code["ids"].append(place)
            if cell.get("hide_mode") == "input" and len(cell) == 2:
                cell.children.reverse()


def _let_choose(app: Sphinx, document: nodes.document, page: str) -> None:
    """On a narrow screen a browser takes the narrow form of a figure."""
    builder: Any = app.builder
    images: list[nodes.image] = []
    for cell in list(document.findall(nodes.container)):
        if "cell_metadata" not in cell:
            continue
        if "maso_narrow" not in cell["cell_metadata"]:
            images = list(cell.findall(nodes.image))
            continue
        (number, panels), narrow = cell["cell_metadata"]["maso_narrow"], next(cell.findall(nodes.image))["uri"]
        cell.parent.remove(cell)
        if builder.format == "html":
            file = builder.images[narrow] = app.env.images[narrow][1]  # Sphinx copies what is in this table
            path = f"{relative_uri(builder.get_target_uri(page), builder.imagedir)}/{file}"
            kind = "maso-stacked" if panels > 1 else "maso-narrowed"
            before = f'<picture class="{kind}"><source media="{PHONE}" srcset="{path}">'
            both = [nodes.raw("", before, format="html"), images[number], nodes.raw("", "</picture>", format="html")]
            images[number].parent.replace(images[number], both)


def _link_names(app: Sphinx, document: nodes.document, page: str) -> None:
    """`maso.affine_map`, and `affine_map` where the name can be nothing else, lead to where the API describes them."""
    for literal in list(document.findall(nodes.literal)):
        name = literal.astext().removesuffix("()")
        plain = not name.startswith("maso.") and not re.fullmatch(r"[A-Z]\w+|\w+_\w+", name)
        target = None if plain or _inside(literal, nodes.reference, nodes.title) else _described(app, page, name)
        if target:
            link = nodes.reference("", "", internal=True, refuri=target)
            literal.replace_self(link)
            link.append(literal)


def _link_claims(app: Sphinx, document: nodes.document, page: str) -> None:
    """Numbers of claims lead to the page of claims."""
    if page == "claims":
        return
    known = _claim_ids(maso_book.tree.root())
    kept = (nodes.reference, nodes.title, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.raw)
    for text in list(document.findall(nodes.Text)):
        parts = re.split(r"(?<![\w.])(0\d\.\d+)(?!\.?\w)", text)
        if not known & set(parts[1::2]) or _inside(text, *kept):
            continue
        badge = _badge_after(text)
        linked: list[nodes.Node] = [nodes.Text(part) for part in parts]
        for number, part in [(k, part) for k, part in enumerate(parts) if part in known]:
            target = _uri(app, page, "claims", anchor(part))
            linked[number] = nodes.reference("", part, internal=True, refuri=target, classes=["maso-claim-link"])
        parent = text.parent
        if badge and parts[-2] in known:
            for node in badge:
                parent.remove(node)
            linked[-2:] = [linked[-2]]
            linked[-1] += [nodes.Text(parts[-1]), *badge]
        parent.replace(text, linked)


@cache
def _claim_ids(root: Path) -> frozenset[str]:
    """The claims' numbers: read once, not for every page."""
    return frozenset(claim.id for claim in claims(root))


def _badge_after(text: nodes.Text) -> list[nodes.Node]:
    """The badge that follows a number of a claim and a space: a tag, its words, the closing tag."""
    after = text.parent.children[text.parent.index(text) + 1 :][:3]
    is_badge = len(after) == 3 and re.search(r"\d\s+$", text) and 'class="maso-badge' in after[0].astext()
    return after if is_badge else []


def _inside(node: nodes.Node, *kinds: type[nodes.Node]) -> bool:
    while node is not None and not isinstance(node, kinds):
        node = node.parent
    return node is not None


def _described(app: Sphinx, page: str, name: str) -> str | None:
    """The link from `page` to the description of a name of the package, `maso.affine_map` or `affine_map`, if any."""
    domain = app.env.get_domain("py")
    assert isinstance(domain, PythonDomain)
    for candidate in (name, f"maso.{name}", f"maso.{name.rpartition('.')[2]}"):
        if candidate.startswith("maso.") and candidate in domain.objects:
            found = domain.objects[candidate]
            return _uri(app, page, found.docname, found.node_id)
    return None


def _uri(app: Sphinx, page: str, other: str, place: str) -> str:
    whole = app.builder.name == "singlehtml"  # one page: what is printed
    return f"#{place}" if whole else f"{app.builder.get_relative_uri(page, other)}#{place}"


# A page's HTML


def _finish_html(app: Sphinx, page: str, _template: str, context: dict[str, Any], _document: object) -> None:
    if body := context.get("body"):
        context["body"] = _proper_roles(_link_code(body, lambda name: _described(app, page, name)))


def _link_code(body: str, described: Callable[[str], str | None]) -> str:
    """In code, names of the package lead to the API: `maso.name`, and what a block of the page imports from it."""
    imported = {}
    for code in _PRE.findall(body):
        for module, names in re.findall(r"^from (maso[\w.]*) import (.+)$", _plain(code), re.MULTILINE):
            for name in re.findall(r"\w+", names):
                imported[name] = described(f"{module}.{name}") if module.partition(".")[0] == "maso" else None

    def link(target: str | None, code: str) -> str:
        return f'<a class="maso-api" href="{target}">{code}</a>' if target else code

    def block(match: re.Match[str]) -> str:
        code = _DOTTED.sub(lambda m: link(described(_plain(m[0])), m[0]), match[0])
        return _names(imported).sub(lambda m: link(imported[m[1]], m[0]), code)

    return _PRE.sub(block, body)


def _names(names: Collection[str]) -> re.Pattern[str]:
    """Matches one of these names in highlighted code, unless it is an attribute or a keyword of a call."""
    some = "|".join(sorted(names)) or "(?!)"
    return re.compile(rf'(?<!<span class="o">\.</span>)<span class="n">({some})</span>(?!<span class="o">=</span>)')


def _plain(code: str) -> str:
    return unescape(re.sub("<[^>]+>", "", code))


def _proper_roles(body: str) -> str:
    """What a screen reader can read where Sphinx writes otherwise: entries of a list, lines of a long signature."""

    def lines(found: re.Match[str]) -> str:
        return f'<div class="maso-lines">{found[1].replace("dd>", "div>")}</div>'

    return _LINES.sub(lines, body.replace('role="doc-biblioentry"', 'role="listitem"'))


# The API's docstrings


def _plain_docstring(_app: Sphinx, _kind: str, _name: str, _thing: object, _options: object, lines: list[str]) -> None:
    """The docstrings are plain text with `code` in backticks; examples apart, makes that reStructuredText."""
    example = False
    for number, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and line.strip() != "")
        if not example:
            parts = re.split(r"(`+[^`]+`+)", line)
            parts[::2] = [part.replace("*", r"\*") for part in parts[::2]]
            parts[1::2] = [f"``{part.strip('`')}``" for part in parts[1::2]]
            parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]  # a literal's end needs a boundary
            lines[number] = "".join(parts)
