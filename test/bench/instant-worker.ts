import type { BenchInstance } from './bench-instance.ts';

/**
 * Listens on the emulator's port and answers every request at once, however many there are. Connections are kept for
 * good, as the emulator keeps them: one that is closed for being idle may take a request with it.
 */
const program = `
const server = require('http').createServer((request, answer) => {
  request.resume();
  request.on('end', () => {
    answer.setHeader('content-type', 'application/json');
    answer.end('{}');
  });
});
server.keepAliveTimeout = 0;
server.listen(8080, '0.0.0.0');
`;

/** A worker that costs next to nothing, so that what is before it can be measured. */
export interface InstantWorker {
  /** Where the gateway serves it. */
  readonly url: string;
  /** Where it listens itself. */
  readonly direct: string;
  delete(): Promise<void>;
}

/** Makes a worker that answers at once, and waits until it runs. */
export async function startInstantWorker(instance: BenchInstance, name: string): Promise<InstantWorker> {
  await instance.apply(name, {
    image: instance.image('nodejs-counter'),
    // A caller that goes straight to the worker needs its port.
    runtimeInterface: 'Emulator',
    command: ['node', '-e', program],
    resources: { limits: { memory: '256Mi' } },
  });
  const { status } = await instance.waitForPhase(name, 'Running');
  return {
    url: instance.functionUrl(name),
    direct: `http://${status?.address?.ip}:${status?.address?.port}/`,
    delete: () => instance.delete(name),
  };
}
