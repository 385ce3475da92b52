"use strict";
// A small chart: axes, lines, bands, whiskers and points that mouse, touch and keyboard can reach.
// All text from data is written with textContent, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;
// Around the origin, for a radius of 1.
const SHAPES = {
  circle: "M-1,0A1,1 0 1,0 1,0A1,1 0 1,0 -1,0Z",
  diamond: "M0,-1.25L1.1,0L0,1.25L-1.1,0Z",
  triangle: "M0,-1.2L1.15,.85L-1.15,.85Z",
  square: "M-.9,-.9H.9V.9H-.9Z",
  down: "M0,1.2L1.15,-.85L-1.15,-.85Z",
  plus: "M-.35,-1.1H.35V-.35H1.1V.35H.35V1.1H-.35V.35H-1.1V-.35H-.35Z",
  pentagon: "M0,-1.15L1.1,-.35L.68,.93L-.68,.93L-1.1,-.35Z",
  hexagon: "M-.58,-1L.58,-1L1.15,0L.58,1L-.58,1L-1.15,0Z",
  star: "M0,-1.3L.35,-.4L1.25,-.4L.55,.2L.8,1.1L0,.55L-.8,1.1L-.55,.2L-1.25,-.4L-.35,-.4Z",
  right: "M1.2,0L-.85,1.15L-.85,-1.15Z",
  left: "M-1.2,0L.85,1.15L.85,-1.15Z",
  hourglass: "M-1,-1.1L1,-1.1L-1,1.1L1,1.1Z",
  bar: "M-1.2,-.5H1.2V.5H-1.2Z",
  bow: "M-1.1,-1L-1.1,1L1.1,-1L1.1,1Z",
  post: "M-.5,-1.2H.5V1.2H-.5Z",
};
const CROSS = "M-1,-1L1,1M-1,1L1,-1";
const SHAPE_NAMES = Object.keys(SHAPES);

const colour = (number) => `var(--s${number % COLOURS})`;
const shape = (number) => SHAPE_NAMES[number % SHAPE_NAMES.length];
const signed = (value) => (value > 0 ? "+" : "") + value.toFixed(2);

function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "fill" || key === "stroke") node.style[key] = value; // `var()` works in styles only
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

function logTicks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of [1, 2, 5]) all.push(factor * 10 ** power);
  const inside = all.filter((value) => value >= low && value <= high);
  return inside.length >= 2 ? inside : [low, high];
}

// 12345678 as "12.3 M"; small numbers as they are.
function short(value, unit = "") {
  const size = Math.abs(value);
  const [factor, prefix] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([from]) => size >= from) ?? [1, ""];
  const number = Number((value / factor).toPrecision(size >= factor * 100 ? 4 : 3));
  return `${number}${prefix || unit ? " " : ""}${prefix}${unit}`;
}

// plan: {label, x: {label, ticks?, format?}, y: {label, log?, format?}, series: [...], front?: [[x, y], ...]}
// series (those of one name share an entry of the legend): {name, colour, shape?, cross?, dashed?, line?, band?: [[x, low, high]], whiskers?: [[x, low, high]], points: [...]}
// point: {x, y, small?, hollow?, title, lines: [text, ...]}
class Chart {
  constructor(box) {
    this.box = box;
    this.hidden = new Set();
    this.legend = html("ul", {class: "legend"});
    this.plot = html("div", {class: "holder"});
    this.tip = html("div", {class: "tip", hidden: true, "aria-hidden": "true"});
    this.hint = html("p", {class: "hint"}, "Point at or tap a marker, or press Tab and then the arrow keys; Escape closes.");
    box.append(this.legend, this.plot, this.hint, this.tip);
    this.width = 0;
    new ResizeObserver(() => this.resized()).observe(box);
    box.addEventListener("keydown", (event) => event.key === "Escape" && this.leave());
  }

  show(plan) {
    this.plan = plan;
    this.drawLegend();
    this.draw();
  }

  resized() {
    const width = Math.round(this.box.clientWidth);
    if (width !== this.width && this.plan) this.draw();
  }

