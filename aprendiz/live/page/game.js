// An agent at play: the game, what the agent sees and thinks, and the buttons.

import { Bars } from "./bars.js";
import { element, number } from "./elements.js";
import { line } from "./charts.js";
import { Controls } from "./controls.js";
import { Table } from "./table.js";

const WHY = { greedy: "", random: "random action", forced: "pressed by the protocol", "by hand": "by hand" };
const VALUES = 400;

export class Game {
  constructor(description, control, you) {
    this.description = description;
    this.history = description.history;
    this.root = element("article", "card view-game");
    this.notice = element("p", "notice");
    const title = element("h2", "", description.title);
    this.root.append(title, this.notice, this.layout());
    this.controls = new Controls(this.root, description, control, you);
  }

  layout() {
    const game = element("div", "game");
    const left = element("div");
    const screen = element("div", "screen");
    this.canvas = element("canvas", "picture");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "the game");
    this.overlay = element("canvas", "overlay");
    this.banner = element("div", "banner");
    this.banner.hidden = true;
    screen.append(this.canvas, this.overlay, this.banner);
    this.seen = element("div", "seen");
    left.append(screen, this.seen);
    this.layoutSeen();

    const right = element("div");
    const numbers = element("div", "numbers");
    this.numbers = {};
    for (const name of ["score", "lives", "step", "game", "decisions a second"]) {
      const part = element("div", `of-${name.split(" ")[0]}`);
      this.numbers[name] = element("b");
      part.append(this.numbers[name], name);
      part.hidden = name === "lives";
      numbers.append(part);
    }
    this.why = element("span", "why");
    const heading = this.heading("value over time");
    this.value = element("span", "value");
    heading.append(this.value);
    this.chart = element("canvas", "chart");
    const barsHeading = this.heading("");
    this.barsTitle = barsHeading.firstChild;
    barsHeading.append(this.why);
    this.bars = new Bars(this.description);
    this.finished = element("p", "keys finished");
    this.tables = element("div");
    right.append(numbers, heading, this.chart, barsHeading, this.bars.root, this.finished);
    game.append(left, right);
    const whole = element("div");
    whole.append(game, this.tables);
    return whole;
  }

  heading(text) {
    const heading = element("h3");
    heading.append(element("span", "", text));
    return heading;
  }

  layoutSeen() {
    const { observation, frames, states } = this.description;
    const heading = this.heading("what the agent sees");
    const what = element("span");
    heading.append(what);
    this.seen.append(heading);
    if (observation === "image") {
      what.textContent = frames > 1 ? `${frames} frames, newest right` : "";
      this.frames = element("canvas", "frames");
      this.seen.append(this.frames);
    } else if (observation === "discrete") {
      this.state = element("p", "state");
      this.seen.append(this.state);
      what.textContent = `states 0 to ${states - 1}`;
    } else {
      this.vector = new Vector(this.description.numbers);
      this.seen.append(this.vector.root);
    }
  }

  async receive(channel, words, blobs) {
    if (channel === "moment") await this.moment(words, blobs);
    else if (channel === "controls") this.controls.show(words.controls);
    else if (channel === "notice") this.notice.textContent = words.notice;
    else if (channel === "table") this.showTable(words.table);
  }

  refuse(reason) {
    this.controls.refuse(reason);
  }

  remove() {
    this.controls.remove();
  }

  showTable(table) {
    this.table = new Table(table);
    this.tables.replaceChildren(this.heading("value and best action of each state"), this.table.root);
    if (this.last) this.table.mark(this.last.state);
  }

  async moment(words, blobs) {
    const pictures = await Promise.all(blobs.map((blob) => createImageBitmap(new Blob([blob]))));
    this.last = words;
    this.draw(this.canvas, pictures[0]);
    const isImage = this.description.observation === "image";
    if (isImage) this.draw(this.frames, pictures[1]);
    this.drawOverlay(words.saliency ? pictures[isImage ? 2 : 1] : null);
    if (this.state) this.state.textContent = `state ${words.state}`;
    if (this.vector) this.vector.show(words.numbers);
    this.table?.mark(words.state);

    this.numbers.score.textContent = number(words.score);
    this.numbers.step.textContent = number(words.step);
    this.numbers.game.textContent = number(words.game + 1);
    this.numbers["decisions a second"].textContent = number(words.rate, 0);
    this.numbers.lives.textContent = number(words.lives);
    this.numbers.lives.parentElement.hidden = words.lives === null;
    this.banner.hidden = !words.ended;
    this.banner.textContent = `${words.ended}: score ${number(words.score)}`;
    this.why.textContent = WHY[words.why] ?? words.why;
    this.barsTitle.textContent = this.bars.show(words);
    const past = words.finished.map((score) => number(score)).join(", ");
    this.finished.textContent = past ? `games so far: ${past}` : "";
    this.root.dataset.decision = words.decision;

    if (words.value !== null) {
      this.history.push([words.decision, words.value, words.game]);
      if (this.history.length > VALUES) this.history.splice(0, this.history.length - VALUES);
    }
    this.value.textContent = number(words.value, 3);
    const points = this.history.filter(([, value]) => value !== null);
    const starts = points.filter(([, , game], i) => i && game !== points[i - 1][2]).map(([decision]) => decision);
    line(this.chart, points, { marks: starts });
  }

  draw(canvas, picture) {
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      Object.assign(canvas, { width: picture.width, height: picture.height });
    }
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  // Red where the value comes from; the map is a picture in grey, as large as a frame that the agent sees.
  drawOverlay(saliency) {
    const context = this.overlay.getContext("2d", { willReadFrequently: true });
    if (!saliency) {
      context.clearRect(0, 0, this.overlay.width, this.overlay.height);
      return;
    }
    Object.assign(this.overlay, { width: saliency.width, height: saliency.height });
    context.drawImage(saliency, 0, 0);
    const map = context.getImageData(0, 0, saliency.width, saliency.height);
    for (let i = 0; i < map.data.length; i += 4) {
      map.data[i + 3] = map.data[i] * 0.85;
      map.data[i] = 255;
      map.data[i + 1] = 40;
      map.data[i + 2] = 90;
    }
    context.putImageData(map, 0, 0);
  }
}

