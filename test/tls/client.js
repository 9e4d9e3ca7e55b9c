'use strict';
// Confirmed messages there and back over TLS. client.js PORT CA [CERTIFICATE KEY]
const fs = require('fs');
const amqp = require('amqplib');

const [port, ca, cert, key] = process.argv.slice(2);
const body = (i) => Buffer.alloc(i % 50 === 0 ? 1 << 20 : 100 * i, i);
const fail = (e) => {
  console.log(String(e));
  process.exit(1);
};

async function main() {
  const c = await amqp.connect({ protocol: 'amqps', hostname: 'localhost', port: Number(port) }, {
    ca: [fs.readFileSync(ca)],
    ...(cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {}),
  });
  c.on('error', fail);
  const ch = await c.createConfirmChannel();
  const { queue } = await ch.assertQueue('', { exclusive: true });
  const got = [];
  const all = new Promise((resolve) => {
    ch.consume(queue, (m) => got.push(m.content) === 200 && resolve(), { noAck: true });
  });
  for (let i = 0; i < 200; i++) ch.sendToQueue(queue, body(i));
  await ch.waitForConfirms();
  await all;
  got.forEach((b, i) => {
    if (!b.equals(body(i))) fail(`body ${i} is not what was sent`);
  });
  await c.close();
  console.log('ok');
}

setTimeout(fail, 60000, 'not done in time').unref();
main().catch(fail);
