import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface RelayRequest {
  readonly id: number;
  readonly ip: string;
  readonly port: number;
  readonly timeoutMs: number;
  /** Posted to the worker; absent only tries to connect. */
  readonly body?: string;
}

export interface RelayAnswer {
  readonly id: number;
  readonly open?: boolean;
  readonly body?: string;
  readonly error?: string;
}

/** Reaches addresses of a network namespace from outside of it, through a process inside. */
export interface NetnsCaller {
  connect(address: { readonly ip: string; readonly port: number }): Promise<boolean>;
  /** Calls a worker through its emulator's path. */
  call(address: { readonly ip: string; readonly port: number }, payload: unknown, timeoutMs?: number): Promise<unknown>;
  close(): void;
}

const relay = fileURLToPath(new URL('./netns-relay.ts', import.meta.url));

export function startNetnsCaller(netnsPath: string): NetnsCaller {
  const child = spawn(
    'setpriv',
    ['--pdeathsig', 'KILL', '--', 'nsenter', `--net=${netnsPath}`, process.execPath, relay],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const waiting = new Map<number, PromiseWithResolvers<RelayAnswer>>();
  let next = 0;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const answer = JSON.parse(line) as RelayAnswer;
    waiting.get(answer.id)?.resolve(answer);
    waiting.delete(answer.id);
  });
  child.stdin.on('error', () => undefined);
  child.on('exit', () => {
    for (const { reject } of waiting.values()) {
      reject(new Error('the relay has ended'));
    }
    waiting.clear();
  });
  const ask = async (request: Omit<RelayRequest, 'id'>): Promise<RelayAnswer> => {
    const id = next;
    next += 1;
    const answer = Promise.withResolvers<RelayAnswer>();
    waiting.set(id, answer);
    child.stdin.write(`${JSON.stringify({ id, ...request })}\n`);
    const got = await answer.promise;
    if (got.error !== undefined) {
      throw new Error(got.error);
    }
    return got;
  };
  return {
    async connect({ ip, port }) {
      return (await ask({ ip, port, timeoutMs: 1000 })).open === true;
    },
    async call({ ip, port }, payload, timeoutMs = 10_000) {
      const { body } = await ask({ ip, port, timeoutMs, body: JSON.stringify(payload) });
      return JSON.parse(body ?? 'null');
    },
    close: () => {
      child.kill('SIGKILL');
    },
  };
}
