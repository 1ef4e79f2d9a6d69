"use strict";
/* Curves on a canvas: bands over the runs of a group, single runs, hover and zoom. Nothing here knows what they mean. */

const MARGIN = { left: 58, right: 12, top: 8, bottom: 34 };

function ticks(low, high, most) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / most, power = 10 ** Math.floor(Math.log10(raw)), part = raw / power;
  const step = power * (part <= 1 ? 1 : part <= 2 ? 2 : part <= 5 ? 5 : 10);
  const found = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + step * 1e-9; tick += step) found.push(Math.abs(tick) < step * 1e-9 ? 0 : tick);
  return found;
}

function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    const many = Math.log10(high / low) < 2;
    for (const factor of many ? [1, 2, 5] : [1]) {
      const tick = factor * 10 ** power;
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found.length > 1 ? found : ticks(low, high, 4);
}

/* A number as short as it can be told; beside others of an axis up to `largest` in their unit. */
function short(value, largest = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "\u2013";
  const size = Math.abs(value);
  if (size >= 1e9) return `${+(value / 1e9).toPrecision(4)}G`;
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(4)}M`;
  if (size >= 1e4 || (size >= 1e3 && largest >= 1e4)) return `${+(value / 1e3).toPrecision(4)}k`;
  if (size !== 0 && size < 1e-3) return value.toExponential(2);
  return String(+value.toPrecision(4));
}

function duration(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "\u2013";
  if (seconds < 120) return `${+seconds.toPrecision(3)} s`;
  if (seconds < 7200) return `${+(seconds / 60).toPrecision(3)} min`;
  return `${+(seconds / 3600).toPrecision(3)} h`;
}

/* The place in x, which rises, of what is nearest to a value. */
function nearest(x, value) {
  let low = 0, high = x.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1; else high = middle;
  }
  return low > 0 && value - x[low - 1] < x[low] - value ? low - 1 : low;
}

function smoothed(y, weight) {
  if (!weight || !y) return y;
  const result = new Float32Array(y.length);
  let mean = 0, share = 0;
  for (let i = 0; i < y.length; i++) {
    if (Number.isNaN(y[i])) { result[i] = NaN; continue; }
    mean = weight * mean + (1 - weight) * y[i];
    share = weight * share + (1 - weight);
    result[i] = mean / share;
  }
  return result;
}

class Chart {
  /* place: an element; read(axis, smoothing) gives [{label, color, x, y, low, high, n, run}], a run's name for single runs;
     state: {axis, log, runs, smooth, hidden, range}, shared by all charts; changed(): to be called when the zoom changes.
     robust: peaks may leave the panel. */
  constructor(place, read, state, units, changed, robust = false) {
    Object.assign(this, { place, read, state, units, changed, robust, drag: null, visible: false });
    this.base = document.createElement("canvas");
    this.over = document.createElement("canvas");
    this.over.className = "over";
    place.append(this.base, this.over);
    this.over.addEventListener("mousemove", event => this.hover(event));
    this.over.addEventListener("mouseleave", () => this.leave());
    this.over.addEventListener("mousedown", event => { this.drag = event.offsetX; event.preventDefault(); });
    this.over.addEventListener("mouseup", event => this.release(event));
    this.over.addEventListener("dblclick", () => { this.state.range[this.state.axis] = null; this.changed(); });
  }

  draw() {
    if (!this.visible) { this.stale = true; return; }
    this.stale = false;
    const ratio = window.devicePixelRatio || 1, width = this.place.clientWidth, height = this.place.clientHeight;
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    this.width = width; this.height = height;
    const every = this.read(this.state.axis, this.state.smooth);
    this.series = every.filter(one => !this.state.hidden.has(one.label) && (this.state.runs || !one.faint));
    this.limits();
    const pen = this.base.getContext("2d");
    pen.clearRect(0, 0, width, height);
    this.axes(pen);
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left, MARGIN.top, width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom);
    pen.clip();
    for (const one of this.series) if (one.low && !one.faint) this.area(pen, one);
    for (const one of this.series) if (one.faint) this.line(pen, one, 0.9, this.series.length > 60 ? 0.15 : 0.35);
    for (const one of this.series) if (!one.faint) this.line(pen, one, 1.8, 1);
    pen.restore();
    this.place.dataset.x = `${this.x0} ${this.x1}`;
    this.place.dataset.y = `${this.y0} ${this.y1}`;
    this.place.dataset.series = this.series.length;
  }

  limits() {
    let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity, positive = Infinity;
    for (const { x } of this.series) if (x.length) { x0 = Math.min(x0, x[0]); x1 = Math.max(x1, x[x.length - 1]); }
    const zoom = this.state.range[this.state.axis];
    if (zoom) [x0, x1] = zoom;
    const values = [];
    for (const one of this.series) {
      for (let i = 0; i < one.x.length; i++) {
        // Lines come in from the last point before the zoom and go on to the first behind it.
        if ((i + 1 < one.x.length && one.x[i + 1] < x0) || (i > 0 && one.x[i - 1] > x1)) continue;
        for (const value of one.low ? [one.low[i], one.high[i]] : [one.y[i]]) {
          if (!Number.isFinite(value)) continue;
          y0 = Math.min(y0, value); y1 = Math.max(y1, value);
          if (this.robust) values.push(value);
          if (value > 0) positive = Math.min(positive, value);
        }
      }
    }
    if (this.robust && values.length && !this.state.log) {
      values.sort((a, b) => a - b);
      y1 = Math.min(y1, 2 * values[Math.floor(0.95 * (values.length - 1))] - Math.min(y0, 0));
    }
    this.empty = !(x0 <= x1 && y0 <= y1);
    if (!(x0 <= x1)) { x0 = 0; x1 = 1; }
    if (!(y0 <= y1)) { y0 = 0; y1 = 1; }
    this.logarithmic = this.state.log && positive < Infinity;
    if (this.logarithmic) y0 = positive;
    if (y0 === y1) { const by = Math.abs(y0) * 0.05 || 0.5; y0 -= this.logarithmic ? 0.5 * by : by; y1 += by; }
    if (x0 === x1) { x0 -= 0.5; x1 += 0.5; }
    const pad = this.logarithmic ? 0 : 0.04 * (y1 - y0);
    Object.assign(this, { x0, x1, y0: y0 - pad, y1: y1 + pad });
  }

  px(x) { return MARGIN.left + (x - this.x0) / (this.x1 - this.x0) * (this.width - MARGIN.left - MARGIN.right); }

  py(y) {
    const tall = this.height - MARGIN.top - MARGIN.bottom;
    const share = this.logarithmic ? Math.log(Math.max(y, this.y0 * 1e-3) / this.y0) / Math.log(this.y1 / this.y0)
      : (y - this.y0) / (this.y1 - this.y0);
    return MARGIN.top + (1 - share) * tall;
  }

  axes(pen) {
    const style = getComputedStyle(document.body), bottom = this.height - MARGIN.bottom;
    pen.font = "11px system-ui, sans-serif";
    pen.lineWidth = 1;
    pen.strokeStyle = style.getPropertyValue("--line");
    pen.fillStyle = style.getPropertyValue("--soft");
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const y of this.logarithmic ? logTicks(this.y0, this.y1) : ticks(this.y0, this.y1, 5)) {
      this.stroke(pen, [[MARGIN.left, this.py(y)], [this.width - MARGIN.right, this.py(y)]]);
      pen.fillText(short(y, this.y1), MARGIN.left - 6, this.py(y));
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const time = this.state.axis === "seconds", scale = !time ? 1 : this.x1 > 7200 ? 3600 : this.x1 > 120 ? 60 : 1;
    for (const x of ticks(this.x0 / scale, this.x1 / scale, 6)) {
      this.stroke(pen, [[this.px(x * scale), bottom], [this.px(x * scale), bottom + 4]]);
      pen.fillText(short(x, this.x1 / scale), this.px(x * scale), bottom + 6);
    }
    const unit = time ? { 1: "seconds", 60: "minutes", 3600: "hours" }[scale] : this.units[this.state.axis];
    pen.fillText(this.empty ? "nothing to show on this axis" : unit, (MARGIN.left + this.width - MARGIN.right) / 2, bottom + 19);
    this.stroke(pen, [[MARGIN.left, MARGIN.top], [MARGIN.left, bottom], [this.width - MARGIN.right, bottom]]);
  }

  stroke(pen, points) {
    pen.beginPath();
    points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
    pen.stroke();
  }

  line(pen, one, width, alpha) {
    pen.strokeStyle = one.color;
    pen.globalAlpha = alpha;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    const most = one.n ? one.n.reduce((a, b) => Math.max(a, b), 0) : 0;
    let dashed = null;
    pen.beginPath();
    for (let i = 0, gap = true; i < one.x.length; i++) {
      if (Number.isNaN(one.y[i])) { gap = true; continue; }
      const x = this.px(one.x[i]), y = this.py(one.y[i]);
      const fewer = Boolean(one.n) && one.n[i] < most;  // some runs have ended: dashed
      if (fewer !== dashed) {
        if (!gap) pen.lineTo(x, y);
        pen.stroke();
        pen.beginPath();
        pen.setLineDash(fewer ? [5, 4] : []);
        dashed = fewer;
        gap = true;
      }
      if (gap) pen.moveTo(x, y); else pen.lineTo(x, y);
      gap = false;
    }
    pen.stroke();
    pen.setLineDash([]);
    if (one.x.length === 1 && !Number.isNaN(one.y[0])) {
      pen.fillStyle = one.color;
      pen.fillRect(this.px(one.x[0]) - 2.5, this.py(one.y[0]) - 2.5, 5, 5);
    }
    pen.globalAlpha = 1;
  }

  area(pen, one) {
    pen.fillStyle = one.color;
    pen.globalAlpha = 0.16;
    for (let from = 0; from < one.x.length;) {
      while (from < one.x.length && Number.isNaN(one.low[from])) from++;
      let to = from;
      while (to < one.x.length && !Number.isNaN(one.low[to])) to++;
      pen.beginPath();
      for (let i = from; i < to; i++) pen.lineTo(this.px(one.x[i]), this.py(one.high[i]));
      for (let i = to - 1; i >= from; i--) pen.lineTo(this.px(one.x[i]), this.py(one.low[i]));
      pen.fill();
      from = to + 1;
    }
    pen.globalAlpha = 1;
  }

  /* The x under the mouse. */
  at(event) {
    const share = (event.offsetX - MARGIN.left) / (this.width - MARGIN.left - MARGIN.right);
    return this.x0 + Math.min(1, Math.max(0, share)) * (this.x1 - this.x0);
  }

  hover(event) {
    if (!this.series) return;
    const pen = this.over.getContext("2d"), x = this.at(event), style = getComputedStyle(document.body);
    pen.clearRect(0, 0, this.width, this.height);
    if (this.drag !== null) {
      pen.fillStyle = "#2a6fbb33";
      pen.fillRect(Math.min(this.drag, event.offsetX), MARGIN.top, Math.abs(event.offsetX - this.drag), this.height - MARGIN.top - MARGIN.bottom);
    }
    pen.strokeStyle = style.getPropertyValue("--soft");
    this.stroke(pen, [[this.px(x), MARGIN.top], [this.px(x), this.height - MARGIN.bottom]]);
    const rows = [];
    let close = null, distance = 14;
    for (const one of this.series) {
      if (!one.x.length || x < one.x[0] - 0.02 * (this.x1 - this.x0) || x > one.x[one.x.length - 1] + 0.02 * (this.x1 - this.x0)) continue;
      const i = nearest(one.x, x), y = one.y[i];
      if (Number.isNaN(y)) continue;
      if (one.run && Math.abs(this.py(y) - event.offsetY) < distance) { close = { one, i }; distance = Math.abs(this.py(y) - event.offsetY); }
      if (!one.faint) {
        rows.push({ one, i, y });
        pen.fillStyle = one.color;
        pen.beginPath();
        pen.arc(this.px(one.x[i]), this.py(y), 3, 0, 7);
        pen.fill();
      }
    }
    if (close) this.line(pen, close.one, 2.4, 1);
    rows.sort((a, b) => b.y - a.y);
    tooltip(event, rows, close, this.state.axis === "seconds" ? duration(x) : `${short(x)} ${this.units[this.state.axis]}`);
  }

  leave() {
    this.drag = null;
    if (this.series) this.over.getContext("2d").clearRect(0, 0, this.width, this.height);
    document.getElementById("tooltip").hidden = true;
  }

  release(event) {
    const from = this.drag;
    this.drag = null;
    if (from === null || Math.abs(event.offsetX - from) < 5) return;
    const ends = [this.at({ offsetX: from }), this.at(event)].sort((a, b) => a - b);
    if (ends[1] > ends[0]) { this.state.range[this.state.axis] = ends; this.changed(); }
  }
}

function tooltip(event, rows, close, title) {
  const box = document.getElementById("tooltip");
  box.replaceChildren();
  const line = (text, color, bold) => {
    const row = document.createElement("div");
    if (color) {
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = color;
      row.append(dot);
    }
    const words = document.createElement(bold ? "b" : "span");
    words.textContent = text;
    words.className = "value";
    row.append(words);
    box.append(row);
  };
  line(title, null, true);
  for (const { one, i, y } of rows.slice(0, 12)) {
    const spread = one.low && one.n[i] > 1 ? ` [${short(one.low[i])}, ${short(one.high[i])}] of ${one.n[i]} runs` : "";
    line(`${one.label}: ${short(y)}${spread}`, one.color);
  }
  if (rows.length > 12) line(`and ${rows.length - 12} more`);
  if (close) line(`${close.one.run}: ${short(close.one.y[close.i])} at ${short(close.one.x[close.i])}`, close.one.color);
  box.hidden = false;
  box.style.left = `${Math.min(event.clientX + 16, window.innerWidth - box.offsetWidth - 8)}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 14, window.innerHeight - box.offsetHeight - 8))}px`;
}