// An observation that is a list of numbers: bars for a few, one strip of cells for many.
class Vector {
  constructor(names) {
    this.names = names;
    this.largest = [];
    this.root = element("div");
  }

  show(numbers) {
    if (this.root.childElementCount === 0) this.layout(numbers.length);
    numbers.forEach((value, i) => {
      this.largest[i] = Math.max(this.largest[i] ?? 1e-9, Math.abs(value ?? 0));
      const share = (value ?? 0) / this.largest[i];
      const cell = this.cells[i];
      if (!cell) return;
      if (cell.fill) {
        Object.assign(cell.fill.style, { left: `${50 + Math.min(share, 0) * 50}%`, width: `${Math.abs(share) * 50}%` });
        cell.value.textContent = number(value, 3);
      } else {
        cell.style.background = `color-mix(in srgb, var(--${share > 0 ? "amber" : "blue"}) ${Math.abs(share) * 100}%, var(--track))`;
      }
    });
  }

  layout(count) {
    this.cells = [];
    if (count > 12) {
      this.root.className = "strip";
      for (let i = 0; i < Math.min(count, 1024); i += 1) this.cells.push(element("i"));
      this.root.append(...this.cells);
      return;
    }
    for (let i = 0; i < count; i += 1) {
      const row = element("div", "bar");
      const track = element("span", "track");
      const fill = element("span", "fill");
      const value = element("span", "value");
      track.append(fill);
      row.append(element("span", "name", this.names[i] ?? `number ${i}`), track, value);
      this.root.append(row);
      this.cells.push({ fill, value });
    }
  }
}
