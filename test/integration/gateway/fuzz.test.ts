import { readFile } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type GatewayProcess, type LaunchedGateway, startGatewayProcess } from '../../support/gateway-process.ts';
import { converse, openSocket } from '../../support/raw-http.ts';
import { waitFor } from '../../support/wait-for.ts';
import { conversation, expectFair } from './http-fuzz.ts';

/** Conversations of a run; more in a long one. */
const RUNS = Number(process.env.ESB_FUZZ_RUNS ?? 600);
/** Conversations at the same time. */
const WIDTH = 24;
/**
 * Milliseconds without a byte after which a client of the fuzz hangs up, where a call takes a third of that or less.
 */
const LEAST_PATIENCE_MS = 250;
/**
 * MiB that the process may take in all of this, and by which it may grow once it is warm. Three quarters of what the
 * chart gives it: beside its heap there are the bytes that it holds, those that wait for the garbage collector, and
 * those that the allocator keeps.
 */
const MAX_RESIDENT = 768;
const MAX_GROWTH = 96;
const MAX_HEAP_MIB = 256;

/** MiB of bodies and answers that this gateway holds. */
const MAX_HELD_MIB = 96;
/** State of a connection in the kernel's table. */
const ESTABLISHED = '01';
/** Connections that this gateway takes. */
const MAX_CONNECTIONS = 700;

let gateway: GatewayProcess;

