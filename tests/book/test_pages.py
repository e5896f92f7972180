"""Every page of the built site, opened from disk in headless Chromium: desktop and phone, light and dark.

The site is `_build/html` (`make book` builds it). Chromium is the one that the environment variable MASO_CHROMIUM
names, else one on the PATH, else playwright's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page

import maso_book.tree
from maso_book.narrow import SMALLEST

pytestmark = pytest.mark.browser

SITE = maso_book.tree.root() / "_build" / "html"
PAGES = sorted(page.relative_to(SITE).as_posix() for page in SITE.rglob("*.html") if "_static" not in page.parts)
SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}
THEME = "localStorage.setItem('mode', '{0}'); localStorage.setItem('theme', '{0}')"

# What is wrong with a page, seen from inside: a list of sentences.
INSPECT = r"""async () => {
  const wrong = [];
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => {});
    if (!image.complete || !image.naturalWidth) wrong.push(`missing image ${image.src}`);
    if (!image.alt && !image.closest("a.navbar-brand")) wrong.push(`image without alternative text ${image.src}`);
  }
  const mathematics = document.querySelectorAll(".math");
  if (mathematics.length && !window.MathJax) wrong.push("mathematics, but no MathJax");
  if (window.MathJax) await MathJax.startup.promise;
  for (const formula of mathematics)
    if (!formula.querySelector("mjx-container") && !formula.closest("mjx-container"))
      wrong.push(`mathematics not rendered: ${formula.textContent.slice(0, 80)}`);
  for (const error of document.querySelectorAll("mjx-merror")) wrong.push(`mathematics in error: ${error.textContent}`);
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const {parentElement: parent, data} = walker.currentNode;
    if (parent.closest("script, style, code, pre, mjx-container, noscript, textarea")) continue;
    if (/\$[^$]+\$|\\\(|\\\[|\\frac|\{[a-z:]+\}`/.test(data)) wrong.push(`raw markup: ${data.trim().slice(0, 80)}`);
  }
  const {scrollWidth, clientWidth} = document.documentElement;
  if (scrollWidth > clientWidth + 1) {
    const inBox = element =>
      element && (getComputedStyle(element).overflowX !== "visible" || inBox(element.parentElement));
    const wide = [...document.querySelectorAll("main *")].filter(
      element => element.getBoundingClientRect().right > clientWidth + 1 && !inBox(element.parentElement));
    const names = wide.slice(0, 3).map(element => `<${element.tagName.toLowerCase()} class="${element.className}">`);
    wrong.push(`${scrollWidth} pixels wide on a screen of ${clientWidth}: ${names.join(", ")}`);
  }
  return wrong;
}"""


# Of every line below a figure: the links to code and to a notebook, whether the first is seen, and, once it is clicked,
# the code it leads to.
OPEN = """() => {
  const seen = element =>
    element.checkVisibility({visibilityProperty: true}) && element.getBoundingClientRect().height > 0;
  return [...document.querySelectorAll("div.maso-provenance")].map(line => {
    const links = word => [...line.querySelectorAll("a")].filter(link => link.textContent.includes(word));
    const [code] = links("code"), found = [links("code").length, links("notebook").length, seen(code)];
    code.click();
    return [...found, seen(document.getElementById(decodeURIComponent(code.hash.slice(1))))];
  });
}"""


@pytest.fixture(scope="module", params=["light", "dark"])
def theme(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=list(SCREENS))
def context(browser: Browser, theme: str, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    width, height = SCREENS[request.param]
    opened = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    opened.add_init_script(THEME.format(theme))
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    opened = context.new_page()
    yield opened
    opened.close()


def test_the_site_is_built() -> None:
    missing = {"index.html", "claims.html", "rerun.html", "extend.html", "api.html", "bibliography.html"} - set(PAGES)
    assert not missing, f"{SITE} lacks {sorted(missing)}: build it first with `make book`"


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(page: Page, theme: str, name: str) -> None:
    wrong = watch(page)
    page.goto((SITE / name).as_uri(), wait_until="load")
    wrong += page.evaluate(INSPECT)
    if page.evaluate("document.documentElement.dataset.theme") != theme:
        wrong.append(f"the theme is not {theme}")
    assert not wrong, "\n".join(dict.fromkeys(wrong))


def watch(page: Page) -> list[str]:
    """A list that fills with what goes wrong while the page loads."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: wrong.append(f"failed request: {request.url}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else wrong.append(f"request to the network: {request.url}")
        ),
    )
    return wrong


class Anchors(HTMLParser):
    """The links of a page and the names in it that a link can lead to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.names |= {value for key in ("id", "name") if (value := values.get(key))}
        if tag in ("a", "link") and (link := values.get("href")):
            self.links.append(link)


@cache
def anchors(path: Path) -> Anchors:
    return Anchors(path)


@pytest.mark.parametrize("name", PAGES)
def test_links_inside_the_site_lead_somewhere(name: str) -> None:
    dead = []
    for link in anchors(SITE / name).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (SITE / name).parent / unquote(parts.path) if parts.path else SITE / name
        if (
            not target.is_file()
            or SITE not in target.resolve().parents
            or (
                parts.fragment
                and target.suffix == ".html"
                and unquote(parts.fragment) not in anchors(target.resolve()).names
            )
        ):
            dead.append(link)
    assert not dead, f"dead links: {sorted(set(dead))}"


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("chapters/")])
def test_every_figure_says_where_it_is_from_and_opens_its_code(page: Page, name: str) -> None:
    page.goto((SITE / name).as_uri(), wait_until="load")
    figures, lines = page.locator("div.cell figure:has(img, svg)").count(), page.locator("div.maso-provenance").count()
    assert lines >= figures > 0
    assert page.evaluate(OPEN) == [[1, 1, True, True]] * lines


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("chapters/")])
def test_a_chapter_opens_with_verdicts_and_picture_before_any_code(page: Page, name: str) -> None:
    page.goto((SITE / name).as_uri(), wait_until="load")
    verdicts, picture = page.locator("a.maso-claim-link").first, page.locator("figure img").first
    code = page.locator("article details.hide, article div.highlight pre").first
    tops = [
        page.evaluate("part => part.getBoundingClientRect().top", part.element_handle())
        for part in (verdicts, picture, code)
    ]
    assert tops == sorted(tops)
    if page.viewport_size == {"width": 1280, "height": 900}:
        assert tops[1] < 700


def test_a_figure_opens_at_its_own_size(page: Page) -> None:
    page.goto((SITE / "chapters" / "03-power-diagrams.html").as_uri(), wait_until="load")
    shown = page.locator("figure img").first
    width = shown.bounding_box()["width"]
    page.get_by_role("button", name="Enlarge the figure").first.click()
    enlarged = page.get_by_role("dialog", name="Enlarged figure").locator("img")
    assert enlarged.bounding_box()["width"] > 1.3 * width
    assert enlarged.get_attribute("alt") == shown.get_attribute("alt")
    page.keyboard.press("Escape")
    assert page.locator("dialog.maso-enlarged").is_hidden()


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("chapters/")])
def test_letters_of_a_figure_have_nine_pixels_on_a_small_phone(browser: Browser, name: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740})
    try:
        page.goto((SITE / name).as_uri(), wait_until="load")
        pictures = page.locator("article picture img")
        assert pictures.count() > 0
        for image in pictures.all():
            image.scroll_into_view_if_needed()
            scale = image.evaluate(
                """async image => {
                  await image.decode();
                  const pixels = image.currentSrc.endsWith(".png") ? 200 / 96 : 1;
                  return image.clientWidth / (image.naturalWidth / pixels);
                }"""
            )
            assert scale * SMALLEST * 96 / 72 >= 9, image.get_attribute("alt")
    finally:
        page.close()


def test_names_and_numbers_of_claims_are_links(page: Page) -> None:
    page.goto((SITE / "chapters" / "03-power-diagrams.html").as_uri(), wait_until="load")
    page.locator("a.maso-claim-link:has(.maso-badge)").first.click()
    assert page.url.endswith("claims.html#claim-03-1")
    page.goto((SITE / "how-it-works.html").as_uri(), wait_until="load")
    page.locator("a", has=page.locator("code", has_text="maso.affine_map")).first.click()
    assert page.url.endswith("api.html#maso.affine_map")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(browser: Browser, theme: str, name: str) -> None:
    width, height = SCREENS["desktop" if theme == "light" else "phone"]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.add_init_script(THEME.format(theme))
    try:
        page.goto((SITE / name).as_uri(), wait_until="load")
        page.evaluate("() => window.MathJax && MathJax.startup.promise")
        found = Axe().run(page).response["violations"]
    finally:
        page.close()
    serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    assert not serious, [(rule["id"], rule["help"], rule["nodes"][0]["html"]) for rule in serious]


def test_search_works_from_disk(page: Page) -> None:
    wrong = watch(page)
    page.goto((SITE / "search.html").as_uri() + "?q=spline", wait_until="load")
    page.locator("#search-results li a").first.wait_for()
    assert not wrong, "\n".join(wrong)
