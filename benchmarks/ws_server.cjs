"use strict";

// The `ws` package of Node as an echo server, without permessage-deflate. It says where it listens as one line of JSON on
// the standard output, and ends with its standard input.

const { WebSocketServer } = require("ws");
const { version } = require("ws/package.json");

const [host, maxPayload] = [process.argv[2], Number(process.argv[3])];
const server = new WebSocketServer({ host, port: 0, maxPayload, perMessageDeflate: false }, () => {
  const about = { port: server.address().port, server: `ws ${version}`, loop: `Node ${process.version}`, python: "" };
  process.stdout.write(JSON.stringify(about) + "\n");
});
server.on("connection", (socket) => socket.on("message", (data, binary) => socket.send(data, { binary })));
process.stdin.resume().on("end", () => process.exit());
