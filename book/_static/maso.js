// A figure that is shown smaller than it was drawn opens at its own size; a table that goes on to the right says so.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "maso-enlarged";
  dialog.setAttribute("aria-label", "Enlarged figure");
  dialog.innerHTML =
    '<form method="dialog"><button>Close</button></form><div class="maso-pan" role="group" aria-label="Figure" tabindex="0"></div>';
  document.body.append(dialog);
  const pan = dialog.lastChild;
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  // SVGs are drawn in points; PNGs have about twice the page's pixels (savefig.dpi of maso_book.style).
  const drawn = (image) => (image.currentSrc.endsWith(".png") ? image.naturalWidth / 2 : image.naturalWidth);
  const enlarge = (image) => {
    const copy = new Image();
    copy.src = image.currentSrc;
    copy.alt = image.alt;
    copy.style.width = `${Math.round(1.2 * drawn(image))}px`;
    pan.replaceChildren(copy);
    dialog.showModal();
  };

  for (const image of document.querySelectorAll("article figure img, article .cell_output img")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "maso-enlarge";
    button.textContent = "⤢";
    button.setAttribute("aria-label", "Enlarge the figure");
    button.addEventListener("click", () => enlarge(image));
    image.addEventListener("click", () => !button.hidden && enlarge(image));
    const frame = document.createElement("span");
    frame.className = "maso-frame";
    const whole = image.closest("picture") ?? image;
    whole.replaceWith(frame);
    frame.append(whole, button);
    const see = () => (button.hidden = !(drawn(image) > 1.3 * image.clientWidth));
    new ResizeObserver(see).observe(image);
    image.addEventListener("load", see);
  }

  for (const table of document.querySelectorAll("article .pst-scrollable-table-container, article .text_html")) {
    const see = () =>
      table.classList.toggle("maso-more", table.scrollLeft + table.clientWidth < table.scrollWidth - 1);
    table.addEventListener("scroll", see);
    new ResizeObserver(see).observe(table);
  }
});
