// What the agent sees: the frames that its network is given, numbers, or the state of a table.

import { element, heading, number } from "./elements.js";

const GAP = 4; // pixels between frames
const BARS = 12; // numbers that are drawn as bars; more are one strip

export class Seen {
  constructor({ observation, states, numbers }) {
    this.root = element("div", "seen");
    const title = heading("what the agent sees");
    const what = (this.what = element("span"));
    title.append(what);
    this.root.append(title);
    if (observation === "image") {
      this.count = 1;
      this.frames = element("canvas", "frames");
      this.frames.setAttribute("role", "img");
      this.frames.setAttribute("aria-label", "what the agent sees");
      const box = element("div", "shown");
      box.append(this.frames);
      this.root.append(box);
    } else if (observation === "discrete") {
      this.state = element("p", "state");
      what.textContent = `states 0 to ${states - 1}`;
      this.root.append(this.state);
    } else {
      this.vector = new Vector(numbers);
      this.root.append(this.vector.root);
    }
  }

  // picture: frames side by side, of agents that see pictures.
  show(words, picture) {
    if (this.frames) this.showFrames(picture, words.frames);
    else if (this.vector) this.vector.show(words.numbers);
    else this.state.textContent = `state ${words.state}`;
  }

  // picture: so many frames side by side.
  showFrames(picture, count) {
    if (count !== this.count) this.what.textContent = count > 1 ? `${count} frames, newest right` : "";
    this.count = count;
    const wide = picture.width / this.count;
    const size = { width: picture.width + GAP * (this.count - 1), height: picture.height };
    if (this.frames.width !== size.width || this.frames.height !== size.height) Object.assign(this.frames, size);
    const { clientWidth, clientHeight } = this.frames;
    this.frames.classList.toggle("shrunk", clientWidth < size.width || clientHeight < size.height);
    const context = this.frames.getContext("2d");
    for (let i = 0; i < this.count; i += 1) {
      context.drawImage(picture, i * wide, 0, wide, size.height, i * (wide + GAP), 0, wide, size.height);
    }
  }

  // Where the newest frame is on the canvas, in pixels: left, width and height.
  newest() {
    const wide = (this.frames.width - GAP * (this.count - 1)) / this.count;
    return [this.frames.width - wide, wide, this.frames.height];
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
    if (count > BARS) {
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
