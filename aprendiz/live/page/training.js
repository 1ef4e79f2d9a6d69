// A run while it is trained: how far it is, its curves, its newest video, picture or text.

import { Curve } from "./charts.js";
import { element, number } from "./elements.js";

export class Training {
  constructor(description) {
    this.unit = description.unit;
    this.root = element("article", "card view-training");
    this.details = element("details");
    const summary = element("summary");
    this.status = element("span", "notice");
    summary.append(element("h2", "", `training of ${description.title}`), this.status);
    this.by = element("select");
    this.by.add(new Option(this.unit, "step"));
    this.by.add(new Option("seconds of training", "time"));
    this.by.onchange = () => this.showCurves(this.curves);
    const label = element("label", "", "over ");
    label.append(this.by);
    const tools = element("div", "controls");
    tools.append(label);
    this.charts = element("div", "charts");
    this.media = element("div", "media");
    this.details.append(summary, this.media, this.charts, tools);
    this.root.append(this.details);
    this.shown = new Map();
    // Closed curves have no width to be drawn on.
    this.details.addEventListener("toggle", () => this.curves && this.showCurves(this.curves));
    window.addEventListener("resize", (this.resized = () => this.curves && this.showCurves(this.curves)));
  }

  receive(channel, words) {
    if (channel === "curves") this.showCurves(words.curves);
    else if (channel === "status") this.showStatus(words.status);
    else if (channel === "media") this.showMedia(words.media, words.view);
  }

  refuse() {}

  remove() {
    window.removeEventListener("resize", this.resized);
  }

  showStatus(status) {
    if (this.state === undefined && (status.state === "training" || !document.querySelector(".view-game"))) {
      this.details.open = true;
    }
    this.state = status.state;
    const parts = [status.state];
    if (status.step !== null && status.step !== undefined) parts.push(`${number(status.step)} ${this.unit}`);
    if (status.checkpoint !== null) parts.push(`newest checkpoint at ${number(status.checkpoint)}`);
    if (status.best !== null) parts.push(`best at ${number(status.best)}`);
    const evaluation = status.evaluation;
    if (evaluation && evaluation.mean !== undefined) {
      const interval = evaluation.interval ? ` (${evaluation.interval.map((end) => number(end)).join(" to ")})` : "";
      parts.push(`last evaluation: mean ${number(evaluation.mean)}${interval} at ${number(evaluation.checkpoint_step)}`);
    }
    this.status.textContent = parts.join(" · ");
    this.status.dataset.state = status.state;
  }

  showCurves(curves) {
    this.curves = curves;
    if (!this.details.open) return;
    for (const [name, curve] of this.shown) {
      if (!(name in curves)) {
        curve.root.remove();
        this.shown.delete(name);
      }
    }
    for (const name of Object.keys(curves).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))) {
      if (!this.shown.has(name)) this.shown.set(name, new Curve(name, this.unit));
      const curve = this.shown.get(name);
      if (curve.root.parentElement !== this.charts) this.charts.append(curve.root);
      curve.show(curves[name], this.by.value);
    }
  }

  showMedia(media, view) {
    const figures = [];
    const before = new Map([...this.media.children].map((figure) => [figure.dataset.source, figure]));
    for (const [kind, { name, version, text }] of Object.entries(media)) {
      const source = `${name} ${version}`;
      if (before.has(source)) {
        figures.push(before.get(source)); // a video that plays goes on
        continue;
      }
      const figure = element("figure");
      figure.dataset.source = source;
      const address = `/files/${view}/${name.split("/").map(encodeURIComponent).join("/")}?${version}`;
      if (kind === "text") figure.append(element("pre", "", text));
      else if (kind === "picture") figure.append(Object.assign(element("img"), { src: address, alt: name }));
      else {
        const video = Object.assign(element("video"), { src: address, controls: true, muted: true, loop: true, autoplay: true });
        figure.append(video);
      }
      figure.append(element("figcaption", "", name));
      figures.push(figure);
    }
    this.media.replaceChildren(...figures);
  }
}

// Evaluations first, then games, then losses, then speed.
function rank(name) {
  const order = ["eval", "rollout", "train", "speed"];
  const at = order.indexOf(name.split("/")[0]);
  return at < 0 ? order.length : at;
}
