// Calls the `Probe` service with @grpc/grpc-js.
//
// `node client.js ADDRESS PROTO` runs every check against the server behind
// ADDRESS and ends with a non-zero code if one fails.
'use strict';

const assert = require('node:assert/strict');
const { randomUUID } = require('node:crypto');
const { once } = require('node:events');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

// Ends a run that hangs; no check depends on it.
const PATIENCE_MS = 60_000;

const [address, proto] = process.argv.slice(2);
const { Probe } = grpc.loadPackageDefinition(loader.loadSync(proto, { longs: Number })).notnets.probe;
const probe = new Probe(address, grpc.credentials.createInsecure());

const patience = () => ({ deadline: Date.now() + PATIENCE_MS });

// A unary call: the reply, or the error, with what came along.
function unary(method, request, { metadata = new grpc.Metadata(), options = patience() } = {}) {
  return new Promise((resolve) => {
    const outcome = {};
    const call = probe[method](request, metadata, options, (error, reply) => Object.assign(outcome, { error, reply }));
    call.on('metadata', (head) => (outcome.head = head));
    call.on('status', (status) => resolve(Object.assign(outcome, { status })));
  });
}

// All messages of a stream of replies and its status.
function collected(call) {
  return new Promise((resolve) => {
    const messages = [];
    call.on('data', (message) => messages.push(message));
    call.on('error', () => {});
    call.on('status', (status) => resolve({ messages, status }));
  });
}

async function reached(key, state) {
  const { error } = await unary('Await', { key, state });
  assert.equal(error, null);
}

const checks = {
  async unary() {
    const payload = Buffer.alloc(1 << 20, 'notnets');
    const { reply } = await unary('Echo', { payload, text: 'hé', number: -4711 });
    assert.deepEqual(reply.request.payload, payload);
    assert.equal(reply.request.text, 'hé');
    assert.equal(reply.request.number, -4711);
  },

  async metadata_both_ways() {
    const metadata = new grpc.Metadata();
    metadata.add('tenant', 'a');
    metadata.add('tenant', 'b');
    metadata.set('x-grpc-test-echo-initial', 'first');
    metadata.set('x-grpc-test-echo-trailing-bin', Buffer.from([0xab, 0, 0xff]));
    const { reply, head, status } = await unary('Echo', {}, { metadata });
    assert.equal(reply.metadata.tenant.replaceAll(' ', ''), 'a,b');
    assert.deepEqual(head.get('x-grpc-test-echo-initial'), ['first']);
    assert.deepEqual(status.metadata.get('x-grpc-test-echo-trailing-bin'), [Buffer.from([0xab, 0, 0xff])]);
  },

  async server_streaming() {
    const { messages, status } = await collected(probe.Split({ count: 50, size: 100_000 }, patience()));
    assert.equal(status.code, grpc.status.OK);
    assert.deepEqual(messages.map((chunk) => chunk.data.length), Array(50).fill(100_000));
  },

  async client_streaming() {
    const total = await new Promise((resolve, reject) => {
      const call = probe.Collect(patience(), (error, reply) => (error ? reject(error) : resolve(reply)));
      for (let sent = 0; sent < 50; sent += 1) call.write({ data: Buffer.alloc(100_000) });
      call.end();
    });
    assert.deepEqual(total, { chunks: 50, bytes: 5_000_000 });
  },

  async bidirectional_streaming() {
    const call = probe.Chat(patience());
    for (const size of [0, 1, 70_000, 1_000_000]) {
      call.write({ data: Buffer.alloc(size) });
      const [reply] = await once(call, 'data');
      assert.equal((reply.data ?? []).length, size);
    }
    const ended = collected(call);
    call.end();
    const { messages, status } = await ended;
    assert.deepEqual([messages, status.code], [[], grpc.status.OK]);
  },

  async status_alone() {
    const fail = { code: 9, message: 'käse %\n', details: Buffer.from([0, 1, 0xff]) };
    const { error } = await unary('Fail', fail);
    assert.deepEqual([error.code, error.details], [grpc.status.FAILED_PRECONDITION, 'käse %\n']);
    assert.deepEqual(error.metadata.get('grpc-status-details-bin'), [Buffer.from([0, 1, 0xff])]);
  },

  async status_after_messages() {
    const request = { count: 2, size: 3, fail: { code: 5, message: 'the rest' } };
    const { messages, status } = await collected(probe.Split(request, patience()));
    assert.deepEqual([messages.length, status.code, status.details], [2, grpc.status.NOT_FOUND, 'the rest']);
  },

  async deadline() {
    const key = randomUUID();
    const { error } = await unary('Wait', { key }, { options: { deadline: Date.now() + 1000 } });
    assert.equal(error.code, grpc.status.DEADLINE_EXCEEDED);
    await reached(key, 'DROPPED');
  },

  async cancel() {
    const key = randomUUID();
    const call = probe.WaitStream({ key }, patience());
    await once(call, 'data');
    const ended = collected(call);
    call.cancel();
    assert.equal((await ended).status.code, grpc.status.CANCELLED);
    await reached(key, 'DROPPED');
  },
};

async function main() {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`grpc-js ${name} ... ok`);
    } catch (error) {
      failed += 1;
      console.log(`grpc-js ${name} ... FAILED\n`, error);
    }
  }
  probe.close();
  console.log(`grpc-js: ${Object.keys(checks).length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

main();
