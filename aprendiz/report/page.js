/* The page: what is drawn where, from the data that lies in it. chart.js comes before this. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const MAIN = document.getElementById("main");
const MANY_RUNS = 40;
const STATE = { axis: "step", log: false, runs: DATA.runs.length <= MANY_RUNS, smooth: 0, hidden: new Set() };
const CHARTS = [];
const BLOBS = new Map();

/* Numbers of the page: float32, little-endian, base64; decoded when they are first needed. */
function floats(index) {
  if (index === null || index === undefined) return null;
  if (!BLOBS.has(index)) {
    const text = atob(DATA.blobs[index]), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    BLOBS.set(index, new Float32Array(bytes.buffer));
  }
  return BLOBS.get(index);
}

function make(tag, text, parent, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  if (parent) parent.append(element);
  return element;
}

function heading(text, id) {
  const title = make("h2", text, MAIN);
  title.id = id;
  const link = make("a", text, document.getElementById("contents"));
  link.href = `#${id}`;
}

function colored(cell, label) {
  const dot = make("span", null, null, "dot");
  dot.style.background = DATA.colors[label] || "transparent";
  cell.prepend(dot);
}

/* A table that sorts by the column whose head is clicked. cells: text, or {text, sort, className, label, code}; code stands below
   the text and can be copied. Columns in which no row has anything are left out. */