  drawLegend() {
    const groups = this.plan.series.filter((series, n, all) => all.findIndex((other) => other.name === series.name) === n);
    const entries = groups.map((series) => {
      const button = html("button", {type: "button", "aria-pressed": String(!this.hidden.has(series.name))});
      button.append(swatch(series), series.label ?? series.name);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(series.name)) this.hidden.add(series.name);
        button.setAttribute("aria-pressed", String(!this.hidden.has(series.name)));
        this.draw();
        this.plan.changed?.(this);
      });
      return html("li", {}, button);
    });
    this.legend.setAttribute("aria-label", "Systems shown");
    this.legend.replaceChildren(...entries);
  }

  visible() {
    return this.plan.series.filter((series) => !this.hidden.has(series.name));
  }

  scales() {
    const shown = this.visible();
    const xs = shown.flatMap((series) => series.points.map((point) => point.x));
    const ys = shown.flatMap((series) => [
      ...series.points.map((point) => point.y),
      ...(series.whiskers ?? []).flatMap(([, low, high]) => [low, high]),
    ]);
    const log = this.plan.y.log && Math.min(...ys) > 0;
    const [x0, x1] = padded(xs, 0.05, false);
    const [y0, y1] = padded(ys, 0.07, log);
    const {left, right, top, bottom} = this.margin;
    const place = log ? Math.log10 : (value) => value;
    return {
      x: (value) => left + ((value - x0) / (x1 - x0)) * (this.width - left - right),
      y: (value) => this.height - bottom - ((place(value) - place(y0)) / (place(y1) - place(y0))) * (this.height - top - bottom),
      xTicks: (this.plan.x.ticks ?? ticks(x0, x1, this.width < 500 ? 4 : 8)).filter((tick) => tick >= x0 && tick <= x1),
      yTicks: log ? logTicks(y0, y1) : ticks(y0, y1, 6),
    };
  }

  draw() {
    this.leave();
    this.width = Math.max(200, Math.round(this.box.clientWidth));
    this.height = Math.round(Math.min(420, Math.max(280, this.width * 0.62)));
    this.margin = {left: 52, right: 14, top: 26, bottom: 44};
    const scales = this.scales();
    const plot = svg("svg", {
      class: "plot", viewBox: `0 0 ${this.width} ${this.height}`, role: "application",
      "aria-roledescription": "chart", "aria-label": `${this.plan.label}. Arrow keys move between the points.`,
    });
    this.drawAxes(plot, scales);
    for (const series of this.visible()) this.drawBand(plot, series, scales);
    if (this.plan.front?.(this.visible()).length) plot.append(frontLine(this.plan.front(this.visible()), scales));
    for (const series of this.visible()) this.drawCurve(plot, series, scales);
    this.drawPoints(plot, scales);
    this.ring = svg("circle", {class: "ring", r: 11, visibility: "hidden"});
    plot.append(this.ring);
    this.listen(plot);
    this.plot.replaceChildren(plot);
  }

  drawAxes(plot, scales) {
    const {left, right, bottom, top} = this.margin;
    const floor = this.height - bottom;
    const axes = svg("g", {"aria-hidden": "true"});
    for (const tick of scales.yTicks) {
      axes.append(svg("line", {class: "grid", x1: left, x2: this.width - right, y1: scales.y(tick), y2: scales.y(tick)}));
      axes.append(text((this.plan.y.format ?? short)(tick), left - 6, scales.y(tick) + 4, "end"));
    }
    for (const tick of scales.xTicks) {
      axes.append(svg("line", {class: "axis", x1: scales.x(tick), x2: scales.x(tick), y1: floor, y2: floor + 5}));
      axes.append(text((this.plan.x.format ?? short)(tick), scales.x(tick), floor + 18, "middle"));
    }
    axes.append(svg("line", {class: "axis", x1: left, x2: this.width - right, y1: floor, y2: floor}));
    axes.append(text(this.plan.x.label, (left + this.width - right) / 2, this.height - 6, "middle"));
    axes.append(text(this.plan.y.label, 4, top - 12, "start"));
    plot.append(axes);
  }

  drawBand(plot, series, scales) {
    if (!series.band || series.band.length < 2) return;
    const there = series.band.map(([x, , high]) => `${scales.x(x)},${scales.y(high)}`);
    const back = series.band.map(([x, low]) => `${scales.x(x)},${scales.y(low)}`).reverse();
    plot.append(svg("path", {class: "band", d: `M${[...there, ...back].join("L")}Z`, fill: colour(series.colour)}));
  }

  drawCurve(plot, series, scales) {
    const stroke = colour(series.colour);
    for (const [x, low, high] of series.whiskers ?? []) {
      const [at, from, to] = [scales.x(x), scales.y(low), scales.y(high)];
      plot.append(svg("path", {class: "whisker", d: `M${at - 3},${from}h6M${at},${from}V${to}M${at - 3},${to}h6`, stroke}));
    }
    if (!series.line) return;
    const line = series.points.filter((point) => !point.small).map((point) => `${scales.x(point.x)},${scales.y(point.y)}`);
    if (line.length < 2) return;
    const dashes = series.dashed ? {"stroke-dasharray": "6 4"} : {};
    plot.append(svg("path", {class: "curve", d: `M${line.join("L")}`, stroke, ...dashes}));
  }

  drawPoints(plot, scales) {
    this.points = [];
    const layers = [svg("g"), svg("g")]; // small ones below
    this.visible().forEach((series, row) => {
      const ordered = [...series.points].sort((a, b) => a.x - b.x || a.y - b.y);
      for (const point of ordered) {
        const [x, y] = [scales.x(point.x), scales.y(point.y)];
        const node = marker(series, point, x, y);
        node.setAttribute("tabindex", this.points.length ? "-1" : "0");
        node.setAttribute("role", "img");
        node.setAttribute("aria-label", [point.title, ...point.lines].join("; "));
        const entry = {node, point, row, x, y};
        node.addEventListener("focus", () => this.enter(entry));
        node.addEventListener("blur", () => this.leave());
        this.points.push(entry);
        layers[point.small ? 0 : 1].append(node);
      }
    });
    plot.append(...layers);
  }

  listen(plot) {
    const point = (event) => {
      const frame = plot.getBoundingClientRect();
      const scale = this.width / frame.width;
      const [x, y] = [(event.clientX - frame.left) * scale, (event.clientY - frame.top) * scale];
      const nearest = this.nearest(x, y, event.pointerType === "touch" ? 32 : 18);
      if (nearest) this.enter(nearest);
      else this.leave();
    };
    plot.addEventListener("pointermove", point);
    plot.addEventListener("pointerdown", point);
    plot.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && this.leave());
    plot.addEventListener("keydown", (event) => this.key(event));
  }

  nearest(x, y, reach) {
    let best = null;
    let smallest = reach * reach;
    for (const entry of this.points) {
      const distance = (entry.x - x) ** 2 + (entry.y - y) ** 2 + (entry.point.small ? 20 : 0);
      if (distance <= smallest) [best, smallest] = [entry, distance];
    }
    return best;
  }

  key(event) {
    const at = this.points.findIndex((entry) => entry.node === document.activeElement);
    if (at < 0) return;
    const {row, x} = this.points[at];
    let to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.points.length - 1}[event.key];
    const sideways = {ArrowUp: -1, ArrowDown: 1}[event.key];
    if (sideways) {
      const others = this.points.filter((entry) => entry.row === row + sideways);
      const best = others.reduce((a, b) => (a && Math.abs(a.x - x) <= Math.abs(b.x - x) ? a : b), null);
      to = best ? this.points.indexOf(best) : at;
    }
    if (to === undefined) return;
    event.preventDefault();
    const next = this.points[Math.min(this.points.length - 1, Math.max(0, to))].node;
    this.points[at].node.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  }

  enter({point, x, y}) {
    this.ring.setAttribute("cx", x);
    this.ring.setAttribute("cy", y);
    this.ring.setAttribute("visibility", "visible");
    this.tip.replaceChildren(html("strong", {}, point.title), ...point.lines.map((line) => html("div", {}, line)));
    this.tip.hidden = false;
    const room = this.box.clientWidth - this.tip.offsetWidth;
    const above = this.plot.offsetTop + y - this.tip.offsetHeight - 14;
    this.tip.style.left = `${Math.max(0, Math.min(room, x + 12))}px`;
    this.tip.style.top = `${above > this.plot.offsetTop - 40 ? above : this.plot.offsetTop + y + 16}px`;
  }

  leave() {
    this.tip.hidden = true;
    this.ring?.setAttribute("visibility", "hidden");
  }
}

