"""The generated parts of the book: claims with their verdicts, and the chapter table of README.md.

A claim is data (``book/claims.yml``), a verdict is a pure function of records (``maso_book.experiment.chNN.verdicts``).
This module joins the two, so that the front page, the claims page, README.md and the chapters say the same words.
`write_generated` writes what the pages of ``book/`` include.
"""

from __future__ import annotations

import html
import inspect
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import maso
from maso.errors import MasoError
from maso_book import records, registry, results
from maso_book.chapters import Chapter, listed
from maso_book.claims import Claim, claims
from maso_book.front import figure as front
from maso_book.records import Record
from maso_book.style import OUTCOMES, in_table, provenance_line, render, write
from maso_book.talk import Question, Slide, talk
from maso_book.verdict import Verdict

TABLE_BEGIN = "<!-- chapters: begin (written by maso_book.site.update_readme) -->"
TABLE_END = "<!-- chapters: end -->"
KINDS = {"theorem": "(theorem)", "observation": "(observation)"}


def verdicts(root: Path, failed: dict[str, str] | None = None) -> dict[str, Verdict]:
    """The verdict on every claim: by the chapter's own rule where it has records, else "not tested".

    Args:
        root: the working tree.
        failed: takes the chapters that cannot be judged, and why; without it, such a chapter is an error.

    Returns:
        claim id -> verdict, in the claims' order.

    Raises:
        MasoError: a chapter judges a claim that is not in ``book/claims.yml``, or with an unknown outcome, or a claim
            is of no chapter.
    """
    found = {claim.id: Verdict(claim.id, "not tested", "") for claim in claims(root)}
    chapters = listed(root)
    for claim in claims(root):
        if claim.chapter not in [chapter.number for chapter in chapters]:
            raise MasoError(f"claim {claim.id} in book/claims.yml: there is no chapter {claim.chapter!r}.")
    for chapter in chapters:
        try:
            judged = chapter_verdicts(chapter.number, root)
        except Exception as error:  # a broken chapter costs that chapter alone
            why = f"The chapter cannot be judged: {error if isinstance(error, MasoError) else repr(error)}"
            if failed is None:
                raise MasoError(f"Chapter {chapter.number}: {why}") from error
            failed[chapter.number] = why
            found |= {c.id: Verdict(c.id, "not tested", why) for c in claims(root) if c.chapter == chapter.number}
            continue
        for verdict in judged:
            if verdict.claim not in found:
                raise MasoError(f"chapter {chapter.number} judges {verdict.claim!r}, which is not in book/claims.yml")
            if verdict.outcome not in OUTCOMES:
                raise MasoError(f"claim {verdict.claim}: outcome {verdict.outcome!r} is not one of {list(OUTCOMES)}")
            found[verdict.claim] = verdict
    return found


def chapter_verdicts(chapter: str, root: Path) -> list[Verdict]:
    """The verdicts of one chapter from the records that its notebook reads (profile "paper").

    Empty while the chapter has no folder.

    Raises:
        MasoError: the chapter's folder has no ``verdicts.py``.
    """
    judge = registry.module_of(chapter, "verdicts")
    if judge is None:
        return []
    found: dict[str, list[Record]] = {}
    for experiment in registry.of_chapter(chapter):
        folder = root / "results"
        paths = [results.path_of(experiment, c, folder) for c in results.recorded(experiment, root=folder)]
        found[experiment.name] = [records.load(path) for path in paths]
    return judge.verdicts(found)


# The words of claims and verdicts


def badge(outcome: str) -> str:
    """The outcome as a coloured sign with its words (HTML; the sign says it without colour)."""
    return f'<span class="maso-badge {_css(outcome)}">{OUTCOMES[outcome][0]} {outcome}</span>'


def chip(verdict: Verdict) -> str:
    """The outcome's badge, then which part holds, the effect and the scale of the run (HTML)."""
    about = muted(verdict.part, verdict.effect, verdict.scale)
    return badge(verdict.outcome) + (about and f" {about}")


def muted(*said: str) -> str:
    """What is said besides, in small letters (HTML); nothing where all of it is empty."""
    about = " · ".join(html.escape(text) for text in said if text)
    return about and f'<span class="maso-scale">{about}</span>'


def _css(outcome: str) -> str:
    return "maso-" + outcome.replace(" ", "-")


