import { createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { run } from '../support/command.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

const agent = 'agent-node-1';

describe('workers in the network of their node', () => {
  const esb = instance();
  const parts = new Parts(esb);
  /** The first node of an instance is the machine itself, so that a worker there has ports of the machine. */
  const hosted = {
    image: esb.image('python-emulator'),
    nodeName: 'node-1',
    network: { mode: 'Host' },
    command: ['/usr/local/bin/aws-lambda-rie', 'python3', '-m', 'awslambdaric', 'lambda_function.handler'],
  };

  /** The ports that a worker was told, and its container. */
  async function placeOf(name: string): Promise<{ address: string; runtime: string; container: string }> {
    const { status } = await esb.worker(name);
    const container = status?.containerID ?? '';
    const { stdout } = await esb.ctr(['containers', 'info', container]);
    const { Spec } = JSON.parse(stdout) as { Spec: { process: { args: readonly string[] } } };
    const [, , address = '', , runtime = ''] = Spec.process.args;
    return { address, runtime, container };
  }

  async function listening(): Promise<readonly string[]> {
    const { stdout } = await run('ss', ['-Hltn']);
    return stdout.split('\n').map((line) => line.split(/\s+/)[3] ?? '');
  }

  async function replaceAgent(): Promise<void> {
    const before = await parts.pidOf(agent);
    process.kill(before, 'SIGKILL');
    await waitFor('a new agent', async () => (await parts.pidOf(agent)) !== before);
  }

  it('are called cold, running and paused, and keep their ports until they are removed', async () => {
    await esb.apply('host-life', { ...hosted, idlePolicy: { pauseAfterSeconds: 2 } });
    await esb.ready('host-life');
    const first = (await esb.invoke('host-life')).payload;
    expect(first).toMatchObject({ message: 'hello from host-life', counter: 1 });
    const place = await placeOf('host-life');
    const { status } = await esb.worker('host-life');
    expect(`${status?.address?.ip}:${status?.address?.port}`).toBe(place.address);
    expect(place.address).toMatch(/^127\.0\.0\.1:2[56]\d{3}$/);
    expect(await listening()).toEqual(expect.arrayContaining([place.address, place.runtime]));
    expect(await listening()).not.toContain('127.0.0.1:9001');

    await esb.waitUntilPaused('host-life');
    const woken = (await esb.invoke('host-life')).payload;
    expect(woken).toMatchObject({ counter: 2, bootId: first.bootId });
    expect(await placeOf('host-life')).toEqual(place);

    await esb.patch('host-life', { idlePolicy: { removeAfterSeconds: 3 } });
    await esb.waitForPhase('host-life', 'Absent');
    expect(await listening()).not.toContain(place.address);
    const cold = (await esb.invoke('host-life')).payload;
    expect(cold).toMatchObject({ message: 'hello from host-life', counter: 1 });
    expect(cold.bootId).not.toBe(first.bootId);
  });

  it('serve the next call after one that ran out of time, running and woken, on the same ports', async () => {
    await esb.apply('host-late', { ...hosted, timeoutSeconds: 3, idlePolicy: { pauseAfterSeconds: 2 } });
    await esb.ready('host-late');
    await esb.invoke('host-late');
    const place = await placeOf('host-late');
    const expectTimeout = async (): Promise<void> => {
      const answer = await esb.invoke('host-late', { sleep: 20 });
      expect(answer).toMatchObject({ status: 200, functionError: 'Unhandled' });
      expect(answer.payload.errorMessage).toContain('Task timed out after 3.00 seconds');
    };
    await expectTimeout();
    expect((await esb.invoke('host-late')).payload.message).toBe('hello from host-late');
    await esb.waitUntilPaused('host-late');
    await expectTimeout();
    expect((await esb.invoke('host-late')).payload.message).toBe('hello from host-late');
    expect(await placeOf('host-late')).toEqual(place);
  });

  it('stand two on a node apart, called through two gateways, and no call meets another', async () => {
    const names = ['host-left', 'host-right'] as const;
    for (const name of names) {
      await esb.apply(name, { ...hosted, timeoutSeconds: 30, desiredState: 'Paused' });
    }
    for (const name of names) {
      await esb.ready(name);
    }
    const places = await Promise.all(names.map((name) => placeOf(name)));
    expect(new Set(places.flatMap(({ address, runtime }) => [address, runtime])).size).toBe(4);
    const clients = (await parts.gateways()).map((url) => esb.lambda(url));
    expect(clients).toHaveLength(2);
    const answers = await Promise.all(
      names.flatMap((name) =>
        Array.from({ length: 20 }, async (_, index) => {
          const client = clients[index % clients.length] ?? esb.lambda();
          const { payload } = await esb.invoke(name, { sleep: 0.02, echo: `${name} ${index}` }, { client });
          return { name, index, payload };
        }),
      ),
    );
    for (const { name, index, payload } of answers) {
      expect(payload).toMatchObject({
        message: `hello from ${name}`,
        echo: `${name} ${index}`,
        overlaps: 0,
      });
    }
    for (const name of names) {
      const counters = answers.filter((answer) => answer.name === name).map(({ payload }) => payload.counter);
      expect(counters.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    }
    expect(await Promise.all(names.map((name) => placeOf(name)))).toEqual(places);
  });

  it('go on after their agent was killed: running, paused, and after a timeout', async () => {
    await esb.apply('host-running', hosted);
    await esb.apply('host-paused', {
      ...hosted,
      desiredState: 'Paused',
      idlePolicy: { pauseAfterSeconds: 1 },
    });
    const names = ['host-running', 'host-paused'];
    for (const name of names) {
      await esb.ready(name);
    }
    const before = new Map<string, string>();
    for (const name of names) {
      before.set(name, (await esb.invoke(name)).payload.bootId);
    }
    const paused = await esb.waitUntilPaused('host-paused');
    const places = await Promise.all(names.map((name) => placeOf(name)));
    await replaceAgent();
    expect(await esb.taskState(paused.status?.containerID ?? '')).toBe('PAUSED');
    for (const name of names) {
      expect((await esb.invoke(name)).payload).toMatchObject({ counter: 2, bootId: before.get(name) });
    }
    const late = await esb.invoke('host-running', { sleep: 20 });
    expect(late.payload.errorMessage).toContain('Task timed out');
    await replaceAgent();
    expect((await esb.invoke('host-running')).payload.message).toBe('hello from host-running');
    expect(await Promise.all(names.map((name) => placeOf(name)))).toEqual(places);
    // Ports of workers that exist are given to no other by an agent that only read of them.
    await esb.apply('host-later', hosted);
    await esb.ready('host-later');
    expect((await esb.invoke('host-later')).payload.message).toBe('hello from host-later');
    expect(places.map(({ address }) => address)).not.toContain((await placeOf('host-later')).address);
  });

  it.each([agent, 'containerd-node-1'])(
    'get other ports where something took theirs, and it hears of no call, while %s does not run',
    async (part) => {
      const name = `host-robbed-by-${part}`;
      await esb.apply(name, hosted);
      const { status } = await esb.ready(name);
      const first = (await esb.invoke(name)).payload;
      const place = await placeOf(name);
      const pid = await esb.taskPid(status?.containerID ?? '');
      const thief = startThief();
      await using frozen = await parts.freeze(part);
      process.kill(pid, 'SIGKILL');
      await waitFor('the port', async () => !(await listening()).includes(place.address));
      await thief.take(place.address);
      const call = esb.invoke(name, { echo: 'secret' });
      call.catch(() => undefined);
      if (part !== agent) {
        // The agent cannot know yet that the worker is dead.
        await waitFor('the agent to connect', () => thief.connections() > 0);
      }
      await frozen.continue();
      expect((await call).payload).toMatchObject({
        message: `hello from ${name}`,
        counter: 1,
        echo: 'secret',
      });
      const next = (await esb.invoke(name)).payload;
      expect(next.counter).toBe(2);
      expect(next.bootId).not.toBe(first.bootId);
      expect((await placeOf(name)).address).not.toBe(place.address);
      expect(thief.heard()).toEqual([]);
    },
  );
});

/** Something else on the machine, which takes a port and answers as a worker does. */
function startThief() {
  let connections = 0;
  const heard: string[] = [];
  const server = createServer((socket) => {
    connections += 1;
    socket.on('error', () => undefined);
    socket.on('data', (data) => {
      heard.push(data.toString());
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n"stolen"');
    });
  });
  onTestFinished(() => void server.close());
  return {
    connections: () => connections,
    heard: () => heard,
    async take(address: string): Promise<void> {
      const taken = Promise.withResolvers<void>();
      server.once('error', taken.reject);
      server.listen(Number(address.split(':')[1]), '127.0.0.1', () => taken.resolve());
      await taken.promise;
    },
  };
}