function padded(values, share, log) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!values.length) [low, high] = [0, 1];
  if (log) return [low / 1.1, high * 1.1];
  const room = (high - low) * share || Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

function text(content, x, y, anchor) {
  return svg("text", {x, y, "text-anchor": anchor}, content);
}

function marker(series, point, x, y) {
  const radius = point.small ? 2.4 : 5;
  const kind = series.cross ? " cross" : point.hollow ? " hollow" : "";
  const node = svg("path", {
    class: `point${kind}${point.small ? " small" : ""}`,
    d: series.cross ? CROSS : SHAPES[series.shape],
    transform: `translate(${x.toFixed(1)},${y.toFixed(1)}) scale(${radius})`,
    "vector-effect": "non-scaling-stroke",
    stroke: colour(series.colour),
  });
  if (!kind) node.style.fill = colour(series.colour);
  return node;
}

function swatch(series) {
  const icon = svg("svg", {width: 26, height: 14, class: "plot", "aria-hidden": "true"});
  icon.style.width = "26px";
  const dashes = series.dashed ? {"stroke-dasharray": "5 3"} : {};
  if (series.line) icon.append(svg("path", {class: "curve", d: "M1,7H25", stroke: colour(series.colour), ...dashes}));
  icon.append(marker(series, {}, 13, 7));
  return icon;
}

function frontLine(front, scales) {
  let path = "";
  for (const [x, y] of front) path += path ? `H${scales.x(x)}V${scales.y(y)}` : `M${scales.x(x)},${scales.y(y)}`;
  return svg("path", {class: "front", d: path});
}
