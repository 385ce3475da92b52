// Two systems' transcripts aligned with the reference, for the utterances on which they differ most.

const OPERATIONS = {C: "correct", S: "substituted", D: "deleted", I: "inserted"};

// What stands before and at each reference word: {inserted: [[...], ...], at: [{word, operation}, ...]}.
function columns(reference, [operations, words]) {
  const result = {inserted: [[]], at: []};
  let next = 0;
  for (const operation of operations) {
    if (operation === "I") {
      result.inserted.at(-1).push(words[next++]);
      continue;
    }
    const word = operation === "S" ? words[next++] : operation === "C" ? reference[result.at.length] : "";
    result.at.push({word, operation});
    result.inserted.push([]);
  }
  return result;
}

function alignmentRows(reference, a, b) {
  const sides = [columns(reference, a), columns(reference, b)];
  const rows = [[], [], []];
  for (let place = 0; place <= reference.length; place++) {
    const wide = Math.max(...sides.map((side) => side.inserted[place].length));
    for (let n = 0; n < wide; n++) {
      rows[0].push(null);
      sides.forEach((side, row) => {
        const word = side.inserted[place][n];
        rows[row + 1].push(word === undefined ? null : {word, operation: "I"});
      });
    }
    if (place === reference.length) break;
    rows[0].push({word: reference[place], operation: "C"});
    sides.forEach((side, row) => rows[row + 1].push(side.at[place]));
  }
  return rows;
}

function wordCell(cell) {
  if (cell === null) return html("td");
  const {word, operation} = cell;
  const node = html("td", {class: operation, dir: "auto"}, html("span", {class: "word"}, operation === "D" ? "∅" : word));
  if (operation !== "C")
    node.append(html("span", {class: `op ${operation}`, "aria-hidden": "true"}, operation), html("span", {class: "unseen"}, ` (${OPERATIONS[operation]})`));
  return node;
}

function utteranceView(utterance, number, a, b, labels) {
  const heading = html("h3", {}, `${number}. ${utterance.set}, ${utterance.id}`);
  const view = html("article", {class: "utterance"}, heading);
  if (utterance.sound) view.append(html("audio", {controls: true, preload: "none", src: utterance.sound, "aria-label": `Sound of ${utterance.id}`}));
  else view.append(html("p", {class: "hint"}, utterance.file ? `Sound not embedded: ${utterance.file}` : "Sound not available"));
  const names = ["reference", `A: ${counted(a)}`, `B: ${counted(b)}`];
  const rows = alignmentRows(utterance.words, a, b).map((cells, row) =>
    html("tr", {}, html("th", {scope: "row"}, names[row]), ...cells.map(wordCell)));
  const caption = html("caption", {class: "unseen"}, `Reference, A (${labels[0]}) and B (${labels[1]}) of ${utterance.id}`);
  const table = html("table", {}, caption, html("tbody", {}, ...rows));
  view.append(html("div", {class: "scroll", role: "region", tabindex: "0", "aria-label": `Alignment of ${utterance.id}`}, table));
  return view;
}

const errorCount = ([, , errors]) => errors;
const counted = (heard) => `${errorCount(heard)} error${errorCount(heard) === 1 ? "" : "s"}`;

function mostDifferent(a, b, side) {
  const entries = DATA.viewer.utterances.map((utterance) => {
    const pair = [utterance.heard[a], utterance.heard[b]];
    return {utterance, pair, gap: errorCount(pair[1]) - errorCount(pair[0]), total: errorCount(pair[0]) + errorCount(pair[1])};
  }).filter(({gap}) => (side === "a" ? gap > 0 : side === "b" ? gap < 0 : gap !== 0));
  const weight = ({gap}) => Math.abs(gap);
  const heard = ({utterance}) => (utterance.sound ? 1 : 0);
  return entries.sort((x, y) => weight(y) - weight(x) || heard(y) - heard(x) || y.total - x.total).slice(0, DATA.viewer.shown);
}

function drawViewer(box) {
  const {points, first, utterances, all_utterances: all} = DATA.viewer;
  const state = {a: first[0], b: first[1], side: "both"};
  const list = html("div");
  const found = html("p", {class: "hint", "aria-live": "polite"});
  const redraw = () => {
    const labels = [points[state.a].label, points[state.b].label];
    const shown = mostDifferent(state.a, state.b, state.side);
    const part = utterances.length < all ? ` (looked for among ${utterances.length} of ${all} utterances)` : "";
    found.textContent = shown.length ? `${shown.length} utterances, the largest difference first${part}.` : `No such utterance${part}.`;
    list.replaceChildren(...shown.map(({utterance, pair}, n) => utteranceView(utterance, n + 1, ...pair, labels)));
  };
  const options = points.map(({label}, number) => [number, label]);
  const [labelA, selectA] = select("A", options, (value) => { state.a = Number(value); redraw(); });
  const [labelB, selectB] = select("B", options, (value) => { state.b = Number(value); redraw(); });
  [selectA.value, selectB.value] = first;
  const sides = [["both", "where they differ"], ["a", "where A is better"], ["b", "where B is better"]];
  const [labelSide] = select("Show", sides, (value) => { state.side = value; redraw(); });
  box.append(html("div", {class: "choices"}, labelA, labelB, labelSide), found, list);
  redraw();
}

if (DATA.viewer) drawViewer(document.getElementById("viewer"));
