// A gateway for the tests, written against ingest/asyncapi.yaml alone: node gateway.mjs URL CODE PASSWORD POINT COUNT
// It sends COUNT readings of one point on the live lane, five a message, keeps each message until its ack, answers a
// request, and prints what it was told as one JSON line.
import { randomBytes } from "node:crypto";
import mqtt from "mqtt";

const [url, code, password, point, count] = process.argv.slice(2);
const epoch = randomBytes(8).toString("hex");
const topic = (tail) => `nenghao/v1/${code}/${tail}`;
const state = (word) => JSON.stringify({ state: word, sent_at: new Date().toISOString(), queue_depth: waiting.size });
const waiting = new Map();
const acks = [];

const client = mqtt.connect(url, {
  protocolVersion: 5,
  clientId: code,
  username: code,
  password,
  clean: true,
  keepalive: 60,
  reconnectPeriod: 500,
  will: { topic: topic("up/state"), payload: JSON.stringify({ state: "offline" }), qos: 1, retain: true },
});

const first = Date.now() - Number(count) * 60_000;
for (let seq = 0; seq * 5 < Number(count); seq += 1) {
  const readings = [];
  for (let n = seq * 5; n < Math.min(seq * 5 + 5, Number(count)); n += 1) {
    readings.push({ point, ts: new Date(first + n * 60_000).toISOString(), value: 1000 + n });
  }
  waiting.set(seq, JSON.stringify({ epoch, seq, sent_at: new Date().toISOString(), readings }));
}

const sendWaiting = () => {
  for (const body of [...waiting.values()].slice(0, 64)) client.publish(topic("up/live"), body, { qos: 1 });
};

client.on("connect", async () => {
  await client.subscribeAsync([topic("down/ack"), topic("down/request")], { qos: 1 });
  client.publish(topic("up/state"), state("online"), { qos: 1, retain: true });
  sendWaiting();
});

client.on("message", (where, payload) => {
  const body = JSON.parse(payload.toString());
  if (body.epoch !== epoch) return;
  if (where.endsWith("/request")) {
    for (let seq = body.from; seq <= body.to; seq += 1) {
      if (waiting.has(seq)) client.publish(topic("up/live"), waiting.get(seq), { qos: 1 });
      else client.publish(topic("up/live"), JSON.stringify({ epoch, gone: [seq, seq] }), { qos: 1 });
    }
    return;
  }
  if (!waiting.delete(body.seq)) return;
  acks.push(body);
  if (waiting.size > 0) return;
  client.publish(topic("up/state"), state("offline"), { qos: 1, retain: true }, () => {
    console.log(JSON.stringify({ epoch, acks }));
    client.end(true, () => process.exit(0));
  });
});

const resend = setInterval(sendWaiting, 5_000);
resend.unref();
setTimeout(() => {
  console.error(`${waiting.size} messages without an ack`);
  process.exit(1);
}, 60_000).unref();
client.on("error", (error) => {
  console.error(error.message);
  process.exit(2);
});