def words(text: str) -> str:
    """Markdown without HTML: outside mathematics and code, `<` and `&` stand for themselves."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    parts[::2] = [html.escape(part, quote=False) for part in parts[::2]]
    return "".join(parts)


def cite(source: Iterable[str]) -> str:
    keys = ",".join(source)
    return f"{{cite:p}}`{keys}`" if keys else "(this book)"


# What the pages of book/ include


def write_generated(root: Path) -> dict[str, str]:
    """Writes ``book/generated``: what the pages of ``book/`` include, and the files the site links to.

    Source notebooks and records are copied to ``book/generated/site``, which the site takes over as it is: links from
    a figure to its notebook and record work from disk.

    Returns:
        The chapters that could not be judged, and why.
    """
    whole = root / "book" / "generated"
    folder = whole.with_name("generated.tmp")  # what is there stays until all of the new is
    shutil.rmtree(folder, ignore_errors=True)
    site = folder / "site"
    site.mkdir(parents=True)
    for name, patterns in {"notebooks": ["*.ipynb"], "results": ["*/*.json", "*/*.npz"]}.items():
        for path in sorted(path for pattern in patterns for path in (root / name).glob(pattern)):
            target = site / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    failed: dict[str, str] = {}
    found, whole_claims = verdicts(root, failed), claims(root)
    (slides, questions), drawn = talk(root), _drawn(root)
    for name, text in {
        "claims.md": _claims_page(root, found),
        "found.md": _findings(root, found),
        "corrected.md": _told(root, found, [claim for claim in whole_claims if claim.corrects]),
        "new.md": _told(root, found, [claim for claim in whole_claims if not claim.source]),
        "slides.md": "\n".join(_slide(slide, drawn, found) for slide in slides),
        "questions.md": "\n".join(_question(question, drawn, found) for question in questions),
        "front.md": _front_list(root, found),
        "picture.md": _front_picture(folder),
        "records.md": _records_table(root),
        "api.md": _api(),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    shutil.rmtree(whole, ignore_errors=True)
    folder.rename(whole)
    return failed


def _page_of(chapter: Chapter, root: Path) -> str | None:
    """The chapter's page below ``book/``, if it has been made."""
    return f"chapters/{chapter.name}" if chapter.name and chapter.output({}).is_file() else None


def _title(chapter: Chapter, root: Path) -> str:
    page = _page_of(chapter, root)
    title = f"{chapter.number} {chapter.title}"
    return f"[{title}](/{page}.ipynb)" if page else title


def _claims_page(root: Path, found: dict[str, Verdict]) -> str:
    parts, whole = [], claims(root)
    for chapter in listed(root):
        parts.append(f"## {words(_title(chapter, root))}\n\n*{words(chapter.question)}*\n")
        for claim in whole:
            if claim.chapter != chapter.number:
                continue
            verdict = found[claim.id]
            text = (
                f"**{claim.id}** {words(claim.statement)} {cite(claim.source)} {KINDS[claim.kind]}\n\n"
                f"*Criterion.* {words(claim.criterion)}\n\n"
                + "".join(f"*{name}* {words(text)}\n\n" for name, text in _more(claim).items())
                + (f"*Evidence.* {words(verdict.evidence)}\n" if verdict.evidence else "")
            )
            parts.append(f"({anchor(claim.id)})=\n{_box(verdict, text)}")
    return "\n".join(parts)


def _box(verdict: Verdict, text: str) -> str:
    """A claim in a frame of its verdict's colour, the verdict above what is said of it."""
    return f"::::{{container}} maso-claim {_css(verdict.outcome)}\n{chip(verdict)}\n\n{text}::::\n"


def _more(claim: Claim) -> dict[str, str]:
    """What a claim has besides statement and criterion, by its heading."""
    also = {"Smallest effect of interest.": claim.least, "The source says.": claim.corrects}
    earlier = {
        f"Until {each.date}.": f"{each.criterion} Verdict then: {each.outcome}. {each.reason}" for each in claim.history
    }
    return {name: text for name, text in (also | earlier).items() if text}


def anchor(claim_id: str) -> str:
    """The name of the place on the page of claims where this one stands."""
    return "claim-" + claim_id.replace(".", "-")


def _findings(root: Path, found: dict[str, Verdict]) -> str:
    """What was found, a sentence a claim, in the order of the claims, with a link to the chapter."""
    pages = {chapter.number: (_page_of(chapter, root), chapter.title) for chapter in listed(root)}
    items = []
    for claim in claims(root):
        verdict, (page, title) = found[claim.id], pages[claim.chapter]
        if verdict.finding and verdict.outcome != "not tested":
            link = f' <a href="{page}.html">{html.escape(title)}</a>' if page else ""
            items.append(f"<li>{_chip_link(verdict)} {html.escape(verdict.finding)}{link}</li>")
    return '<ul class="maso-findings">\n' + "\n".join(items) + "\n</ul>\n" if items else "Nothing is recorded yet.\n"


