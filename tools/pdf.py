"""Prints the whole book, built as one page (`jupyter-book build --builder singlehtml`), into a PDF with Chromium.

python tools/pdf.py _build/aside/index.html _build/maso.pdf
"""

import sys
from pathlib import Path

from chromium import find
from playwright.sync_api import sync_playwright

# Mathematics and pictures are there; links stay inside the PDF or lead to the web, never to files of this machine.
READY = """async () => {
  if (window.MathJax) await MathJax.startup.promise;
  for (const image of document.images) {
    image.loading = "eager";
    await image.decode();
  }
  for (const link of document.querySelectorAll("a[href]")) {
    const url = new URL(link.href);
    if (url.protocol !== "file:") continue;
    const page = link.getAttribute("href").split("#")[0].replace(/\\.html$/, "");
    const names = [decodeURIComponent(url.hash.slice(1)), `document-${page}`];
    const name = names.find((name) => name && document.getElementById(name));
    if (name) link.setAttribute("href", `#${name}`);
    else link.removeAttribute("href");
  }
}"""
NUMBER = '<div style="font-size: 8px; text-align: center; width: 100%"><span class="pageNumber"></span></div>'


def main(page: str, pdf: str) -> None:
    chromium = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        book = browser.new_page()
        book.set_default_timeout(0)  # a busy machine takes its time
        book.goto(Path(page).resolve().as_uri(), wait_until="load")
        book.evaluate(READY)
        book.pdf(
            path=pdf,
            format="A4",
            scale=0.75,
            margin=dict.fromkeys(("top", "bottom", "left", "right"), "15mm"),
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=NUMBER,
            outline=True,
            tagged=True,
        )
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
