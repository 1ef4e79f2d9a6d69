// Saliency: red over another canvas, where the value comes from.

import { element } from "./elements.js";

export class Overlay {
  // base: the canvas that it lies on, in a box of its own.
  constructor(base) {
    this.base = base;
    this.canvas = element("canvas", "overlay");
    this.map = document.createElement("canvas");
    base.after(this.canvas);
  }

  // saliency: a picture in grey, brightest where it is largest; null: none. left, width, height: which part of the base
  // it is of, in the base's pixels.
  show(saliency, left = 0, width = this.base.width, height = this.base.height) {
    const context = this.canvas.getContext("2d");
    if (this.canvas.width !== this.base.width || this.canvas.height !== this.base.height) {
      Object.assign(this.canvas, { width: this.base.width, height: this.base.height }); // fitted into its box alike
    }
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (saliency) context.drawImage(this.red(saliency), left, 0, width, height);
  }

  red(saliency) {
    Object.assign(this.map, { width: saliency.width, height: saliency.height });
    const context = this.map.getContext("2d", { willReadFrequently: true });
    context.drawImage(saliency, 0, 0);
    const pixels = context.getImageData(0, 0, saliency.width, saliency.height);
    const { data } = pixels;
    for (let i = 0; i < data.length; i += 4) {
      data[i + 3] = data[i] * 0.85;
      data[i] = 255;
      data[i + 1] = 40;
      data[i + 2] = 90;
    }
    context.putImageData(pixels, 0, 0);
    return this.map;
  }
}
