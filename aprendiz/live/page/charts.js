// Lines on a canvas, and learning curves that say their values under the pointer.

import { colour, element, sharp, short } from "./elements.js";

// points: [x, y, ...], x rising. marks: x of thin vertical lines. axes: numbers at both axes; range: the least and the
// greatest y alone. Returns the positions of the points on the canvas.
export function line(canvas, points, { marks = [], axes = false, range = false, hovered = -1 } = {}) {
  const [context, width, height] = sharp(canvas);
  if (!points.length) return [];
  const left = axes || range ? 46 : 2;
  const bottom = axes ? 18 : 6;
  const xs = points.map((point) => point[0]);
  const ys = points.map((point) => point[1]);
  const [x0, x1] = [xs[0], xs[xs.length - 1]];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  if (y1 - y0 < 1e-12) [y0, y1] = [y0 - 0.5, y1 + 0.5];
  const atX = (x) => left + ((x - x0) / Math.max(x1 - x0, 1e-9)) * (width - left - 4);
  const atY = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - bottom - 6);
  context.strokeStyle = colour("line");
  context.fillStyle = colour("dim");
  context.lineWidth = 1;
  context.font = "10px system-ui, sans-serif";
  context.beginPath();
  for (const x of marks) {
    context.moveTo(atX(x), 2);
    context.lineTo(atX(x), height - bottom);
  }
  if (axes || range) {
    context.textAlign = "right";
    for (const y of axes ? [y0, 0.5 * (y0 + y1), y1] : [y0, y1]) {
      context.moveTo(left, atY(y));
      context.lineTo(width - 4, atY(y));
      context.fillText(short(y), left - 5, atY(y) + 3);
    }
  }
  if (axes) {
    context.textAlign = "left";
    context.fillText(short(x0), left, height - 4);
    context.textAlign = "right";
    context.fillText(short(x1), width - 4, height - 4);
  }
  context.stroke();
  const places = points.map(([x, y]) => [atX(x), atY(y)]);
  context.strokeStyle = colour("green");
  context.fillStyle = colour("green");
  context.lineWidth = 1.5;
  context.beginPath();
  places.forEach(([x, y]) => context.lineTo(x, y));
  context.stroke();
  if (axes && places.length < 40) places.forEach(([x, y]) => dot(context, x, y, 2));
  if (hovered >= 0) {
    context.fillStyle = colour("amber");
    dot(context, ...places[hovered], 4);
  }
  return places;
}

function dot(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

// One metric over steps or seconds of training.
export class Curve {
  constructor(name, unit) {
    this.name = name;
    this.unit = unit;
    this.root = element("figure");
    this.output = element("output");
    const caption = element("figcaption");
    caption.append(element("span", "", name), this.output);
    this.canvas = element("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", name);
    this.root.append(caption, this.canvas);
    this.hovered = -1;
    this.canvas.addEventListener("pointermove", (event) => this.hover(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
  }

  // points: [step, seconds, value]; by: "step" or "time".
  show(points, by) {
    this.by = by;
    this.points = points.map(([step, seconds, value]) => [by === "time" ? seconds : step, value]);
    this.hovered = Math.min(this.hovered, this.points.length - 1);
    this.draw();
  }

  hover(x) {
    if (!this.places?.length) return;
    this.hovered = -1;
    if (x !== null) {
      const distances = this.places.map((place) => Math.abs(place[0] - x));
      this.hovered = distances.indexOf(Math.min(...distances));
    }
    this.draw();
  }

  draw() {
    this.places = line(this.canvas, this.points, { axes: true, hovered: this.hovered });
    const [x, y] = this.points[this.hovered >= 0 ? this.hovered : this.points.length - 1];
    const at = this.by === "time" ? `${short(x)} s` : `${short(x)} ${this.unit}`;
    this.output.textContent = this.hovered >= 0 ? `${short(y)} at ${at}` : short(y);
  }
}
