// The picture of the front page to touch: a point to drag over the panes of a small trained network, the affine map of
// the cell under it, and a slider over the epochs of training.
//
// The element around this script holds, as JSON, `window` [left, right, bottom, top], the colours `pane` and `lead`, the
// names `classes` and their colours `pure`, and for each of `epochs` the number `epoch`, the `accuracy`, the `weights` and
// offsets of the three layers, how many `cells` there are, the `panes` [colour, class, cell, numbers of the corners among
// `points`] and the lines of the boundary, `lead`.
(() => {
  const root = document.getElementById("maso-glass"), data = JSON.parse(root.querySelector(".start").textContent);
  const picture = document.querySelector("#fig-front img"), slider = root.querySelector("input");
  const says = root.querySelector(".maso-map"), [left, right, bottom, top] = data.window, ns = "http://www.w3.org/2000/svg";
  let point = [-0.35, 0.3], epoch, shapes;

  const put = (parent, name, attributes) => {
    const element = document.createElementNS(ns, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return parent.appendChild(element);
  };
  const path = corners => corners.map(([x, y]) => x + "," + -y).join(" ");
  const number = v => (v < 0 ? "\u2212" : "") + Math.abs(v).toFixed(2);
  const term = (v, name) => (v < 0 ? " \u2212 " : " + ") + Math.abs(v).toFixed(2) + name;
  const corners = pane => pane[3].map(i => data.epochs[epoch].points[i]);
  // how far the point is inside a pane: its least distance from a side on whose left it is, as corners go round
  // counter-clockwise; slivers may have lost sides to rounding
  const depth = c => {
    const sides = c.map(([x, y], i) => [x, y, c[(i + 1) % c.length][0] - x, c[(i + 1) % c.length][1] - y]).filter(([, , u, v]) => u || v);
    return sides.length < 3 ? -Infinity : Math.min(...sides.map(([x, y, u, v]) => (u * (point[1] - y) - v * (point[0] - x)) / Math.hypot(u, v)));
  };
  // the network's affine map at the point, rows [slope, slope, offset]: units that are off drop out
  const map = () => {
    let rows = [[1, 0, 0], [0, 1, 0]];
    const { weights } = data.epochs[epoch];
    for (let layer = 0; layer < 3; layer++) {
      rows = weights[2 * layer].map((w, k) => [0, 1, 2].map(j => w.reduce((sum, v, i) => sum + v * rows[i][j], j === 2 ? weights[2 * layer + 1][k] : 0)));
      if (layer < 2) rows = rows.map(([a, b, c]) => a * point[0] + b * point[1] + c > 0 ? [a, b, c] : [0, 0, 0]);
    }
    return rows;
  };

  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", [left, -top, right - left, top - bottom].join(" "));
  svg.setAttribute("tabindex", 0);
  svg.setAttribute("role", "img");

  const show = () => {
    const rows = map(), values = rows.map(([a, b, c]) => a * point[0] + b * point[1] + c);
    const kind = values.indexOf(Math.max(...values)), depths = data.epochs[epoch].panes.map(pane => depth(corners(pane)));
    const cell = data.epochs[epoch].panes[depths.indexOf(Math.max(...depths))][2];
    shapes.forEach((shape, i) => shape.classList.toggle("here", data.epochs[epoch].panes[i][2] === cell));
    svg.querySelector("circle").setAttribute("cx", point[0]);
    svg.querySelector("circle").setAttribute("cy", -point[1]);
    const lines = rows.map(([a, b, c], i) => {
      const text = number(a) + " x\u2081" + term(b, " x\u2082") + term(c, "") + " = " + number(values[i]);
      return "<li class=\"" + data.classes[i] + (i === kind ? " wins" : "") + "\" style=\"border-color: " + data.pure[i] + "\"><b>" + data.classes[i] + "</b> " + text + "</li>";
    });
    const here = "(" + number(point[0]) + ", " + number(point[1]) + ")";
    says.innerHTML = "<p>In the white cell, one of " + data.epochs[epoch].cells + ", the network is this affine map; at x = " + here +
      " it answers <b>" + data.classes[kind] + "</b>. Point elsewhere, or move the slider through its training.</p><ul>" + lines.join("") + "</ul>";
    svg.setAttribute("aria-label", "Panes of a network, a point at " + here + ", answered " + data.classes[kind] + ". Arrow keys move the point.");
  };
  const draw = () => {
    epoch = +slider.value;
    const { panes, lead, accuracy, epoch: after } = data.epochs[epoch];
    svg.replaceChildren();
    shapes = panes.map(pane => put(svg, "polygon", { points: path(corners(pane)), fill: pane[0], stroke: data.pane, "stroke-width": 0.006 }));
    lead.forEach(line => put(svg, "polyline", { points: path(line), fill: "none", stroke: data.lead, "stroke-width": 0.02, "stroke-linejoin": "round" }));
    put(svg, "circle", { r: 0.04, fill: "#fff", stroke: "#000", "stroke-width": 0.015 });
    root.querySelector("output").textContent = after + ": " + (100 * accuracy).toFixed(1) + " % of the training points right";
    show();
  };
  const move = (x, y) => {
    point = [Math.min(right, Math.max(left, x)), Math.min(top, Math.max(bottom, y))];
    show();
  };
  const follow = event => {
    if (event.type === "pointermove" && event.pointerType !== "mouse" && !event.buttons) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    move(at.x, -at.y);
  };
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  picture.closest("figure > *").before(svg, root);
  picture.classList.add("maso-still");
  svg.classList.add("maso-live");
  root.hidden = false;
  slider.max = data.epochs.length - 1;
  slider.value = slider.max;
  slider.addEventListener("input", draw);
  ["pointerdown", "pointermove"].forEach(name => svg.addEventListener(name, follow));
  svg.addEventListener("keydown", event => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [x, y] = steps[event.key], step = event.shiftKey ? 0.2 : 0.04;
    move(point[0] + step * x, point[1] + step * y);
  });
  draw();
})();
