// What each chart of the page shows, from the data that the page holds.

const DATA = JSON.parse(document.getElementById("data").textContent);
const percent = (value) => `${Number(value.toFixed(2))}`;
const systemNames = [...new Set([
  ...DATA.figures.flatMap((figure) => figure.systems.map((system) => system.name)),
  ...(DATA.cost?.points ?? []).map((point) => point.system),
  ...(DATA.learning?.curves ?? []).map((curve) => curve.system),
])];
const style = (name) => ({colour: systemNames.indexOf(name), shape: shape(systemNames.indexOf(name))});

function pathLines(point) {
  const [sub, del, ins, words] = point.counts;
  const [low, high] = point.interval;
  const several = point.seeds > 1;
  return [
    `path ${point.path}`,
    `${DATA.rate} ${point.wer.toFixed(2)} % (95 % interval ${low.toFixed(2)} to ${high.toFixed(2)}${several ? `, over seeds and ${DATA.resampled}` : ""})`,
    `${sub} substitutions, ${del} deletions, ${ins} insertions ${several ? `over ${point.seeds} seeds of ${words} ${DATA.score} each` : `in ${words} ${DATA.score}`}`,
    `${point.trained ? "trained" : "never trained"}; ${several ? `mean of ${point.seeds} seeds` : `seed ${point.seed}`}`,
  ];
}

function depthSeries(system, number, count) {
  const shift = 0.16 * (number - (count - 1) / 2);
  const points = system.depths.flatMap((depth) => {
    const {reported} = depth;
    const others = depth.paths.filter((path) => path.id !== reported.id || reported.seeds > 1);
    const shown = {x: depth.depth + shift, y: reported.wer, hollow: !reported.trained};
    shown.title = `${system.name}, depth ${depth.depth}: the reported path`;
    shown.lines = [...pathLines(reported), ...(depth.paths.length > 1 ? [spread(depth)] : [])];
    return [shown, ...others.map((path) => ({
      x: depth.depth + shift, y: path.wer, small: true, title: `${system.name}, depth ${depth.depth}`, lines: pathLines(path),
    }))];
  });
  const several = system.depths.filter((depth) => depth.paths.length > 1);
  return {
    name: system.name, label: system.layers ? `${system.name} (${system.layers} physical layers)` : system.name,
    ...style(system.name), line: true, points,
    band: system.depths.map((depth) => [depth.depth + shift, depth.mean - depth.sd, depth.mean + depth.sd]),
    whiskers: several.map((depth) => {
      const wers = depth.paths.map((path) => path.wer);
      return [depth.depth + shift, Math.min(...wers), Math.max(...wers)];
    }),
  };
}

function spread(depth) {
  const wers = depth.paths.map((path) => path.wer);
  return `${wers.length} paths${depth.reported.seeds > 1 ? " of all seeds" : ""}: ${Math.min(...wers).toFixed(2)} to ${Math.max(...wers).toFixed(2)} %, mean ${depth.mean.toFixed(2)}, standard deviation ${depth.reported.seeds > 1 ? "within a seed " : ""}${depth.sd.toFixed(2)}`;
}

function depthPlan(label, series) {
  const depths = [...new Set(series.flatMap((one) => one.points.map((point) => Math.round(point.x))))].sort((a, b) => a - b);
  const whole = (tick) => String(tick);
  return {label, series, x: {label: "executed depth (layers)", ticks: depths, format: whole}, y: {label: `${DATA.rate} %`, format: percent}};
}

function drawDepths(box) {
  const figure = DATA.figures[box.dataset.number];
  const series = figure.systems.map((system, number) => depthSeries(system, number, figure.systems.length));
  if (figure.baselines.length) {
    const points = figure.baselines.map((point) => ({
      x: point.depth, y: point.wer, title: `${point.system}, all physical, depth ${point.depth}`, lines: pathLines(point),
    }));
    series.push({name: "all-physical", colour: 6, cross: true, dashed: true, line: true, points});
  }
  new Chart(box).show(depthPlan(`${DATA.rate} by executed depth, measured`, series));
}

function drawPublished(box) {
  const {systems, baselines} = DATA.figures[box.dataset.number].published[box.dataset.panel];
  const point = (name) => (depth) => ({
    x: depth.depth, y: depth.wer, hollow: !depth.trained, title: `${name}, depth ${depth.depth}, as published`,
    lines: [`${DATA.rate} ${depth.wer.toFixed(2)} %`, depth.trained ? "trained depth" : "never trained"],
  });
  const series = systems.map(({name, depths}) => ({name, ...style(name), line: true, points: depths.map(point(name))}));
  const rest = {name: "all-physical", colour: 6, cross: true, dashed: true, line: true, points: baselines.map(point("all-physical"))};
  const shown = [...series, rest].filter((one) => one.points.length);
  new Chart(box).show(depthPlan("WER by executed depth, published", shown));
}

function select(label, options, changed) {
  const node = html("select", {onchange: () => changed(node.value)});
  options.forEach(([value, text]) => node.append(html("option", {value}, text)));
  return [html("label", {}, label, node), node];
}

function checkbox(label, checked, changed) {
  const node = html("input", {type: "checkbox", checked, onchange: () => changed(node.checked)});
  return html("label", {}, node, label);
}

// The points that no other beats in both, from cheap to dear.
function paretoFront(points) {
  const front = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || a.y - b.y))
    if (!front.length || point.y < front.at(-1).y || (point.y === front.at(-1).y && point.x === front.at(-1).x)) front.push(point);
  return front;
}

