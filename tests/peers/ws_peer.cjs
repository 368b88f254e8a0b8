"use strict";

// The `ws` package as a server or as a client of the conversation that tests/peers/__init__.py describes. What to do
// comes as one line of JSON on the standard input, and so do the results on the standard output; the program ends with
// its input.

const http = require("http");
const https = require("https");
const readline = require("readline");
const { once } = require("events");
const { WebSocket, WebSocketServer } = require("ws");

function say(value) {
  process.stdout.write(JSON.stringify(value) + "\n");
}

function answer(socket, data, isBinary) {
  switch (isBinary ? null : data.toString()) {
    case "!fragments":
      socket.send("frag", { fin: false });
      socket.send("ments", { fin: true });
      break;
    case "!ping":
      socket.once("pong", () => socket.send("pong"));
      socket.ping("are you there");
      break;
    case "!close":
      socket.close(4002, "theirs");
      break;
    default:
      socket.send(data, { binary: isBinary });
  }
}

function serve({ cert, key, compress }) {
  const server = cert ? https.createServer({ cert, key }) : http.createServer();
  const handleProtocols = (offered) => (offered.has("chat") ? "chat" : false);
  const sockets = new WebSocketServer({ server, handleProtocols, perMessageDeflate: compress });
  sockets.on("connection", (socket) => {
    socket.on("message", (data, isBinary) => answer(socket, data, isBinary));
    socket.on("close", (code, reason) => say([code, reason.toString()]));
  });
  server.listen(0, "127.0.0.1", () => say(server.address().port));
}

async function talk({ uri, ca, compress, messages, closer }) {
  const socket = new WebSocket(uri, ["other", "chat"], { ca, perMessageDeflate: compress });
  const received = [];
  const waiting = [];
  socket.on("message", (data, isBinary) => {
    received.push(isBinary ? [data.toString("base64")] : data.toString());
    (waiting.shift() || (() => {}))();
  });
  const exchange = (send) =>
    new Promise((resolve) => {
      waiting.push(resolve);
      send();
    });
  await once(socket, "open");
  for (const message of messages) {
    const data = Array.isArray(message) ? Buffer.from(message[0], "base64") : message;
    await exchange(() => socket.send(data));
  }
  await exchange(() => {
    socket.send("frag", { fin: false });
    socket.send("ments", { fin: true });
  });
  await exchange(() => socket.send("!fragments"));
  await exchange(() => socket.send("!ping"));
  socket.ping("ping");
  const [pong] = await once(socket, "pong");
  const closed = once(socket, "close");
  closer === "client" ? socket.close(4001, "ours") : socket.send("!close");
  const [code, reason] = await closed;
  say({ subprotocol: socket.protocol, received, pong: pong.toString(), close: [code, reason.toString()] });
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const task = JSON.parse(line);
  task.uri ? talk(task) : serve(task);
}).on("close", () => process.exit());