def _told(root: Path, found: dict[str, Verdict], told: list[Claim]) -> str:
    """Claims with their verdicts, what their source says where they correct it, and the chapter they are of."""
    titles = {chapter.number: _title(chapter, root) for chapter in listed(root)}
    parts = []
    for claim in told:
        said = f"*The source says.* {words(claim.corrects)}\n\n" if claim.corrects else ""
        text = (
            f"**[{claim.id}](#{anchor(claim.id)})** {words(claim.statement)} {KINDS[claim.kind]}\n\n"
            f"{said}{words(titles[claim.chapter])}\n"
        )
        parts.append(_box(found[claim.id], text))
    return "\n".join(parts) or "Nothing yet.\n"


def _slide(slide: Slide, drawn: dict[str, str], found: dict[str, Verdict]) -> str:
    """A slide in a frame: what it says, what became of it, the figures and claims."""
    number = f"{'Slides' if ' to ' in slide.slide else 'Slide'} {slide.slide}. " if slide.slide else ""
    text = (
        f"**{number}{words(slide.title)}: *{slide.word}***\n\n*The talk.* {words(slide.says)}\n\n"
        f"*Here.* {words(slide.here)} {_seen(slide, drawn, found)}"
    )
    return f"::::{{container}} maso-claim maso-slide\n{text}::::\n"


def _question(question: Question, drawn: dict[str, str], found: dict[str, Verdict]) -> str:
    """A question with its answer, the figures and claims."""
    return f"**{words(question.asked)}** {words(question.answer)} {_seen(question, drawn, found)}"


def _seen(entry: Slide | Question, drawn: dict[str, str], found: dict[str, Verdict]) -> str:
    """The figures that have been drawn, each with its chapter, then each claim with its verdict's sign."""
    by_chapter: dict[str, list[str]] = {}
    for name in filter(drawn.__contains__, entry.figures):
        by_chapter.setdefault(words(drawn[name]), []).append(f"{{numref}}`{name}`")
    shown = "; ".join(f"{', '.join(figures)} in {title}" for title, figures in by_chapter.items())
    signs = "".join(f"- [{claim}](#{anchor(claim)}) {chip(found[claim])}\n" for claim in entry.claims)
    return (f"({shown})" if shown else "") + f"\n\n{signs}\n"


def _drawn(root: Path) -> dict[str, str]:
    """Name of each figure on the chapters' pages → the chapter; those whose records are missing are not there."""
    figures: dict[str, str] = {}
    for chapter in listed(root):
        page = chapter.output({})
        cells = json.loads(page.read_text(encoding="utf-8"))["cells"] if chapter.name and page.is_file() else []
        for cell in cells:
            if "mystnb" in cell["metadata"] and any("image/" in str(o.get("data", "")) for o in cell["outputs"]):
                figures[cell["metadata"]["mystnb"]["figure"]["name"]] = _title(chapter, root)
    return figures


def _chip_link(verdict: Verdict, *, hint: str = "", label: str = "") -> str:
    """A sign that leads to the claim; it says the claim's number where no label is given."""
    return (
        f'<a class="maso-chip {_css(verdict.outcome)}" href="claims.html#{anchor(verdict.claim)}" '
        f'title="{hint or _hint(verdict)}">{OUTCOMES[verdict.outcome][0]} {label or verdict.claim}</a>'
    )


def _front_list(root: Path, found: dict[str, Verdict]) -> str:
    count = {outcome: sum(v.outcome == outcome for v in found.values()) for outcome in OUTCOMES}
    legend = " ".join(f'{badge(outcome)} <span class="maso-count">{n}</span>' for outcome, n in count.items() if n)
    rows, whole = [], claims(root)
    for chapter in listed(root):
        page = _page_of(chapter, root)
        title = f"{chapter.number} {html.escape(chapter.title)}"
        name = f'<a href="{page}.html">{title}</a>' if page else title
        own = [found[claim.id] for claim in whole if claim.chapter == chapter.number]
        signs = [_chip_link(verdict) for verdict in own if verdict.outcome != "not tested"]
        if waiting := [verdict for verdict in own if verdict.outcome == "not tested"]:
            hint = ", ".join(verdict.claim for verdict in waiting)
            signs.append(_chip_link(waiting[0], hint=hint, label=f"{len(waiting)} not tested"))
        chips = " ".join(signs)
        rows.append(
            f'<li><div><span class="maso-chapter">{name}</span> '
            f'<span class="maso-question">{html.escape(chapter.question)}</span></div><div>{chips}</div></li>'
        )
    return f'<p class="maso-legend">{legend}</p>\n<ul class="maso-chapters">\n' + "\n".join(rows) + "\n</ul>\n"


