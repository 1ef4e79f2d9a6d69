// The table of a tabular agent, on the map of its environment; where there is none, its states in order.

import { element, short, viridis } from "./elements.js";

export class Table {
  constructor(table) {
    this.cells = new Map();
    const shown = this.shown(table);
    const values = shown.map((state) => table.values[state]).filter((value) => value !== null);
    this.low = Math.min(...values);
    this.high = Math.max(...values);
    const panels = table.panels.length ? table.panels : [inOrder(table.values.length)];
    this.isSmall = panels.length === 1 && panels[0].states[0].length <= 8;
    this.root = element("div", panels.length > 4 ? "tables small" : "tables");
    this.root.append(...panels.map((panel) => this.panel(panel, table, panels.length > 4)));
  }

  // States whose values are drawn.
  shown(table) {
    const marked = new Set(table.panels.flatMap((panel) => Object.keys(panel.marks).map(Number)));
    const laid = new Set(table.panels.flatMap((panel) => panel.states.flat()));
    return table.values.map((_, state) => state).filter(
      (state) => table.known[state] && !marked.has(state) && (!table.panels.length || laid.has(state)),
    );
  }

  panel(panel, table, small) {
    const figure = element("figure");
    if (panel.title) figure.append(element("figcaption", "", panel.title));
    const grid = element("table");
    if (panel.columns.length) {
      const row = grid.insertRow();
      row.append(element("th"), ...panel.columns.map((name) => element("th", "", name)));
    }
    panel.states.forEach((states, i) => {
      const row = grid.insertRow();
      if (panel.rows.length) row.append(element("th", "", panel.rows[i]));
      row.append(...states.map((state) => this.cell(state, panel, table, small)));
    });
    figure.append(grid);
    return figure;
  }

  cell(state, panel, table, small) {
    if (state < 0) return element("td", "wall");
    const cell = element("td");
    this.cells.set(state, cell);
    const mark = panel.marks[state];
    if (mark !== undefined) {
      cell.append(element("b", "", mark));
    } else if (!table.known[state]) {
      cell.textContent = "·";
    } else {
      const value = table.values[state];
      const [background, ink] = viridis((value - this.low) / Math.max(this.high - this.low, 1e-9));
      Object.assign(cell.style, { background, color: ink });
      cell.append(element("b", "", table.best[state]), small ? "" : short(value));
      cell.title = `state ${state}: ${short(value)}`;
    }
    return cell;
  }

  // Where the game stands.
  mark(state) {
    this.here?.classList.remove("here");
    this.here = this.cells.get(state);
    this.here?.classList.add("here");
  }
}

function inOrder(count) {
  const side = Math.ceil(Math.sqrt(count));
  const states = [];
  for (let row = 0; row * side < count; row += 1) {
    states.push(Array.from({ length: side }, (_, i) => (row * side + i < count ? row * side + i : -1)));
  }
  return { title: "states in order", states, marks: {}, rows: [], columns: [] };
}