function table(heads, rows, parent) {
  const told = cell => ![undefined, null, "", "\u2013"].includes(cell !== null && typeof cell === "object" ? cell.text : cell);
  const kept = heads.map((_, column) => column === 0 || !rows.length || rows.some(row => told(row[column])));
  [heads, rows] = [heads.filter((_, column) => kept[column]), rows.map(row => row.filter((_, column) => kept[column]))];
  const wide = make("div", null, parent, "wide"), element = make("table", null, wide);
  const head = make("tr", null, make("thead", null, element)), body = make("tbody", null, element);
  const made = rows.map(row => {
    const line = make("tr", null, body);
    const keys = row.map(cell => {
      const given = cell !== null && typeof cell === "object" ? cell : { text: cell };
      const place = make("td", null, line, given.className || (typeof given.sort === "number" ? "number" : given.label ? "group" : ""));
      place.textContent = given.text ?? "";
      if (given.code) {
        const copy = make("button", "copy", place, "copy");
        copy.title = "copy the command";
        copy.addEventListener("click", () => navigator.clipboard.writeText(given.code).then(() => { copy.textContent = "copied"; }));
        make("code", given.code, place);
      }
      if (given.label) colored(place, given.label);
      return given.sort ?? given.text ?? "";
    });
    return { line, keys };
  });
  heads.forEach((text, column) => {
    const cell = make("th", text, head);
    cell.addEventListener("click", () => {
      const rising = cell.getAttribute("aria-sort") === "descending";
      for (const other of head.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const sign = rising ? 1 : -1;
      const missing = key => key === "" || key === "\u2013";
      made.sort((a, b) => {
        const x = a.keys[column], y = b.keys[column];
        if (missing(x) !== missing(y)) return missing(x) ? 1 : -1;
        if (typeof x === "number" && typeof y === "number") return sign * (x - y);
        return sign * String(x).localeCompare(String(y), undefined, { numeric: true });
      });
      body.append(...made.map(one => one.line));
    });
  });
  return { element, made };
}

const number = value => ({ text: short(value), sort: value ?? undefined, className: "number" });
const percent = value => value === null ? "\u2013" : `${(100 * value).toFixed(1)}%`;
const between = ends => ends ? `${short(ends[0])} to ${short(ends[1])}` : "\u2013";

function series(panel, axis, smooth) {
  const found = [];
  for (const [run, step, seconds, updates, value] of panel.lines) {
    const places = { step, seconds, updates }[axis];
    if (places === null) continue;
    const group = DATA.groups[DATA.runs[run].group];
    found.push({
      label: group.label, color: DATA.colors[group.label], x: floats(places), y: smoothed(floats(value), smooth),
      run: DATA.runs[run].name, faint: panel.bands.some(band => band.group === DATA.runs[run].group),
    });
  }
  for (const band of panel.bands) {
    const [x, y, low, high, n] = (band[axis] || []).map(floats);
    if (!x) continue;
    const label = DATA.groups[band.group].label;
    found.push({
      label, color: DATA.colors[label], x, y: smoothed(y, smooth), low: smoothed(low, smooth), high: smoothed(high, smooth), n,
    });
  }
  return found;
}

function redraw() {
  for (const chart of CHARTS) chart.draw();
}

function drawSections() {
  const watcher = new IntersectionObserver(entries => {
    for (const entry of entries) {
      const chart = entry.target.chart;
      chart.visible = entry.isIntersecting;
      if (chart.visible && chart.stale !== false) chart.draw();
    }
  }, { rootMargin: "300px" });
  DATA.sections.forEach((section, index) => {
    heading(section.title, `section-${index}`);
    make("p", DATA.explain_curves, MAIN, "explain");
    const place = make("div", null, MAIN, "panels"), charts = [];
    const state = Object.create(STATE);  // the zoom is of the section, everything else of the page
    state.range = {};
    for (const panel of section.panels) {
      const card = make("div", null, place, "panel");
      make("h4", panel.metric, card);
      const plot = make("div", null, card, "plot");
      plot.dataset.metric = panel.metric;
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", `${panel.metric} of ${section.title}`);
      const chart = new Chart(plot, (axis, smooth) => series(panel, axis, smooth), state,
        { step: section.unit, seconds: "seconds", updates: "updates" }, () => charts.forEach(one => one.draw()), panel.robust);
      plot.chart = chart;
      charts.push(chart);
      CHARTS.push(chart);
      watcher.observe(plot);
    }
    if (section.left_out) make("p", `${section.left_out} more metrics are in the CSV file of the curves.`, MAIN, "explain");
  });
}

function drawTables() {
  DATA.tables.forEach((one, index) => {
    heading(`Final evaluation: ${one.kind}`, `final-${index}`);
    make("p", DATA.explain_table, MAIN, "explain");
    for (const note of one.notes) make("p", `\u26a0 ${note}`, MAIN, "explain");
    drawFinal(one.rows.filter(row => row.own), MAIN);
    const others = one.rows.filter(row => !row.own);
    if (others.length) {
      const box = make("details", null, MAIN, "beside");
      make("summary", `also measured: ${[...new Set(others.map(row => row.metric))].join(", ")}`, box);
      drawFinal(others, box);
    }
    if (one.aggregates.length) {
      make("h3", `Human-normalised scores over ${one.human_tasks.join(", ")}`, MAIN);
      table(["group", "runs", "IQM", "95% interval", "median", "95% interval", "mean", "95% interval", "optimality gap", "95% interval"],
        one.aggregates.map(row => [{ text: row.label, label: row.label }, number(row.runs),
          ...["iqm", "median", "mean", "optimality_gap"].flatMap(name => [number(row[name]), between(row.intervals[name])])]), MAIN);
    }
    if (one.compared.length) drawImprovements(one);
  });
}

function drawFinal(rows, place) {
  table(["task", "group", "metric", "mean", "IQM", "95% interval of the IQM", "over", "human-normalised", "95% interval", "steps a second",
    "memory MB", "scores of runs", "from"],
    rows.map(row => [
      DATA.groups[row.group].task, { text: DATA.groups[row.group].label, label: DATA.groups[row.group].label }, row.metric,
      { ...number(row.mean), className: row.best ? "number best" : "number" }, number(row.iqm), { text: between(row.interval), className: "brief" }, { text: row.over, className: "brief" },
      { text: percent(row.human), sort: row.human ?? undefined, className: "number" },
      { text: row.human_interval ? `${percent(row.human_interval[0])} to ${percent(row.human_interval[1])}` : "", className: "brief" },
      number(row.speed), number(row.memory), row.values.map(short).join(", "), { text: row.source, className: "brief" },
    ]), place);
}

function drawImprovements(one) {
  make("h3", `Probability of improvement (${one.metric}; ${one.tasks.join(", ")})`, MAIN);
  make("p", "How likely a run of the row scores better than a run of the column, with the 95% interval.", MAIN, "explain");
  const { element, made } = table(["", ...one.compared], one.compared.map(better => [{ text: better, label: better },
    ...one.compared.map(worse => {
      const found = one.improvements.find(pair => pair.better === better && pair.worse === worse);
      const ends = found?.interval ? ` [${found.interval.map(end => end.toFixed(2)).join(", ")}]` : "";
      return found ? { text: found.probability.toFixed(2) + ends, sort: found.probability } : "";
    })]), MAIN);
  element.className = "improvement";
  for (const { line, keys } of made) {
    keys.forEach((key, column) => {
      if (typeof key === "number") line.children[column].style.background = `hsl(${120 * key} 60% 50% / 0.25)`;
    });
  }
}

function drawMedia() {
  if (!DATA.media.length) return;
  heading("Samples, texts and videos", "media");
  const byRun = Map.groupBy ? Map.groupBy(DATA.media, one => one.run)
    : DATA.media.reduce((map, one) => map.set(one.run, [...(map.get(one.run) || []), one]), new Map());
  const place = make("div", null, MAIN, "media");
  for (const [run, media] of byRun) {
    const box = make("details", null, place, media.length > 1 ? "several" : ""), about = DATA.runs[run];
    box.open = byRun.size <= 12;
    const title = make("summary", `${DATA.groups[about.group].label}, seed ${about.seed ?? "\u2013"}: ${about.name}`, box);
    colored(title, DATA.groups[about.group].label);
    const gallery = make("div", null, box, "gallery");
    for (const one of media) drawMedium(one, gallery);
  }
}

function drawMedium(one, gallery) {
  const figure = make("figure", null, gallery);
  if (one.content && one.kind === "text") {
    make("pre", one.content, figure);
  } else if (one.content) {
    const shown = make(one.kind === "video" ? "video" : "img", null, figure);
    shown.src = one.content;
    if (one.kind === "video") Object.assign(shown, { controls: true, loop: true, muted: true }); else shown.alt = one.name;
  }
  const caption = make("figcaption", one.step === null ? "" : `after ${one.step.toLocaleString("en")}: `, figure);
  const link = make("a", one.content ? one.name : `${one.name} (not in this page)`, caption);
  link.href = one.link;
}

function drawRuns() {
  heading(`Runs (${DATA.runs.length})`, "all-runs");
  const local = DATA.runs.every(run => run.origin === "local");
  const filter = make("input", null, MAIN, "filter");
  filter.placeholder = "show runs whose row has ...";
  const { made } = table(["run", "group", "state", "seed", "steps", "time", "steps a second", "memory MB", "score", "started", "from",
    ...DATA.differing.map(([name]) => name)],
  DATA.runs.map((run, index) => [{ text: run.name, code: run.command }, { text: DATA.groups[run.group].label, label: DATA.groups[run.group].label }, run.state, run.seed,
    number(run.step), { text: duration(run.seconds), sort: run.seconds }, number(run.speed), number(run.memory), number(run.score),
    { text: run.created.slice(0, 16).replace("T", " "), className: "brief" }, { text: local ? "" : run.origin, className: "brief" },
    ...DATA.differing.map(([name, values]) => ({ text: values[index], className: differs(run, name, values[index]) ? "differs" : "" }))]), MAIN);
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { line } of made) line.hidden = !words.every(word => line.textContent.toLowerCase().includes(word));
  });
}