function call(name: string, body = '{}', headers = ''): Buffer {
  return Buffer.from(
    `POST /2015-03-31/functions/${name}/invocations HTTP/1.1\r\nHost: g\r\n${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

function once(bytes: Buffer): Parameters<typeof converse>[1] {
  return { pieces: [bytes], gapMs: 0, ending: 'Wait' };
}

/** One good call, to see that the gateway serves. */
async function served({ port }: LaunchedGateway = gateway): Promise<void> {
  const { answers } = await converse(port, once(call('echo', '"still here"')), {
    answers: 1,
    quietMs: 10_000,
  });
  expect(answers.map(({ status, body }) => [status, body])).toEqual([[200, '"still here"']]);
}

/** Ports of the clients of a server on the loopback that has not closed their connections (proc_pid_net(5)). */
async function clientsOf(serverPort: number): Promise<ReadonlySet<number>> {
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readFile(`/proc/self/net/${name}`, 'utf8')));
  const portOf = (address = ''): number => Number.parseInt(address.split(':').at(-1) ?? '', 16);
  const connections = tables.flatMap((text) => text.split('\n').map((line) => line.trim().split(/\s+/)));
  return new Set(
    connections
      .filter(([, local, , state]) => state === ESTABLISHED && portOf(local) === serverPort)
      .map(([, , remote]) => portOf(remote)),
  );
}

/** Waits until nothing is left of all that was said. */
async function untilQuiet(one: LaunchedGateway = gateway): Promise<void> {
  for (const name of ['esb_gateway_requests', 'esb_gateway_held_bytes', 'esb_gateway_calls_waiting']) {
    await waitFor(`${name} to be 0`, async () => (await one.metric(name)) === 0);
  }
}

beforeAll(async () => {
  const flags = [
    ...['--authentication', 'off'],
    ...['--log-level', 'warn'],
    ...['--max-held', `${MAX_HELD_MIB}Mi`],
    ...['--max-connections', String(MAX_CONNECTIONS)],
  ];
  // As in a container of that size: without a limit V8 lets garbage lie for as long as the machine has memory.
  const NODE_OPTIONS = `--max-old-space-size=${MAX_HEAP_MIB}`;
  gateway = await startGatewayProcess(flags, { env: { ...process.env, NODE_OPTIONS } });
  for (const name of ['echo', 'slow', 'large', 'lost', 'full']) {
    await gateway.addWorker(name);
  }
  const large = Buffer.from(`"${'x'.repeat(3 * 1024 * 1024)}"`);
  gateway.agent.onInvoke((each) => {
    switch (each.request.worker.name) {
      case 'slow':
        setTimeout(() => each.answer('"slow"'), 40);
        break;
      case 'large':
        each.answer(Array.from({ length: 3 }, (_each, part) => large.subarray(part * 2 ** 20, (part + 1) * 2 ** 20)));
        break;
      case 'lost':
        each.refuse('StartFailed');
        break;
      case 'full':
        each.refuse('QueueFull');
        break;
      default:
        each.answer(each.request.payload);
    }
  });
});

afterAll(() => gateway?.close());

describe('a gateway among clients of any kind', () => {
  it('answers what is not HTTP, or not its API, with an error of the client, and goes on', async () => {
    const seen = new Map<number, number>();
    // A client that hangs up before it is answered hears nothing: its patience is that of a machine as busy as this
    // one.
    let patienceMs = LEAST_PATIENCE_MS;
    const pace = async (): Promise<void> => {
      const began = performance.now();
      await converse(gateway.port, once(call('echo')), { answers: 1, quietMs: 10_000 });
      patienceMs = Math.max(LEAST_PATIENCE_MS, 3 * (performance.now() - began));
    };
    const check = async (one: Parameters<typeof converse>[1]): Promise<void> => {
      const heard = await converse(gateway.port, one, { quietMs: patienceMs });
      expectFair(one, heard);
      for (const { status } of heard.answers) {
        seen.set(status, (seen.get(status) ?? 0) + 1);
      }
    };
    const batches = Math.ceil(RUNS / WIDTH);
    let warm = 0;
    let descriptors = 0;
    for (let batch = 0; batch < batches; batch += 1) {
      await fc.assert(
        fc.asyncProperty(fc.array(conversation, { minLength: WIDTH, maxLength: WIDTH }), async (all) => {
          await Promise.all([...all.map(check), pace()]);
          expect(gateway.process.ended(), gateway.process.output().slice(-2_000)).toBe(false);
        }),
        { numRuns: 1, endOnFailure: true },
      );
      if (batch === Math.floor(batches / 3)) {
        await untilQuiet();
        warm = await gateway.residentMiB();
        descriptors = await gateway.descriptors();
      }
      expect(await gateway.residentMiB()).toBeLessThan(MAX_RESIDENT);
    }
    await served();
    await untilQuiet();
    await waitFor('its descriptors to be as before', async () => (await gateway.descriptors()) <= descriptors + 2);
    // Garbage is none of its growth, but the time of its collection is unknown.
    await waitFor(
      `its memory to be at most ${MAX_GROWTH} MiB above the ${Math.round(warm)} of before`,
      async () => {
        await served();
        return (await gateway.residentMiB()) - warm < MAX_GROWTH;
      },
      { timeoutMs: 60_000 },
    );
    // Each kind of refusal was met, or the fuzz would have tried nothing.
    expect([...seen.keys()]).toEqual(expect.arrayContaining([200, 202, 204, 400, 404]));
    expect(gateway.process.output()).not.toMatch(/fault of the gateway|uncaught|unhandled/i);
  }, 600_000);

  it('answers calls that come in a row on one connection in their order', async () => {
    const count = 60;
    const all = Buffer.concat(Array.from({ length: count }, (_each, index) => call('echo', `"${index}"`)));
    const { answers } = await converse(gateway.port, once(all), { answers: count, quietMs: 10_000 });
    expect(answers.map(({ status, body }) => `${status} ${body}`)).toEqual(
      Array.from({ length: count }, (_each, index) => `200 "${index}"`),
    );
  });

  it('does not answer nonsense in place of a call before it, whose client would believe that it has not run', {
    tags: ['G13'],
  }, async () => {
    const heard = await converse(gateway.port, once(Buffer.concat([call('slow'), Buffer.from('NONSENSE\r\n\r\n')])), {
      quietMs: 10_000,
    });
    expect(heard).toMatchObject({ answers: [], closed: true });
    const alone = await converse(gateway.port, once(Buffer.from('NONSENSE\r\n\r\n')), { quietMs: 10_000 });
    expect(alone.answers.map(({ status }) => status)).toEqual([400]);
    const ownBody =
      'POST /2015-03-31/functions/slow/invocations HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n';
    const own = await converse(gateway.port, once(Buffer.from(ownBody)), { quietMs: 10_000 });
    expect(own.answers.map(({ status }) => status)).toEqual([400]);
  });

  it('takes a connection that is ended halfway for a caller who has hung up', async () => {
    const heard = await converse(
      gateway.port,
      { pieces: [call('slow')], gapMs: 0, ending: 'HalfClose' },
      { quietMs: 2_000 },
    );
    expect(heard.answers).toEqual([]);
    await untilQuiet();
    await served();
  });

  it('refuses bodies that are too large, whatever length they were said to have, and holds none of them', async () => {
    const large = Buffer.alloc(7 * 1024 * 1024, 'x');
    const head = 'POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: g\r\n';
    const announced = Buffer.from(`${head}Content-Length: ${large.length}\r\n\r\n`);
    const chunk = Buffer.concat([Buffer.from(`${large.length.toString(16)}\r\n`), large, Buffer.from('\r\n0\r\n\r\n')]);
    const ways = [
      [announced, large],
      [Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n`), chunk],
    ];
    await Promise.all(
      Array.from({ length: 12 }, async (_each, index) => {
        const pieces = ways[index % 2] ?? [];
        const heard = await converse(
          gateway.port,
          { pieces, gapMs: 0, ending: 'Wait' },
          { answers: 1, quietMs: 20_000 },
        );
        expect(heard.answers.map(({ status }) => [413, 429].includes(status))).toEqual([true]);
      }),
    );
    // More than is read and dropped: the connection is cut.
    const endless = await openSocket(gateway.port);
    endless.write(`${head}Content-Length: 100000000000\r\n\r\n`);
    const feed = setInterval(() => endless.writableLength < 2 ** 24 && endless.write(large), 5);
    try {
      await waitFor('the connection to be cut', () => endless.destroyed, { timeoutMs: 30_000 });
    } finally {
      clearInterval(feed);
      endless.destroy();
    }
    await untilQuiet();
    expect(await gateway.residentMiB()).toBeLessThan(MAX_RESIDENT);
  });

  it('keeps room for small calls while large ones come in slowly, and takes no more of those than it can hold', async () => {
    const part = Buffer.alloc(5 * 1024 * 1024, 'x');
    const slow = await Promise.all(
      Array.from({ length: 60 }, async () => {
        const socket = await openSocket(gateway.port);
        socket.resume();
        socket.write(
          `POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: g\r\nContent-Length: ${part.length + 10}\r\n\r\n"`,
        );
        socket.write(part);
        return socket;
      }),
    );
    try {
      await waitFor('what was sent to be read', () => slow.every(({ writableLength }) => writableLength === 0));
      // Bytes that have left this process may lie in the kernel for a while.
      const held = await waitFor('much of it to be held', async () => {
        const bytes = await gateway.metric('esb_gateway_held_bytes');
        return bytes > 32 * 2 ** 20 && bytes;
      });
      expect(held).toBeLessThanOrEqual(MAX_HELD_MIB * 2 ** 20);
      await served();
      expect(await gateway.residentMiB()).toBeLessThan(MAX_RESIDENT);
      const first = slow.map(
        (socket) => new Promise<string>((resolve) => socket.once('data', (data) => resolve(String(data)))),
      );
      for (const socket of slow) {
        socket.write('xxxxxxxx"');
      }
      const answers = await Promise.all(first);
      const statuses = answers.map((text) => text.slice(9, 12));
      expect(new Set(statuses)).toEqual(new Set(['200', '429']));
      // By what is full first, which is a matter of pace: the gateway, or the share of the function in it.
      const full = /ConcurrentInvocationLimitExceeded|fill its share of the gateway/;
      expect(answers.filter((text) => text.includes(' 429 ') && !full.test(text))).toEqual([]);
    } finally {
      for (const socket of slow) {
        socket.destroy();
      }
    }
    await untilQuiet();
  });

  it('gives up calls whose callers have reset their connection', async () => {
    await Promise.all(
      Array.from({ length: 300 }, (_each, index) =>
        converse(
          gateway.port,
          { pieces: [call(index % 2 === 0 ? 'slow' : 'large')], gapMs: index % 3, ending: 'Reset' },
          { quietMs: 10 },
        ),
      ),
    );
    await untilQuiet();
    await served();
  });

  it('forgets no request of a connection on which a CONNECT comes behind it', { tags: ['G12'] }, async () => {
    const dry = call('echo', '{}', 'X-Amz-Invocation-Type: DryRun\r\n');
    const tunnel = Buffer.from('CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n');
    await Promise.all(
      Array.from({ length: 20 }, () =>
        converse(gateway.port, once(Buffer.concat([call('slow'), dry, dry, dry, tunnel])), { quietMs: 100 }),
      ),
    );
    await untilQuiet();
    await served();
  });

  it('is not taken in by clients of HTTP/2 or TLS', async () => {
    const session = connectHttp2(`http://127.0.0.1:${gateway.port}`);
    const failed = new Promise<string>((resolve) => {
      session.once('error', (error) => resolve(error.message));
      session.once('close', () => resolve('closed'));
    });
    session.request({ ':path': '/', ':method': 'POST' }).on('error', () => undefined);
    expect(await failed).not.toBe('');
    session.destroy();
    await expect(fetch(`https://127.0.0.1:${gateway.port}/`, { signal: AbortSignal.timeout(10_000) })).rejects.toThrow(
      'fetch failed',
    );
    await served();
  });

  it('takes no more connections than it may, and takes them again when others have gone', async () => {
    const sockets = await Promise.all(Array.from({ length: MAX_CONNECTIONS + 100 }, () => openSocket(gateway.port)));
    for (const socket of sockets) {
      socket.resume();
    }
    // Some are closed before the last one is open.
    await waitFor('those too many to be closed', () => sockets.filter(({ closed }) => closed).length >= 100);
    expect(await gateway.descriptors()).toBeLessThan(MAX_CONNECTIONS + 100);
    for (const socket of sockets) {
      socket.destroy();
    }
    await waitFor('the next one to be taken', async () => {
      const { answers } = await converse(gateway.port, once(call('echo')), { answers: 1, quietMs: 1_000 });
      return answers[0]?.status === 200;
    });
  });

  describe('that has little patience', () => {
    let hasty: LaunchedGateway;

    beforeAll(async () => {
      hasty = await gateway.startPeer('hasty');
    });

    afterEach(() => {
      expect(hasty.process.output()).not.toMatch(/fault of the gateway|uncaught|unhandled/i);
    });

    afterAll(() => hasty?.kill());

    it('ends connections that never come to a whole head, and serves others meanwhile', async () => {
      const sockets = await Promise.all(Array.from({ length: 300 }, () => openSocket(hasty.port)));
      let ended = 0;
      let said = '';
      for (const socket of sockets) {
        socket.on('data', (data) => {
          said ||= String(data);
        });
        socket.on('close', () => {
          ended += 1;
        });
        socket.write('POST /2015-03-31/functions/echo/invocations HTTP/1.1\r\nHost: g\r\n');
      }
      const trickle = setInterval(() => {
        for (const socket of sockets) {
          if (socket.writable) {
            socket.write('X-A: b\r\n');
          }
        }
      }, 200);
      try {
        await served(hasty);
        await waitFor('all of them to be ended', () => ended === sockets.length, { timeoutMs: 60_000 });
      } finally {
        clearInterval(trickle);
        for (const socket of sockets) {
          socket.destroy();
        }
      }
      expect(said).toContain('408');
      await served(hasty);
    });

    it.each([
      ['large answers', 20, true, Buffer.from(call('large').toString().repeat(4))],
      // A slow gateway may cut the first client before it holds an answer of the last.
      ['thousands of answers', 4, false, Buffer.from(call('x!').toString().repeat(20_000))],
    ])(
      'cuts clients that do not read %s, and then has room again',
      { timeout: 240_000 },
      async (_what, count, areHeldAtOnce, bytes) => {
        const sockets = await Promise.all(Array.from({ length: count }, () => openSocket(hasty.port)));
        for (const socket of sockets) {
          socket.pause();
          socket.write(bytes);
        }
        try {
          if (areHeldAtOnce) {
            // A slow gateway needs a while for as many answers as the sockets of the kernel hold.
            await waitFor('answers to be held', async () => (await hasty.metric('esb_gateway_requests')) >= count, {
              timeoutMs: 90_000,
            });
            expect(await hasty.residentMiB()).toBeLessThan(MAX_RESIDENT);
          }
          const [other] = (await converse(hasty.port, once(call('echo')), { answers: 1, quietMs: 60_000 })).answers;
          expect([200, 429]).toContain(other?.status);
          let held = 0;
          let resident = 0;
          const ports = sockets.map(({ localPort }) => localPort ?? 0);
          await waitFor(
            'them to be cut',
            async () => {
              held = Math.max(held, await hasty.metric('esb_gateway_held_bytes'));
              resident = Math.max(resident, await hasty.residentMiB());
              const requests = await hasty.metric('esb_gateway_requests');
              const clients = await clientsOf(hasty.port);
              // Of large answers, a client who was told that there is no room has none that it could read.
              return requests === 0 && (areHeldAtOnce || !ports.some((port) => clients.has(port)));
            },
            { timeoutMs: 60_000 },
          );
          // The answers of the call that runs, and of what was sent ahead of it.
          expect(held).toBeLessThanOrEqual((MAX_HELD_MIB + 12) * 2 ** 20);
          expect(resident).toBeLessThan(MAX_RESIDENT);
        } finally {
          for (const socket of sockets) {
            socket.destroy();
          }
        }
        await untilQuiet(hasty);
        await served(hasty);
      },
    );
  });

  it('ends in time after all of that, with nothing that it still waits for', { tags: ['G8'] }, async () => {
    await untilQuiet();
    expect(gateway.process.output()).not.toMatch(/fault of the gateway|uncaught|unhandled/i);
    expect(await gateway.terminate(20_000)).toBeLessThan(15_000);
  });
});
