// The interactive power diagram: cells drawn from centroids and radii alone, by clipping the window with the radical
// axes, so that what is seen is the power diagram and not the layer's lines.
//
// The element beside this script holds, as JSON, the layer that is shown at first: weights (K x 2) and biases (K) of K
// units, the reach of the window, and a colour for each of the 2^K codes.
(() => {
  const root = document.getElementById("maso-power"), start = JSON.parse(root.querySelector(".start").textContent);
  const svg = root.querySelector("svg");
  const K = start.weights.length, scale = 200 / start.reach, ns = "http://www.w3.org/2000/svg";
  const codes = [...Array(2 ** K).keys()].map(i => [...Array(K).keys()].map(k => (i >> k) & 1));
  let W, c, nu, mu, tau, mode, chosen;

  const reset = () => {
    W = start.weights.map(w => [...w]); c = [...start.biases]; nu = 0; chosen = 0;
    mode = root.querySelector("[name=maso-mode]:checked").value; tie(); controls(); draw();
  };
  // mu_r = sum of the pieces' slopes, tau_r = |mu_r|^2 + 2 sum of their offsets
  const tie = () => {
    const slope = codes.map(code => code.map(on => on ? 1 : nu));
    mu = slope.map(s => [0, 1].map(d => s.reduce((sum, v, k) => sum + v * W[k][d], 0)));
    tau = slope.map((s, r) => mu[r][0] ** 2 + mu[r][1] ** 2 + 2 * s.reduce((sum, v, k) => sum + v * c[k], 0));
  };
  // the window, cut by the radical axis with every other centroid: 2 <mu_q - mu_r, x> <= |mu_q|^2 - tau_q - |mu_r|^2 + tau_r
  const cell = r => {
    const e = start.reach;
    let polygon = [[-e, -e], [e, -e], [e, e], [-e, e]];
    mu.forEach((m, q) => {
      if (q === r) return;
      const n = [m[0] - mu[r][0], m[1] - mu[r][1]];
      const most = (m[0] ** 2 + m[1] ** 2 - tau[q] - mu[r][0] ** 2 - mu[r][1] ** 2 + tau[r]) / 2;
      const beyond = p => n[0] * p[0] + n[1] * p[1] - most;
      if (Math.hypot(...n) < 1e-12) { if (most < 0 || (most === 0 && q < r)) polygon = []; return; }
      const cut = [];
      polygon.forEach((a, i) => {
        const b = polygon[(i + 1) % polygon.length], fa = beyond(a), fb = beyond(b);
        if (fa <= 0) cut.push(a);
        if (fa * fb < 0) cut.push([0, 1].map(d => a[d] + fa / (fa - fb) * (b[d] - a[d])));
      });
      polygon = cut;
    });
    return polygon;
  };
  const area = p => p.reduce((sum, a, i) => { const b = p[(i + 1) % p.length]; return sum + (a[0] * b[1] - a[1] * b[0]) / 2; }, 0);
  const inside = (p, x) => p.every((a, i) => {
    const b = p[(i + 1) % p.length];
    return (b[0] - a[0]) * (x[1] - a[1]) - (b[1] - a[1]) * (x[0] - a[0]) >= 0;
  });
  const put = (name, attributes, parent = svg) => {
    const element = document.createElementNS(ns, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return parent.appendChild(element);
  };
  const X = x => (x[0] * scale).toFixed(2), Y = x => (-x[1] * scale).toFixed(2);
  const draw = () => {
    const held = svg.contains(document.activeElement) ? document.activeElement.dataset.handle : null;
    svg.replaceChildren();
    const cells = codes.map((_, r) => cell(r));
    const there = cells.map(p => p.length > 2 && area(p) > 1e-9);
    cells.forEach((p, r) => {
      if (!there[r]) return;
      put("polygon", { points: p.map(x => X(x) + "," + Y(x)).join(" "), fill: start.colours[r], stroke: "#1a1a1a", "stroke-width": 1.2 });
      const middle = [0, 1].map(d => p.reduce((sum, x) => sum + x[d], 0) / p.length);
      put("text", { x: X(middle), y: Y(middle), "text-anchor": "middle", "font-size": 13, fill: "#1a1a1a" })
        .textContent = mode === "layer" ? codes[r].join("") : r + 1;
    });
    const shift = Math.max(0, ...tau.map(t => -t)) + 0.15;  // one number for all: it moves no cell
    if (root.querySelector(".circles").checked) {
      mu.forEach((m, r) => put("circle", { cx: X(m), cy: Y(m), r: Math.sqrt(tau[r] + shift) * scale, fill: "none", "pointer-events": "none",
        stroke: "#1a1a1a", "stroke-width": 0.8, "stroke-dasharray": there[r] ? "none" : "3 3" }));
    }
    mu.forEach((m, r) => put("circle", { cx: X(m), cy: Y(m), r: 4.5, fill: there[r] ? start.colours[r] : "#fff", stroke: "#1a1a1a", "stroke-width": 1.5 }));
    (mode === "layer" ? W : mu).forEach((at, k) => {
      const name = mode === "layer" ? "weights of unit " + (k + 1) : "centroid " + (k + 1);
      const handle = put("g", { role: "button", tabindex: 0, "data-handle": k, "aria-label": name + " at " + at.map(v => v.toFixed(2)).join(", ") + ". Arrow keys move it." });
      put("circle", { cx: X(at), cy: Y(at), r: 14, fill: "transparent" }, handle);
      put("circle", { cx: X(at), cy: Y(at), r: 8, fill: mode === "layer" ? "#0072b2" : "rgba(0, 114, 178, 0.35)", stroke: "#fff", "stroke-width": 1.5 }, handle);
      if (mode === "layer") put("text", { x: X(at), y: +Y(at) + 4, "text-anchor": "middle", "font-size": 11, fill: "#fff", "pointer-events": "none" }, handle).textContent = k + 1;
    });
    if (held !== null) svg.querySelector('[data-handle="' + held + '"]')?.focus();
    const full = there.filter(Boolean).length, home = cells.filter((p, r) => there[r] && inside(p, mu[r])).length;
    root.querySelector(".status").textContent = full + " of " + codes.length + (mode === "layer" ? " codes" : " centroids") +
      " have a cell in this window; " + home + (home === 1 ? " of these centroids lies in its own cell." : " of these centroids lie in their own cell.");
  };
  const slider = (text, low, high, get, set) => {
    const label = document.createElement("label"), input = document.createElement("input"), value = document.createElement("output");
    Object.assign(input, { type: "range", min: low, max: high, step: 0.01, value: get() });
    value.textContent = (+get()).toFixed(2);
    input.addEventListener("input", () => { set(+input.value); value.textContent = (+input.value).toFixed(2); if (mode === "layer") tie(); draw(); });
    label.append(text + " ", value, input);
    root.querySelector(".sliders").append(label);
  };
  const controls = () => {
    root.querySelector(".sliders").replaceChildren();
    if (mode === "layer") {
      c.forEach((_, k) => slider("bias of unit " + (k + 1) + ":", -3, 3, () => c[k], v => { c[k] = v; }));
      slider("slope \u03bd of the leaky side:", 0, 1, () => nu, v => { nu = v; });
    } else {
      slider("squared radius of centroid " + (chosen + 1) + ":", -6, 12, () => tau[chosen], v => { tau[chosen] = v; });
    }
  };
  const choose = k => { if (mode === "free" && chosen !== +k) { chosen = +k; controls(); } };
  const move = (k, x) => {
    const e = start.reach, at = x.map(v => Math.max(-e, Math.min(e, v)));
    if (mode === "layer") { W[k] = at; tie(); } else { mu[k] = at; }  // a centroid moves, its radius stays
    draw();
  };
  svg.addEventListener("focusin", event => choose(event.target.dataset.handle));
  svg.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const k = event.target.dataset.handle;
    if (!step || k === undefined) return;
    event.preventDefault();
    const at = (mode === "layer" ? W : mu)[k], size = event.shiftKey ? 0.25 : 0.05;
    move(k, at.map((v, d) => v + size * step[d]));
  });
  svg.addEventListener("pointerdown", event => {
    const handle = event.target.closest("[data-handle]");
    if (!handle) return;
    event.preventDefault();
    const k = handle.dataset.handle;
    handle.focus(); choose(k);
    const follow = e => {
      const p = new DOMPoint(e.clientX, e.clientY).matrixTransform(svg.getScreenCTM().inverse());
      move(k, [p.x / scale, -p.y / scale]);
    };
    const stop = () => {
      window.removeEventListener("pointermove", follow);
      ["pointerup", "pointercancel"].forEach(name => window.removeEventListener(name, stop));
    };
    window.addEventListener("pointermove", follow);
    ["pointerup", "pointercancel"].forEach(name => window.addEventListener(name, stop));
  });
  root.querySelectorAll("[name=maso-mode]").forEach(radio => radio.addEventListener("change", reset));
  root.querySelector(".circles").addEventListener("change", draw);
  root.querySelector(".reset").addEventListener("click", reset);
  reset();
})();
