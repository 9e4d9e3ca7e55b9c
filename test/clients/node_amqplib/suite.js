'use strict';
// amqplib: the promise API, the callback API, and RabbitMQ's six tutorial patterns.

const assert = require('assert');
const crypto = require('crypto');
const net = require('net');
const amqp = require('amqplib');
const callbacks = require('amqplib/callback_api');

const host = process.env.LEPUS_HOST || '127.0.0.1';
const port = Number(process.env.LEPUS_PORT || 5672);
const at = (more) => ({ hostname: host, port, username: 'guest', password: 'guest', ...more });

const cases = [];
const test = (title, body) => cases.push({ title, body });
const name = (prefix = 'q') => `${prefix}-${crypto.randomBytes(6).toString('hex')}`;

function within(promise, what, ms = 20000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// The next n deliveries of a consumer that acks (or not).
function deliveries(ch, queue, n, options = { noAck: true }, each = () => {}) {
  const got = [];
  let tag;
  return within(new Promise((resolve, reject) => {
    ch.consume(queue, (m) => {
      if (m === null) return reject(new Error('cancelled'));
      got.push(m);
      each(m);
      if (got.length === n) resolve();
    }, options).then((ok) => { tag = ok.consumerTag; }, reject);
  }), `${n} deliveries`).then(() => ch.cancel(tag)).then(() => got);
}

async function session(body, options = {}) {
  const connection = await amqp.connect(at(options));
  connection.on('error', () => {});
  try {
    const ch = await connection.createChannel();
    ch.on('error', () => {});
    return await body(ch, connection);
  } finally {
    await connection.close().catch(() => {});
  }
}

const exclusive = async (ch) => (await ch.assertQueue('', { exclusive: true })).queue;
const text = (m) => m.content.toString();

async function refused(code, promise, ch) {
  const closed = ch && within(new Promise((resolve) => ch.once('error', resolve)), 'the close');
  const error = await promise.then(() => null, (e) => e);
  const why = error || (closed && await closed);
  assert(why, `expected ${code}, nothing was refused`);
  assert.strictEqual(why.code || Number((/(\d{3})/.exec(why.message) || [])[1]), code, why.message);
  return why;
}

test('a wrong password is refused with 403', () =>
  refused(403, amqp.connect(at({ password: 'wrong' }))));

// amqplib tells of a close where it waited for open-ok, and drops the code.
test('an unknown vhost is refused', () =>
  assert.rejects(amqp.connect(at({ vhost: 'nowhere' })), /ConnectionOpenOk; got <ConnectionClose/));

test('limits are negotiated downwards', () => session(async (ch, connection) => {
  assert.strictEqual(connection.connection.frameMax, 8192);
  assert.strictEqual(connection.connection.channelMax, 12);
}, { frameMax: 8192, channelMax: 12, heartbeat: 5 }));

test('confirmed publishes arrive in order and are acked', () => session(async (_, connection) => {
  const ch = await connection.createConfirmChannel();
  const q = await exclusive(ch);
  for (let i = 0; i < 500; i++) ch.sendToQueue(q, Buffer.from(String(i)));
  await within(ch.waitForConfirms(), 'the confirms');
  const got = await deliveries(ch, q, 500, {}, (m) => ch.ack(m));
  assert.deepStrictEqual(got.map(text), [...Array(500).keys()].map(String));
}));

test('a mandatory message without a queue comes back', () => session(async (ch) => {
  const back = within(new Promise((resolve) => ch.once('return', resolve)), 'the return');
  ch.publish('', name(), Buffer.from('x'), { mandatory: true });
  const m = await back;
  assert.deepStrictEqual([m.fields.replyCode, m.fields.replyText, text(m)], [312, 'NO_ROUTE', 'x']);
}));

test('a missing queue is 404 and the connection goes on', () => session(async (ch, connection) => {
  await refused(404, ch.checkQueue(name()));
  await exclusive(await connection.createChannel());
}));

test('other properties are 406; another\'s exclusive queue is 405', () =>
  session(async (ch, connection) => {
    const q = name();
    await ch.assertQueue(q, { exclusive: true });
    await refused(406, (await channel(connection)).assertExchange('amq.direct', 'fanout'));
    await session(async (other) => refused(405, other.checkQueue(q)));
  }));

async function channel(connection) {
  const ch = await connection.createChannel();
  ch.on('error', () => {});
  return ch;
}

test('nack requeues to the original place, redelivered; reject drops', () => session(async (ch) => {
  const q = await exclusive(ch);
  for (const body of ['a', 'b', 'c']) ch.sendToQueue(q, Buffer.from(body));
  await ch.checkQueue(q);
  const first = await ch.get(q);
  ch.reject(await ch.get(q), false);
  ch.nack(first, false, true);
  const again = await ch.get(q, { noAck: true });
  assert.deepStrictEqual([text(again), again.fields.redelivered], ['a', true]);
  assert.strictEqual(text(await ch.get(q, { noAck: true })), 'c');
  assert.strictEqual(await ch.get(q), false);
}));

test('prefetch bounds what is unacked', () => session(async (ch) => {
  const q = await exclusive(ch);
  await ch.prefetch(3);
  const got = [];
  await ch.consume(q, (m) => got.push(m));
  for (let i = 0; i < 8; i++) ch.sendToQueue(q, Buffer.from(String(i)));
  assert.strictEqual((await ch.checkQueue(q)).messageCount, 5);
  assert.strictEqual(got.length, 3);
  ch.ack(got[2], true);
  await ch.checkQueue(q);
  assert.strictEqual((await ch.checkQueue(q)).messageCount, 2);
}));

test('topic and headers exchanges, exchange-to-exchange, alternate exchange', () =>
  session(async (ch) => {
    const [topic, lost] = [name('x'), name('x')];
    await ch.assertExchange(lost, 'fanout', { autoDelete: true });
    await ch.assertExchange(topic, 'topic', { alternateExchange: lost, autoDelete: true });
    const [words, rest, heads] = [await exclusive(ch), await exclusive(ch), await exclusive(ch)];
    await ch.bindQueue(words, topic, 'a.*.#');
    await ch.bindQueue(rest, lost, '');
    await ch.bindExchange('amq.headers', topic, 'head');
    await ch.bindQueue(heads, 'amq.headers', '', { 'x-match': 'all', kind: 'hare' });
    for (const key of ['a.b', 'a', 'a.b.c']) ch.publish(topic, key, Buffer.from(key));
    ch.publish(topic, 'head', Buffer.from('yes'), { headers: { kind: 'hare' } });
    ch.publish(topic, 'head', Buffer.from('no'), { headers: { kind: 'fox' } });
    await ch.checkQueue(words);
    assert.deepStrictEqual((await deliveries(ch, words, 2)).map(text), ['a.b', 'a.b.c']);
    assert.deepStrictEqual((await deliveries(ch, rest, 1)).map(text), ['a']);
    assert.deepStrictEqual((await deliveries(ch, heads, 1)).map(text), ['yes']);
  }));

test('bodies of every size come back whole', () => session(async (ch) => {
  const q = await exclusive(ch);
  for (const size of [0, 1, 4088, 131063, 131064, 131065, 1 << 20, 8 << 20]) {
    const body = crypto.randomBytes(size);
    ch.sendToQueue(q, body);
    await ch.checkQueue(q);
    assert((await ch.get(q, { noAck: true })).content.equals(body), `${size} octets`);
  }
}));

test('properties and headers come back unchanged', () => session(async (ch) => {
  const q = await exclusive(ch);
  const headers = { bool: true, int: -7, big: 2 ** 40, double: 1.25, text: 'häse', none: null,
    table: { deep: { list: [1, 'two', { three: 3 }] } } };
  const sent = { contentType: 'a/b', contentEncoding: 'c', headers, deliveryMode: 2, priority: 5,
    correlationId: 'd', replyTo: 'e', expiration: '60000', messageId: 'f', timestamp: 1234567890,
    type: 'g', userId: 'guest', appId: 'h' };
  ch.sendToQueue(q, Buffer.from('x'), sent);
  await ch.checkQueue(q);
  const { properties } = await ch.get(q, { noAck: true });
  for (const key of Object.keys(sent)) assert.deepStrictEqual(properties[key], sent[key], key);
}));

test('200 channels on a connection', () => session(async (ch, connection) => {
  const q = await exclusive(ch);
  const channels = await Promise.all([...Array(200)].map(() => connection.createChannel()));
  channels.forEach((each, i) => each.sendToQueue(q, Buffer.from(String(i))));
  assert.strictEqual((await deliveries(ch, q, 200)).length, 200);
  await Promise.all(channels.map((each) => each.close()));
}));

test('purge and delete tell how many; a deleted queue cancels its consumers', () =>
  session(async (ch) => {
    const { queue } = await ch.assertQueue(name(), { autoDelete: true });
    for (let i = 0; i < 4; i++) ch.sendToQueue(queue, Buffer.from('x'));
    assert.strictEqual((await ch.purgeQueue(queue)).messageCount, 4);
    const cancelled = within(new Promise((resolve) => {
      ch.consume(queue, (m) => m === null && resolve());
    }), 'the cancel');
    await ch.checkQueue(queue);
    assert.strictEqual((await ch.deleteQueue(queue)).messageCount, 0);
    await cancelled;
  }));

test('an unknown delivery tag is 406; a missing exchange is 404', () =>
  session(async (_, connection) => {
    let ch = await channel(connection);
    let closed = within(new Promise((resolve) => ch.once('error', resolve)), 'the close');
    ch.ack({ fields: { deliveryTag: 42 } });
    assert.match((await closed).message, /unknown delivery tag 42/);
    ch = await channel(connection);
    closed = within(new Promise((resolve) => ch.once('error', resolve)), 'the close');
    ch.publish(name(), 'k', Buffer.from('x'));
    assert.strictEqual((await closed).code, 404);
  }));

test('a cut socket gives its unacked message to the next consumer', () => session(async (ch) => {
  const q = name();
  await ch.assertQueue(q, { durable: true });
  ch.sendToQueue(q, Buffer.from('x'));
  const relay = net.createServer((near) => {
    const far = net.connect(port, host);
    near.pipe(far).pipe(near);
    for (const s of [near, far]) s.on('error', () => {}).on('close', () => { near.destroy(); far.destroy(); });
    relay.cut = () => near.resetAndDestroy();
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => relay.once('listening', resolve));
  const lost = await amqp.connect(at({ port: relay.address().port }));
  const gone = within(new Promise((resolve) => { lost.on('error', () => {}); lost.on('close', resolve); }), 'the end');
  const theirs = await lost.createChannel();
  theirs.on('error', () => {});
  await deliveries(theirs, q, 1, {}, () => {}).then(() => relay.cut());
  await gone;
  const [m] = await deliveries(ch, q, 1);
  assert.deepStrictEqual([text(m), m.fields.redelivered], ['x', true]);
  await ch.deleteQueue(q);
  relay.close();
}));

test('the callback API publishes, consumes and acks', () => within(new Promise((resolve, reject) => {
  callbacks.connect(at(), (error, connection) => {
    if (error) return reject(error);
    connection.createChannel((e, ch) => {
      if (e) return reject(e);
      ch.assertQueue('', { exclusive: true }, (e2, { queue }) => {
        if (e2) return reject(e2);
        ch.consume(queue, (m) => {
          ch.ack(m);
          connection.close(() => (text(m) === 'hi' ? resolve() : reject(new Error(text(m)))));
        });
        ch.sendToQueue(queue, Buffer.from('hi'));
      });
    });
  });
}), 'the message'));

test('tutorial: hello', () => session((ch) => session(async (sender) => {
  const q = name();
  await ch.assertQueue(q, { autoDelete: true });
  sender.sendToQueue(q, Buffer.from('Hello World!'));
  assert.deepStrictEqual((await deliveries(ch, q, 1)).map(text), ['Hello World!']);
})));

test('tutorial: work queues share tasks fairly', () => session((a) => session(async (b) => {
  const q = name();
  await a.assertQueue(q, { durable: true });
  const done = { a: 0, b: 0 };
  const all = within(new Promise((resolve) => {
    const work = (who, ch) => (m) => {
      if (m === null) return; // the queue is gone: so the library tells it
      ch.ack(m);
      done[who] += 1;
      if (done.a + done.b === 20) resolve();
    };
    Promise.all([a.prefetch(1), b.prefetch(1)]).then(async () => {
      await a.consume(q, work('a', a));
      await b.consume(q, work('b', b));
      for (let i = 0; i < 20; i++) a.sendToQueue(q, Buffer.from('.'), { persistent: true });
    });
  }), 'the work');
  await all;
  assert(done.a > 0 && done.b > 0, JSON.stringify(done));
  await a.deleteQueue(q);
})));

test('tutorial: publish and subscribe', () => session(async (ch) => {
  const x = name('logs');
  await ch.assertExchange(x, 'fanout', { autoDelete: true });
  const queues = [await exclusive(ch), await exclusive(ch)];
  for (const q of queues) await ch.bindQueue(q, x, '');
  ch.publish(x, '', Buffer.from('news'));
  for (const q of queues) assert.deepStrictEqual((await deliveries(ch, q, 1)).map(text), ['news']);
}));

test('tutorial: routing', () => session(async (ch) => {
  const x = name('direct_logs');
  await ch.assertExchange(x, 'direct', { autoDelete: true });
  const q = await exclusive(ch);
  for (const severity of ['warning', 'error']) await ch.bindQueue(q, x, severity);
  for (const severity of ['info', 'warning', 'error']) ch.publish(x, severity, Buffer.from(severity));
  assert.deepStrictEqual((await deliveries(ch, q, 2)).map(text), ['warning', 'error']);
}));

test('tutorial: topics', () => session(async (ch) => {
  const x = name('topic_logs');
  await ch.assertExchange(x, 'topic', { autoDelete: true });
  const q = await exclusive(ch);
  await ch.bindQueue(q, x, 'kern.*');
  await ch.bindQueue(q, x, '*.critical');
  for (const key of ['kern.info', 'cron.critical', 'cron.info', 'kern.critical']) ch.publish(x, key, Buffer.from(key));
  assert.deepStrictEqual((await deliveries(ch, q, 3)).map(text), ['kern.info', 'cron.critical', 'kern.critical']);
}));

test('tutorial: RPC, by direct reply-to', () => session((server) => session(async (ch) => {
  const q = name('rpc_queue');
  await server.assertQueue(q, { autoDelete: true });
  await server.consume(q, (m) => {
    server.sendToQueue(m.properties.replyTo, Buffer.from(String(2 * Number(text(m)))),
      { correlationId: m.properties.correlationId });
    server.ack(m);
  });
  const answer = within(new Promise((resolve) => {
    ch.consume('amq.rabbitmq.reply-to', resolve, { noAck: true }).then(() => {
      ch.sendToQueue(q, Buffer.from('21'), { correlationId: 'c1', replyTo: 'amq.rabbitmq.reply-to' });
    });
  }), 'the answer');
  const m = await answer;
  assert.deepStrictEqual([m.properties.correlationId, text(m)], ['c1', '42']);
})));

(async () => {
  let failed = 0;
  for (const [i, { title, body }] of cases.entries()) {
    try {
      await within(Promise.resolve(body()), title, 40000);
      console.log(`ok ${i + 1} - ${title}`);
    } catch (e) {
      failed += 1;
      console.log(`not ok ${i + 1} - ${title}`);
      console.log(String(e && e.stack || e).split('\n').map((l) => `# ${l}`).join('\n'));
    }
  }
  console.log(`1..${cases.length}`);
  process.exit(failed ? 1 : 0);
})();
