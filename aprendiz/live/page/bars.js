// What the agent thinks of each action: a bar for its value, or the distribution of its return.

import { colour, element, number, sharp } from "./elements.js";

export class Bars {
  constructor(description) {
    this.description = description;
    this.root = element("div", description.actions.length <= 6 ? "bars few" : "bars");
    this.rows = description.actions.map((name) => {
      const row = element("div", "bar");
      const middle = element("span");
      const value = element("span", "value");
      row.append(element("span", "name", name), middle, value);
      this.root.append(row);
      return { row, middle, value };
    });
  }

  // Draws a moment; returns what the bars show.
  show(words) {
    const taken = Array.isArray(words.action) ? -1 : words.action;
    this.rows.forEach(({ row }, action) => {
      row.classList.toggle("taken", action === taken);
      row.classList.toggle("other", words.why !== "greedy");
    });
    if (Array.isArray(words.action)) return this.continuous(words.action);
    if (words.histogram) return this.distributions(words);
    const [values, low, high] = words.probabilities
      ? [words.probabilities, 0, 1]
      : [words.q, ...(words.range ?? [0, 0])];
    this.rows.forEach((row, action) => {
      const value = values ? values[action] : null;
      // From the lowest value seen lately: what matters are differences. A stub shows that there is a bar.
      const share = value === null ? 0 : 0.04 + (0.96 * (value - low)) / Math.max(high - low, 1e-9);
      this.fill(row, 0, share, value);
    });
    return words.probabilities ? "probability of each action" : values ? "value of each action" : "action";
  }

  fill(row, left, width, value) {
    if (!row.fill) {
      row.middle.className = "track";
      row.fill = element("span", "fill");
      row.middle.append(row.fill);
    }
    Object.assign(row.fill.style, { left: `${left * 100}%`, width: `${width * 100}%` });
    row.row.dataset.value = value;
    row.value.textContent = number(value, 3);
  }

  // A bar for each number of a continuous action, from the middle of its bounds.
  continuous(numbers) {
    const [low, high] = this.description.bounds;
    this.rows.forEach((row, i) => {
      const share = (numbers[i] - low[i]) / Math.max(high[i] - low[i], 1e-9);
      row.row.classList.add("taken");
      this.fill(row, Math.min(share, 0.5), Math.abs(share - 0.5), numbers[i]);
    });
    return "action";
  }

  distributions(words) {
    const { low, high, mass } = words.histogram;
    const tallest = Math.max(...mass.flat(), 1e-9);
    this.rows.forEach((row, action) => {
      if (!row.canvas) {
        row.canvas = element("canvas", "histogram");
        row.middle.append(row.canvas);
      }
      const value = words.q[action];
      row.row.dataset.value = value;
      row.value.textContent = number(value, 3);
      const [context, width, height] = sharp(row.canvas);
      const isTaken = row.row.classList.contains("taken");
      context.fillStyle = colour(isTaken ? (words.why === "greedy" ? "green" : "amber") : "blue");
      const bins = mass[action];
      bins.forEach((share, i) => {
        const tall = Math.sqrt(share / tallest) * (height - 2); // so that small chances show
        context.fillRect((i / bins.length) * width, height - tall, width / bins.length - 0.5, tall);
      });
      if (value !== null) {
        context.fillStyle = colour("text"); // the mean
        context.fillRect(((value - low) / Math.max(high - low, 1e-9)) * width - 0.75, 0, 1.5, height);
      }
    });
    return `distribution of the return, ${number(low)} to ${number(high)}`;
  }
}