function drawCosts(box) {
  const {axes, families, points, audio_seconds: seconds} = DATA.cost;
  const state = {axis: axes[0], all: false};
  const has = (point) => point.costs[state.axis.key] !== null;
  const value = (point, axis) => (point.costs[axis.key] === null ? "not measured" : axis.key === "real_time_factor" ? String(Number(point.costs[axis.key].toPrecision(3))) : short(point.costs[axis.key], axis.unit));
  const axisLabel = (axis) => (axis.key === "macs" ? `MACs for ${seconds} s of audio` : axis.label);
  const plan = (family, found) => {
    const own = points.filter((point) => point.family === family.name);
    const wanted = own.filter((point) => point.in_table || state.all);
    const shown = wanted.filter(has);
    const without = [...new Set(wanted.filter((point) => !has(point)).map((point) => point.system))];
    const names = [...new Set(own.map((point) => point.system))];
    const series = names.map((name) => ({
      name, ...style(name),
      points: shown.filter((point) => point.system === name).map((point) => ({
        x: point.costs[state.axis.key], y: point.wer, hollow: !point.trained, small: !point.in_table,
        name: point.depth ? `${name} at depth ${point.depth}` : `${name} ${point.path}`,
        title: point.depth ? `${name}, depth ${point.depth}` : name,
        lines: [`path ${point.path}`, `${DATA.rate} ${point.wer.toFixed(2)} %${point.seeds > 1 ? `, mean of ${point.seeds} seeds` : ""}`, ...axes.map((axis) => `${axisLabel(axis)}: ${value(point, axis)}`)],
      })),
    })).filter((one) => one.points.length);
    const front = (visible) => paretoFront(visible.flatMap((one) => one.points));
    return {
      label: `${DATA.rate} against ${state.axis.label}${families.length > 1 ? ` (${family.title})` : ""}`, series, y: {label: `${DATA.rate} %`, format: percent},
      x: {label: axisLabel(state.axis), format: (tick) => short(tick, state.axis.unit)},
      front: (visible) => front(visible).map((point) => [point.x, point.y]),
      changed: (chart) => {
        const best = front(chart.visible());
        found.textContent = `Beaten by no other, from cheap to dear: ${best.map((point) => `${point.name} (${point.y.toFixed(2)} %)`).join(", ") || "none"}.`
          + (without.length ? ` Not measured, and not shown: ${without.join(", ")}.` : "");
      },
    };
  };
  const [label] = select("Cost", axes.map((axis) => [axis.key, axisLabel(axis)]), (key) => {
    state.axis = axes.find((axis) => axis.key === key);
    redraw();
  });
  const choices = html("div", {class: "choices"}, label);
  if (points.some((point) => !point.in_table))
    choices.append(checkbox("also the paths that no table reports", false, (checked) => { state.all = checked; redraw(); }));
  box.before(choices);
  // A chart for each family: a small encoder and a Conformer on one scale would look like a comparison.
  const charts = families.map((family) => {
    const [inner, found] = [html("div", {class: "chart"}), html("p", {class: "hint", "aria-live": "polite"})];
    const caption = families.length > 1 ? [html("figcaption", {}, family.title)] : [];
    box.append(html("figure", {}, ...caption, inner, found));
    return [new Chart(inner), () => plan(family, found)];
  });
  const redraw = () => charts.forEach(([chart, now]) => { chart.show(now()); chart.plan.changed(chart); });
  redraw();
}

function drawLearning(box) {
  const {terms, curves} = DATA.learning;
  const seeds = new Set(curves.map((curve) => curve.seed)).size;
  const state = {term: terms[0], log: true};
  const points = (curve, kind) => (curve[kind][state.term] ?? []).map(([step, value]) => ({
    x: step, y: value, hollow: kind === "dev", title: `${curve.system}, step ${step}`,
    lines: [`${kind === "dev" ? "development set, " : ""}${state.term} ${Number(value.toPrecision(4))}`, ...stage(curve, step)],
  }));
  const plan = () => ({
    label: `${state.term} by training step`, x: {label: "training step"}, y: {label: state.term, log: state.log},
    series: curves.flatMap((curve) => {
      const name = seeds > 1 ? `${curve.system}, seed ${curve.seed}` : curve.system;
      return [
        {name, ...style(curve.system), line: true, points: points(curve, "train")},
        {name, ...style(curve.system), line: true, dashed: true, points: points(curve, "dev")},
      ];
    }).filter((series) => series.points.length),
  });
  const chart = new Chart(box);
  const redraw = () => chart.show(plan());
  const [label] = select("Term", terms.map((term) => [term, term]), (term) => { state.term = term; redraw(); });
  const every = (hidden) => () => {
    chart.hidden = new Set(hidden ? plan().series.map((series) => series.name) : []);
    redraw();
  };
  box.before(html("div", {class: "choices"}, label,
    checkbox("logarithmic", true, (checked) => { state.log = checked; redraw(); }),
    html("button", {type: "button", onclick: every(false)}, "show all"),
    html("button", {type: "button", onclick: every(true)}, "hide all")));
  redraw();
}

function stage(curve, step) {
  const found = curve.stages.filter(([, first]) => step > first).at(-1);
  return curve.stages.length > 1 && found ? [`stage ${found[0]}`] : [];
}

const DRAW = {depth: drawDepths, published: drawPublished, cost: drawCosts, learning: drawLearning};
for (const box of document.querySelectorAll("[data-chart]")) DRAW[box.dataset.chart](box);
