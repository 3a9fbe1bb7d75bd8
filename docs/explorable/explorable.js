/* Curves of docs/explorable.md: what `measurements.js` holds under the chosen condition, drawn as SVG. Nothing is fetched. */
(function () {
  "use strict";
  const DATA = window.rnnnormMeasurements;
  const root = document.getElementById("explorable");
  if (!root || !DATA) return;
  const KEYS = Object.keys(DATA.controls); // the order of the key of a condition
  const DEFAULT = { start: 1, lengths: "fixed", batch: 16, whh: "orthogonal", gain: 0.1 };
  const STEPS = DATA.sizes.max_length;
  const MINUS = "−";
  const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const MARGIN = { left: 46, right: 10, top: 8, bottom: 34 };
  const HEIGHT = 210;

  /* Curves of each figure: name in the measurements, class (colour, dashes and marker), words. */
  const FIGURES = {
    gradient: { log: true, curves: [["gradient", "one", "‖∂L/∂h_t‖"]] },
    active: { log: false, curves: [["active", "bars", "B_t"]], rule: 2 },
    moments: {
      log: true,
      curves: [
        ["sigma", "one", "true standard deviation σ"],
        ["error_running", "running", "error of the running mean"],
        ["error_pooled", "pooled", "error of the pooled mean"],
      ],
    },
    score: {
      log: false,
      curves: [
        ["loss_batch", "batch", "batch"],
        ["loss_running", "running", "running"],
        ["loss_population", "population", "population"],
      ],
    },
  };

  const state = Object.assign({}, DEFAULT);

  /* Numbers as text: two or three digits, powers of ten where they are far from 1. */
  function text(value, digits) {
    if (value === null) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size >= 0.001 && size < 1e5) return String(Number(value.toPrecision(digits || 2))).replace("-", MINUS);
    const exponent = Math.floor(Math.log10(size) + 1e-9);
    const factor = Number((value / 10 ** exponent).toPrecision(2));
    return (factor === 1 ? "" : factor + " · ") + power(exponent);
  }

  function power(exponent) {
    const digits = String(Math.abs(exponent)).replace(/\d/g, (digit) => SUPERSCRIPTS[digit]);
    return "10" + (exponent < 0 ? "⁻" : "") + digits;
  }

  function condition() {
    return DATA.conditions[KEYS.map((name) => state[name]).join("|")];
  }

  function values(name) {
    return name === "active" ? DATA.active[state.lengths + "|" + state.batch] : condition()[name];
  }

  /* Limits of an axis over all conditions, so that curves of two conditions can be compared by eye. */
  function limits(figure) {
    const names = figure.curves.map((curve) => curve[0]);
    if (names[0] === "active") return [0, state.batch];
    const all = Object.values(DATA.conditions).flatMap((found) => names.flatMap((name) => found[name]));
    const finite = all.filter((value) => value !== null && (!figure.log || value > 0));
    const least = finite.reduce((a, b) => Math.min(a, b));
    const most = finite.reduce((a, b) => Math.max(a, b));
    return figure.log ? [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))] : [0, Math.ceil(most)];
  }

  function ticks(figure) {
    const [low, high] = figure.limits;
    const span = high - low;
    const step = [0.5, 1, 2, 4, 8, 16].find((n) => span / n <= 6 && (!figure.log || n >= 1)) || 32;
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + 1e-9; at += step) found.push(at);
    return found;
  }

  function element(name, attributes, content) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (content !== undefined) made.textContent = content;
    return made;
  }

  function marker(kind, x, y) {
    if (kind === "batch") return element("rect", { x: x - 3, y: y - 3, width: 6, height: 6, class: "mark " + kind });
    if (kind === "running" || kind === "pooled") {
      const d = kind === "running" ? `M${x} ${y - 4.5}l4.5 4.5l-4.5 4.5l-4.5 -4.5z` : `M${x} ${y - 4}l4 7h-8z`;
      return element("path", { d, class: "mark " + kind });
    }
    return element("circle", { cx: x, cy: y, r: 3.2, class: "mark " + kind });
  }

  function draw(name) {
    const figure = FIGURES[name];
    if (!figure.limits || name === "active") figure.limits = limits(figure);
    const place = root.querySelector(`[data-figure="${name}"]`);
    const width = Math.max(place.clientWidth, 240);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    const [low, high] = figure.limits;
    const x = (t) => MARGIN.left + ((t + 0.5) / STEPS) * inner.width;
    const y = (value) => MARGIN.top + inner.height * (1 - ((figure.log ? Math.log10(value) : value) - low) / (high - low));
    const svg = element("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img" });
    svg.setAttribute("aria-label", described(figure));
    for (const at of ticks(figure)) {
      const level = y(figure.log ? 10 ** at : at);
      svg.append(element("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: level, y2: level, class: "grid" }));
      const label = figure.log ? power(at) : text(at);
      svg.append(element("text", { x: MARGIN.left - 6, y: level + 4, "text-anchor": "end" }, label));
    }
    for (let t = 0; t < STEPS; t += 3) {
      svg.append(element("text", { x: x(t), y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, t));
    }
    svg.append(element("text", { x: width - MARGIN.right, y: HEIGHT - 3, "text-anchor": "end" }, "timestep t"));
    for (const [curve, kind] of figure.curves) {
      const found = values(curve);
      const group = element("g", { "data-curve": curve, "data-values": JSON.stringify(found) });
      if (kind === "bars") bars(group, found, x, y, inner.width / STEPS);
      else line(group, found, kind, x, y, figure.log);
      svg.append(group);
    }
    if (figure.rule) {
      const level = y(figure.rule);
      svg.append(element("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: level, y2: level, class: "rule" }));
    }
    place.replaceChildren(svg);
  }

  /* A line that is broken where there is no value, or none that a logarithmic axis has. */
  function line(group, found, kind, x, y, log) {
    let path = "";
    let broken = true;
    found.forEach((value, t) => {
      const there = value !== null && (!log || value > 0);
      if (there) {
        path += `${broken ? "M" : "L"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`;
        group.append(marker(kind, x(t), y(value)));
      }
      broken = !there;
    });
    group.prepend(element("path", { d: path, class: "curve " + kind }));
  }

  function bars(group, found, x, y, step) {
    found.forEach((value, t) => {
      const keys = { x: x(t) - 0.4 * step, width: 0.8 * step, y: y(value), height: Math.max(y(0) - y(value), 0) };
      group.append(element("rect", { ...keys, class: "bar" }));
    });
  }

  function described(figure) {
    return figure.curves
      .map(([name, , words]) => {
        const found = values(name);
        return `${words}: ${text(found[0])} at t = 0, ${text(found[1])} at t = 1, ${text(found[STEPS - 1])} at the last step`;
      })
      .join("; ");
  }

  function legends() {
    for (const [name, figure] of Object.entries(FIGURES)) {
      if (figure.curves.length < 2) continue;
      const place = root.querySelector(`[data-legend="${name}"]`);
      for (const [, kind, words] of figure.curves) {
        const item = document.createElement("span");
        const sample = element("svg", { width: 30, height: 12, "aria-hidden": "true" });
        sample.append(element("path", { d: "M1 6H29", class: "curve " + kind }), marker(kind, 15, 6));
        item.append(sample, " " + words);
        place.append(item);
      }
    }
  }

  function both(found, digits) {
    const parts = found.map((value) => text(value, digits));
    return parts[0] === parts[1] ? parts[0] : parts.join(" and ");
  }

  /* What the present setting shows: pairs of a subject and words. */
  function said() {
    const found = condition();
    const growth = found.gradient[0] / found.gradient[1];
    const starts = { 0: "first symbols at random", 1: "one common first symbol", 3: "three common first symbols" };
    const lengths = { fixed: "equal lengths", uniform: "uniform lengths", "heavy-tailed": "a long tail of lengths" };
    const late = values("active")[STEPS - 1];
    const [size, place, t] = found.shift.running[0];
    return [
      ["Setting", `γ = ${state.gain}, W_hh ${state.whh}, batches of ${state.batch}, ${lengths[state.lengths]}, ${starts[state.start]}`],
      ["Gradient", `the step back from t = 1 to t = 0 multiplies it by ${text(growth)}`],
      ["Active rows", `${text(values("active")[0])} at t = 0, ${text(late)} on average at the last step`],
      [
        "Moments",
        `errors of running means shift normalized values by up to ${text(size)} (place ${place}, t = ${t}; second ` +
          `network ${text(found.shift.running[1][0])}), those of pooled means by up to ` +
          both(found.shift.pooled.map((each) => each[0])),
      ],
      [
        "Loss",
        `of the two networks, in nats: ${both(found.mean.running, 3)} by running averages, ` +
          `${both(found.mean.population, 3)} by population statistics, ${both(found.mean.batch, 3)} by each batch's own`,
      ],
    ];
  }

  function paragraph([subject, words]) {
    const made = document.createElement("p");
    made.append(Object.assign(document.createElement("strong"), { textContent: subject + ": " }), words + ".");
    return made;
  }

  function table() {
    const names = Object.values(FIGURES).flatMap((figure) => figure.curves);
    const head = document.createElement("tr");
    const body = [...Array(STEPS).keys()].map((t) => {
      const row = document.createElement("tr");
      for (const content of [t, ...names.map(([name]) => text(values(name)[t], 3))]) {
        row.append(Object.assign(document.createElement("td"), { textContent: content }));
      }
      return row;
    });
    for (const words of ["t", ...names.map(([name, , label]) => (name.startsWith("loss") ? "loss, " : "") + label)]) {
      head.append(Object.assign(document.createElement("th"), { textContent: words, scope: "col" }));
    }
    root.querySelector("[data-table]").replaceChildren(head, ...body);
  }

  function figures() {
    Object.keys(FIGURES).forEach(draw);
  }

  function show() {
    const slider = root.querySelector("input[type=range]");
    slider.value = DATA.controls.gain.indexOf(state.gain);
    slider.setAttribute("aria-valuetext", "gain " + state.gain);
    root.querySelector("output").textContent = state.gain;
    for (const radio of root.querySelectorAll("input[type=radio]")) radio.checked = radio.value === String(state[radio.name]);
    root.querySelector("[aria-live]").replaceChildren(...said().map(paragraph));
    figures();
    table();
  }

  /* Take over settings as text, those that have been measured; others stay what they are. */
  function take(settings) {
    for (const [name, value] of settings) {
      const known = DATA.controls[name] && DATA.controls[name].find((each) => String(each) === value);
      if (known !== undefined) state[name] = known;
    }
  }

  function choose(settings) {
    take(settings);
    history.replaceState(null, "", "#" + KEYS.map((name) => `${name}=${state[name]}`).join("&"));
    show();
  }

  function fromAddress() {
    take(new URLSearchParams(location.hash.slice(1)));
    show();
  }

  root.addEventListener("input", (event) => {
    const control = event.target;
    const value = control.type === "range" ? DATA.controls.gain[control.value] : control.value;
    choose([[control.name, String(value)]]);
  });
  for (const button of document.querySelectorAll("[data-try]")) {
    button.addEventListener("click", () => {
      choose(new URLSearchParams(button.dataset.try));
      root.querySelector(".said").scrollIntoView();
    });
  }
  window.addEventListener("hashchange", fromAddress);
  window.addEventListener("resize", figures);
  legends();
  fromAddress();
})();
