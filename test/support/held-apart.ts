import { spawn } from 'node:child_process';
import { join } from 'node:path';

const endings = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs a program of Node.js by `apart.sh` and gives its exit code. The program learns by {@link interruption} that it
 * is to end: its standard input is a pipe, which ends with this process, or when this process is told to end. A signal
 * would reach no further than `unshare`, which ignores SIGTERM.
 */
export async function runHeldApart(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<number> {
  const child = spawn(join(import.meta.dirname, 'apart.sh'), [process.execPath, ...args], {
    stdio: ['pipe', 'inherit', 'inherit'],
    env: { ...process.env, ...env },
  });
  const letGo = (): void => void child.stdin.end();
  for (const signal of endings) {
    process.on(signal, letGo);
  }
  const ended = Promise.withResolvers<number>();
  child.once('error', ended.reject);
  child.once('exit', (code) => ended.resolve(code ?? 1));
  try {
    return await ended.promise;
  } finally {
    for (const signal of endings) {
      process.off(signal, letGo);
    }
  }
}

/** Of a program that {@link runHeldApart} runs: aborts when the program is to take down what it has made, and end. */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  const end = (why: string): void => {
    if (!controller.signal.aborted) {
      process.stdout.write(`${why}: taking everything down\n`);
      controller.abort(new Error(why));
    }
  };
  for (const signal of endings) {
    process.on(signal, () => end(signal));
  }
  process.stdin.once('end', () => end('told to end'));
  process.stdin.once('error', () => end('told to end'));
  process.stdin.resume();
  return controller.signal;
}

/** Rejects with the reason of the signal when that aborts. */
export function untilAborted(signal: AbortSignal): Promise<never> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  if (signal.aborted) {
    abort();
  } else {
    signal.addEventListener('abort', abort, { once: true });
  }
  aborted.promise.catch(() => undefined);
  return aborted.promise;
}
