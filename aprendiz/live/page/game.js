// An agent at play: the game, what the agent sees and thinks, and the buttons.

import { Bars } from "./bars.js";
import { line } from "./charts.js";
import { Controls } from "./controls.js";
import { element, heading, number } from "./elements.js";
import { Overlay } from "./overlay.js";
import { Seen } from "./seen.js";
import { Table } from "./table.js";

const WHY = { greedy: "", random: "random action", forced: "pressed by the protocol", "by hand": "by hand" };
const VALUES = 400;

export class Game {
  constructor(description, control, you) {
    this.description = description;
    this.history = description.history;
    this.root = element("article", "card view-game waiting"); // for the first moment
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
    this.banner = element("div", "banner");
    this.banner.hidden = true;
    screen.append(this.canvas, this.banner);
    this.finished = element("p", "keys finished");
    left.append(screen, this.finished);

    const right = element("div");
    this.seen = new Seen(this.description);
    this.overlay = new Overlay(this.description.saliency_on === "frames" ? this.seen.frames : this.canvas);
    const valueHeading = heading("value over time");
    this.value = element("span", "value");
    valueHeading.append(this.value);
    this.chart = element("canvas", "chart");
    this.chart.setAttribute("role", "img");
    this.chart.setAttribute("aria-label", "value over time");
    const barsHeading = heading("");
    this.barsTitle = barsHeading.firstChild;
    this.why = element("span", "why");
    barsHeading.append(this.why);
    this.bars = new Bars(this.description);
    right.append(this.layoutNumbers(), this.seen.root, barsHeading, this.bars.root, valueHeading, this.chart);
    game.append(left, right);
    this.tables = element("div");
    this.right = right;
    this.whole = element("div");
    this.whole.append(game);
    return this.whole;
  }

  layoutNumbers() {
    const root = element("div", "numbers");
    this.numbers = {};
    for (const name of ["score", "lives", "step", "game", "decisions a second"]) {
      const part = element("div", `of-${name.split(" ")[0]}`);
      this.numbers[name] = element("b");
      part.append(this.numbers[name], name);
      part.hidden = name === "lives";
      root.append(part);
    }
    return root;
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
    this.tables.replaceChildren(heading("value and best action of each state"), this.table.root);
    (this.table.isSmall ? this.right : this.whole).append(this.tables);
    if (this.last) this.table.mark(this.last.state);
  }

  async moment(words, blobs) {
    const pictures = await Promise.all(blobs.map((blob) => createImageBitmap(new Blob([blob]))));
    this.last = words;
    this.root.classList.remove("waiting");
    this.draw(pictures[0]);
    const isImage = this.description.observation === "image";
    this.seen.show(words, pictures[1]);
    this.showSaliency(words.saliency ? pictures[isImage ? 2 : 1] : null);
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

    for (const picture of pictures) picture.close();

    if (words.value !== null) {
      const last = this.history.at(-1);
      if (last?.[0] === words.decision && last[2] === words.game) this.history.pop(); // drawn anew
      this.history.push([words.decision, words.value, words.game]);
      if (this.history.length > VALUES) this.history.splice(0, this.history.length - VALUES);
    }
    this.value.textContent = number(words.value, 3);
    const points = this.history.filter(([, value]) => value !== null);
    const starts = points.filter(([, , game], i) => i && game !== points[i - 1][2]).map(([decision]) => decision);
    line(this.chart, points, { marks: starts, range: true });
  }

  draw(picture) {
    const { canvas } = this;
    if (canvas.width !== picture.width || canvas.height !== picture.height) {
      Object.assign(canvas, { width: picture.width, height: picture.height });
    }
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  // Over the game, or over the newest frame where the agent sees another picture than we do.
  showSaliency(saliency) {
    if (this.overlay.base === this.canvas) this.overlay.show(saliency);
    else this.overlay.show(saliency, ...this.seen.newest());
  }
}