/* Whether a setting of a run is not what most runs of its family have. */
function differs(run, name, value) {
  const kind = DATA.groups[run.group].kind, own = DATA.configurations.find(one => one.kind === kind);
  const found = own.differing.find(([other]) => other === name);
  return Boolean(found) && found[1] !== value;
}

function drawConfigurations() {
  heading("Configurations", "configurations");
  make("p", "Settings in which the runs of a family differ, by group; what is not as with most of them is marked. Where runs of one group differ, all of "
    + "their values are named.", MAIN, "explain");
  const values = new Map(DATA.differing);
  for (const one of DATA.configurations) {
    make("h3", one.kind, MAIN);
    if (one.groups.length > 30) {
      make("p", `${one.groups.length} groups are too many for columns: the table of runs above has all of these settings.`, MAIN);
    } else if (one.differing.length) {
      const columns = one.groups.map(place => DATA.groups[place]);
      table(["setting", ...columns.map(group => `${group.task}: ${group.label}`)], one.differing.map(([name, common]) => [name,
        ...columns.map(group => {
          const own = [...new Set(group.runs.map(run => values.get(name)[run]))];
          return { text: own.slice(0, 6).join(", ") + (own.length > 6 ? ", ..." : ""), className: own.length === 1 && own[0] === common ? "" : "differs" };
        })]), MAIN).element.className = "configurations";
    } else {
      make("p", "They differ in nothing but learner, task and seed.", MAIN);
    }
    const box = make("details", null, MAIN);
    make("summary", `What all of them share (${one.common.length} settings)`, box);
    table(["setting", "value"], one.common, box);
  }
}

function drawLegend() {
  const legend = document.getElementById("legend");
  for (const label of Object.keys(DATA.colors)) {
    const chip = make("button", null, legend, "chip");
    make("i", null, chip).style.background = DATA.colors[label];
    make("span", label, chip);
    chip.addEventListener("click", event => {
      const labels = Object.keys(DATA.colors);
      if (event.shiftKey) {
        const alone = STATE.hidden.size === labels.length - 1 && !STATE.hidden.has(label);
        STATE.hidden = new Set(alone ? [] : labels.filter(other => other !== label));
      } else if (!STATE.hidden.delete(label)) {
        STATE.hidden.add(label);
      }
      [...legend.children].forEach((other, index) => other.classList.toggle("off", STATE.hidden.has(labels[index])));
      redraw();
    });
  }
}

function bind(id, event, change) {
  const element = document.getElementById(id);
  element.addEventListener(event, () => { change(element); redraw(); });
  return element;
}

document.getElementById("about").textContent = DATA.about;
for (const note of DATA.notes) make("li", note, document.getElementById("notes"));
bind("axis", "change", element => { STATE.axis = element.value; });
bind("log", "change", element => { STATE.log = element.checked; });
bind("runs", "change", element => { STATE.runs = element.checked; }).checked = STATE.runs;
bind("smooth", "input", element => { STATE.smooth = Number(element.value); });
// The controls stay in view, so that a heading that is jumped to must come to lie below them.
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--controls", `${target.offsetHeight}px`))
  .observe(document.getElementById("controls"));
window.addEventListener("resize", redraw);
drawLegend();
drawTables();
drawSections();
drawMedia();
drawRuns();
drawConfigurations();
