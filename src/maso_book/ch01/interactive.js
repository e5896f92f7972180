// A max-affine spline of one number: its lines, the largest of them, and the cell of each, all computed from slopes and
// offsets alone.
//
// The element around this script holds, as JSON, `pieces`: name -> a (slope, offset) for each piece, and `colours`.
(() => {
  const root = document.getElementById("maso-lines"), start = JSON.parse(root.querySelector(".start").textContent);
  const svg = root.querySelector(".live svg"), input = root.querySelector(".input"), select = root.querySelector("select");
  const low = -3, high = 3, bottom = -2.5, top = 4, ns = "http://www.w3.org/2000/svg";
  const X = x => 400 * (x - low) / (high - low), Y = y => 280 * (top - y) / (top - bottom);
  let pieces;

  const put = (parent, name, attributes, text = "") => {
    const element = document.createElementNS(ns, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    element.textContent = text;
    return parent.appendChild(element);
  };
  const number = v => Math.abs(v).toFixed(2), signed = v => (v < 0 ? "\u2212" : "") + number(v);
  const formula = ([a, b], x = "x") => signed(a) + " " + x + (b < 0 ? " \u2212 " : " + ") + number(b);
  const colour = r => start.colours[r];

  // where piece r is the largest: (a_r - a_s) x >= b_s - b_r for all s; of equal pieces the first counts
  const cell = r => {
    let from = low, to = high;
    pieces.forEach(([a, b], s) => {
      const slope = pieces[r][0] - a, least = b - pieces[r][1];
      if (slope > 0) from = Math.max(from, least / slope);
      if (slope < 0) to = Math.min(to, least / slope);
      if (slope === 0 && (least > 0 || (least === 0 && s < r))) to = low;
    });
    return to > from ? [from, to] : null;
  };
  const draw = () => {
    const x = +input.value, values = pieces.map(([a, b]) => a * x + b), value = Math.max(...values), r = values.indexOf(value);
    const cells = pieces.map((_, s) => cell(s)), full = cells.filter(Boolean).length;
    svg.replaceChildren();
    const plot = put(svg, "svg", { x: 0, y: 0, width: 400, height: 280, viewBox: "0 0 400 280", overflow: "hidden" });
    const line = ([a, b], [from, to], look) => put(plot, "line", { x1: X(from), y1: Y(a * from + b), x2: X(to), y2: Y(a * to + b), ...look });
    line([0, 0], [low, high], { stroke: "#bbb" });
    put(plot, "line", { x1: X(0), y1: 0, x2: X(0), y2: 280, stroke: "#bbb" });
    pieces.forEach((piece, s) => line(piece, [low, high], { stroke: colour(s), "stroke-width": 1.5, "stroke-dasharray": "6 4" }));
    pieces.forEach((piece, s) => {
      if (!cells[s]) return;
      const [from, to] = cells[s];
      line(piece, cells[s], { stroke: colour(s), "stroke-width": 5 });
      put(svg, "rect", { x: X(from), y: 286, width: X(to) - X(from), height: 22, fill: colour(s), stroke: "#fff" });
      const name = { x: X((from + to) / 2), y: 302, "text-anchor": "middle", "font-size": 14, "font-weight": "bold", fill: "#fff" };
      if (X(to) - X(from) > 12) put(svg, "text", { ...name, stroke: "#1a1a1a", "stroke-width": 3, "paint-order": "stroke" }, s + 1);
    });
    put(svg, "line", { x1: X(x), y1: 0, x2: X(x), y2: 312, stroke: "#1a1a1a", "stroke-dasharray": "2 3" });
    put(plot, "circle", { cx: X(x), cy: Y(value), r: 6, fill: "#fff", stroke: "#1a1a1a", "stroke-width": 2 });
    [low, 0, high].forEach((v, i) => put(svg, "text", { x: [3, X(0), 397][i], y: 325, "text-anchor": ["start", "middle", "end"][i], "font-size": 13, fill: "#1a1a1a" }, signed(v).slice(0, -3)));
    const says = "At x = " + signed(x) + " piece " + (r + 1) + " is the largest: S(x) = " +
      formula(pieces[r], "\u00b7 " + (x < 0 ? "(" + signed(x) + ")" : signed(x))) + " = " + signed(value) + ". " +
      full + " of " + pieces.length + " pieces have a cell in this window.";
    root.querySelector(".status").textContent = says;
    svg.setAttribute("aria-label", "Lines of a max-affine spline and the largest of them. " + says);
    root.querySelectorAll("legend").forEach((legend, s) => { legend.textContent = "piece " + (s + 1) + ":  " + formula(pieces[s]); });
  };
  const controls = () => {
    root.querySelector(".pieces").replaceChildren(...pieces.map((piece, r) => {
      const set = document.createElement("fieldset");
      set.style.borderColor = colour(r);
      set.append(document.createElement("legend"), ...["slope", "offset"].map((name, which) => {
        const label = document.createElement("label"), text = document.createElement("span"), slider = document.createElement("input");
        Object.assign(slider, { type: "range", min: -3, max: 3, step: 0.05, value: piece[which] });
        slider.addEventListener("input", () => { piece[which] = +slider.value; draw(); });
        text.textContent = name;
        label.append(text, slider);
        return label;
      }));
      return set;
    }));
  };
  const reset = () => { pieces = start.pieces[select.value].map(piece => [...piece]); controls(); draw(); };
  const follow = event => {
    if (!event.buttons) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    input.value = low + (high - low) * at.x / 400;
    draw();
  };

  root.classList.add("on");
  root.querySelector(".live").hidden = false;
  select.addEventListener("change", reset);
  input.addEventListener("input", draw);
  ["pointerdown", "pointermove"].forEach(name => svg.addEventListener(name, follow));
  reset();
})();
