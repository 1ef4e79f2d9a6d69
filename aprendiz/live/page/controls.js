// The buttons of a game, and the keyboard while somebody plays. What they show is what the server says: all viewers of
// a game share its settings.

import { element } from "./elements.js";

const SPEEDS = [[0.25, "¼"], [0.5, "½"], [1, "1"], [2, "2"], [4, "4"], [null, "as fast as it goes"]];
const IN_FORMS = new Set(["INPUT", "SELECT", "TEXTAREA"]);

export class Controls {
  constructor(card, description, control, you) {
    this.card = card;
    this.control = control;
    this.you = you;
    this.held = new Map(); // names of keys by their places
    this.state = { paused: false, driver: null };
    this.root = element("div", "controls");
    this.root.setAttribute("role", "toolbar");
    this.pause = this.button("pause", () => control("pause", !this.state.paused));
    this.step = this.button("single step", () => control("step"));
    this.button("next game", () => control("restart"));
    this.drive = this.button("take over", () => control("drive", this.state.driver === null));
    this.speed = element("select", "speed");
    for (const [value, text] of SPEEDS) this.speed.add(new Option(text, JSON.stringify(value)));
    this.speed.onchange = () => this.chose(this.speed, "speed", JSON.parse(this.speed.value));
    this.label("speed", this.speed);
    this.explore = Object.assign(element("input", "explore"), { type: "range", min: 0, max: 1, step: 0.01 });
    this.epsilon = element("output");
    this.explore.oninput = () => control("explore", Number(this.explore.value));
    this.explore.onchange = () => this.mine && this.explore.blur();
    this.label("epsilon", this.explore, this.epsilon);
    this.overlay = element("select", "overlay");
    this.overlay.onchange = () => this.chose(this.overlay, "overlay", this.overlay.value);
    this.overlayLabel = this.label("saliency", this.overlay);
    this.keys = element("p", "keys");
    for (const [keys, action] of [...description.keys, ["Esc", "hand back"]]) {
      this.keys.append(element("kbd", "", keys), ` ${action}   `);
    }
    this.keys.hidden = true;
    this.refusal = element("p", "refusal");
    this.refusal.setAttribute("role", "status");
    card.append(this.root, this.keys, this.refusal);
    this.listeners = { keydown: (event) => this.key(event, true), keyup: (event) => this.key(event, false), blur: () => this.release() };
    for (const [name, listener] of Object.entries(this.listeners)) window.addEventListener(name, listener);
  }

  remove() {
    for (const [name, listener] of Object.entries(this.listeners)) window.removeEventListener(name, listener);
  }

  button(text, onclick) {
    const button = element("button", text.replaceAll(" ", "-"), text);
    button.type = "button";
    button.onclick = onclick;
    this.root.append(button);
    return button;
  }

  label(text, ...inputs) {
    const label = element("label", "", text);
    label.append(...inputs);
    this.root.append(label);
    return label;
  }

  chose(input, what, value) {
    this.control(what, value);
    if (this.mine) input.blur(); // or the keys that play would go on choosing
  }

  show(state) {
    this.state = state;
    this.pause.textContent = state.paused ? "go on" : "pause";
    this.pause.setAttribute("aria-pressed", state.paused);
    this.speed.value = JSON.stringify(state.speed);
    if (document.activeElement !== this.explore) this.explore.value = state.explore;
    this.epsilon.textContent = String(Number(state.explore.toPrecision(3)));
    if ([...this.overlay.options].map(({ value }) => value).join() !== state.overlays.join()) {
      this.overlay.replaceChildren(...state.overlays.map((name) => new Option(name, name)));
    }
    this.overlay.value = state.overlay;
    this.overlayLabel.hidden = state.overlays.length < 2;
    this.mine = state.driver === this.you;
    if (!this.mine) this.held.clear(); // who hands back with a key held starts afresh the next time
    this.drive.textContent = this.mine ? "hand back" : state.driver === null ? "take over" : "somebody plays";
    this.drive.disabled = state.driver !== null && !this.mine;
    this.drive.setAttribute("aria-pressed", this.mine);
    this.card.classList.toggle("driven", this.mine);
    this.keys.hidden = !this.mine;
    this.refusal.textContent = "";
    if (this.mine && document.activeElement === this.drive) this.drive.blur(); // space fires; it presses no button
  }

  refuse(reason) {
    this.refusal.textContent = reason;
  }

  key(event, down) {
    if (!this.mine) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const place = event.code || name; // a key that is let go may have another name by then, as with shift
    if (!down) { // wherever that is, and whatever else is held
      if (!this.held.delete(place)) return;
      event.preventDefault();
    } else {
      if (event.ctrlKey || event.metaKey || event.altKey || IN_FORMS.has(event.target.tagName) || name === "Tab") return;
      if (name === "Escape") return this.control("drive", false); // keys that play press no button
      event.preventDefault(); // arrows scroll otherwise
      if (this.held.has(place)) return; // it repeats
      this.held.set(place, name);
    }
    this.control("keys", [...this.held.values()]);
  }

  release() {
    if (!this.held.size) return;
    this.held.clear();
    if (this.mine) this.control("keys", []);
  }
}