def _hint(verdict: Verdict) -> str:
    """What a chip of the front page says when it is pointed at."""
    said = (verdict.outcome, verdict.part, verdict.effect, verdict.scale)
    return html.escape(" · ".join(filter(None, said)))


def _front_picture(folder: Path) -> str:
    (record,) = results.results("00-front")
    figure, count = front.stained_glass(record)
    write(figure, folder / "front.svg")
    source = folder / "site" / "code" / Path(front.__file__).name
    source.parent.mkdir()
    shutil.copyfile(front.__file__, source)
    line = provenance_line(record).replace("../results", "results").removesuffix("</div>")
    return (
        "```{figure} generated/front.svg\n:name: fig-front\n:width: 100%\n"
        ":alt: A rectangle cut by straight and bent lines into panes of blue, orange, green and yellow glass.\n\n"
        "The plane as a small trained network sees it. On each pane the network is one affine map; colour is the class "
        "it answers, the thick lead is its decision boundary. "
        f"All {count} panes are there: they are computed, not drawn from a grid of points.\n```\n\n"
        f"```{{raw}} html\n{front.touchable(record)}```\n\n"
        f'{line} · <a href="code/{source.name}">code</a></div>\n'
    )


def _records_table(root: Path) -> str:
    rows = []
    for folder in sorted(path for path in (root / "results").glob("*") if path.is_dir()):
        found = records.find(folder.name, root=root / "results")
        if not found:
            continue
        made = [record.provenance for record in found]
        devices = in_table(", ".join(sorted({f"{p['device_name']} ({p['device']})" for p in made})))
        days = sorted({p["start"][:10] for p in made})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        minutes = sum(p["seconds"] for p in made) / 60
        rows.append(f"| {folder.name} | {len(found)} | {devices} | {when} | {minutes:.1f} |")
    if not rows:
        return "No experiment has been recorded yet.\n"
    head = "| Experiment | Records | Device | Run on | Minutes in all |\n|---|---:|---|---|---:|\n"
    return head + "\n".join(rows) + "\n"


def _api() -> str:
    """The public names of the package, ``maso.__all__``, by the room they live in, as autodoc directives."""
    rooms: dict[str, list[str]] = {}
    for name in maso.__all__:
        thing = getattr(maso, name)
        if inspect.ismodule(thing):
            rooms[thing.__name__] = [f".. automodule:: {thing.__name__}\n   :members:\n"]
        else:
            module = ".".join(thing.__module__.split(".")[:2])
            room = rooms.setdefault(module, [f".. automodule:: {module}\n   :no-index:\n"])
            kind = "autoclass" if inspect.isclass(thing) else "autofunction"
            room.append(f".. {kind}:: maso.{name}\n" + "   :members:\n" * inspect.isclass(thing))
    return "\n".join(f"## `{room}`\n\n```{{eval-rst}}\n{chr(10).join(rooms[room])}```\n" for room in sorted(rooms))


# README.md


def chapter_table(root: Path) -> str:
    """The table of chapters with their verdicts as README.md shows it (Markdown)."""
    found = verdicts(root)
    lines = ["| Chapter | Question | Verdicts |", "|---|---|---|"]
    for chapter in listed(root):
        title = f"{chapter.number} {chapter.title}"
        if chapter.name:
            title = f"[{title}]({chapter.source.relative_to(root).as_posix()})"
        mine = [found[c.id] for c in claims(root) if c.chapter == chapter.number]
        if all(v.outcome == "not tested" for v in mine):
            said = "not tested yet"
        else:
            said = ", ".join(f"{v.claim} {OUTCOMES[v.outcome][0]} {v.outcome}" for v in mine)
        lines.append(f"| {title} | {chapter.question} | {said} |")
    return "\n".join(lines)


def update_readme(root: Path) -> None:
    """Puts `chapter_table` into README.md, between its two marks, and draws ``docs/front.svg`` where its record is new.

    A picture that is drawn again differs from one version of matplotlib to the next.
    """
    path = root / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    path.write_text(f"{before}{TABLE_BEGIN}\n{chapter_table(root)}\n{TABLE_END}{after}", encoding="utf-8")
    (record,) = results.results("00-front")
    picture, made_of = root / "docs" / "front.svg", f"<!-- {record.hash} of {record.provenance['start']} -->\n"
    if not (picture.is_file() and picture.read_text().endswith(made_of)):
        picture.write_bytes(render(front.stained_glass(record)[0], "svg") + made_of.encode())
