// The socket: words and pictures that come in, requests that go out, and getting back after a disconnect.

const SILENCE = 6000; // milliseconds; the server says something every two seconds
const RETRY = [300, 600, 1000, 2000];

export class Connection {
  // onViews(message): what is on the page. onMessage(words, blobs): a view has something new; may return a promise.
  // onState(state): connecting, connected or disconnected. onRefused(view, reason).
  constructor(handlers) {
    this.handlers = handlers;
    this.attempt = 0;
    this.heard = 0;
    this.drawing = Promise.resolve(); // in the order in which they come
    this.open();
    setInterval(() => this.check(), 1000);
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event) => this.receive(socket, event.data);
    socket.onclose = () => this.lost(socket);
    this.socket = socket;
    this.heard = performance.now();
  }

  check() {
    const { socket } = this;
    if (socket && performance.now() - this.heard > SILENCE) {
      socket.close(); // a server that hangs may take long to answer this, so it counts as closed now
      this.lost(socket);
    }
  }

  lost(socket) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.handlers.onState("disconnected");
    setTimeout(() => this.open(), RETRY[Math.min(this.attempt, RETRY.length - 1)]);
    this.attempt += 1;
  }

  receive(socket, data) {
    if (socket !== this.socket) return;
    this.heard = performance.now();
    if (typeof data === "string") {
      const message = JSON.parse(data);
      if (message.type === "views") {
        this.attempt = 0;
        this.handlers.onState("connected");
        this.handlers.onViews(message);
      } else if (message.type === "refused") {
        this.handlers.onRefused(message.view, message.reason);
      }
      return;
    }
    this.drawing = this.drawing
      .then(() => this.handlers.onMessage(...unpack(data)))
      .catch((error) => console.error(error))
      // The next one is only sent when this one is drawn: who is slow, or hidden, gets fewer, and never old ones.
      .then(() => requestAnimationFrame(() => this.send({ type: "drawn" }, socket)));
  }

  send(message, socket = this.socket) {
    if (socket && socket === this.socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  control(view, what, value) {
    this.send({ type: "control", view, do: what, value });
  }
}

// A binary message: the length of the JSON in 4 bytes, the JSON, and the blobs whose lengths it gives.
export function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const words = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let at = 4 + length;
  const blobs = words.blobs.map((size) => {
    const blob = new Uint8Array(buffer, at, size);
    at += size;
    return blob;
  });
  return [words, blobs];
}
