// Puts views on the page: one column a run, its game above its training.

import { Connection } from "./connection.js";
import { element } from "./elements.js";
import { Game } from "./game.js";
import { Training } from "./training.js";

const KINDS = { game: Game, training: Training };
const state = document.getElementById("connection");
let views = [];

const connection = new Connection({
  onState(name) {
    state.dataset.state = name;
    state.textContent = name;
    document.body.classList.toggle("stale", name === "disconnected");
  },
  onViews(message) {
    document.getElementById("title").textContent = message.title;
    document.title = message.title || "aprendiz live";
    const columns = new Map();
    for (const view of views) view.remove();
    views = message.views.map((description, number) => {
      if (!columns.has(description.run)) columns.set(description.run, element("section", "run"));
      const control = (what, value) => connection.control(number, what, value);
      const view = new KINDS[description.kind](description, control, message.you);
      columns.get(description.run).append(view.root);
      return view;
    });
    document.getElementById("runs").replaceChildren(...columns.values());
  },
  onMessage(words, blobs) {
    return views[words.view]?.receive(words.channel, words, blobs);
  },
  onRefused(view, reason) {
    views[view]?.refuse(reason);
  },
});
