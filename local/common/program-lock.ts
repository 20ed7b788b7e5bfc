import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AbortedError, type CallOptions, DeadlineError } from '../../src/common/deadline.ts';
import { EsbError } from '../../src/common/errors.ts';
import { localCode } from './error-codes.ts';

/** A lock between processes. The kernel frees the lock when this process dies. */
export interface ProgramLock {
  release(): Promise<void>;
}

export interface ProgramLockOptions extends CallOptions {
  /** Called once when another process holds the lock. */
  readonly onWait?: () => void;
}

const DEFAULT_DEADLINE_MS = 30 * 60_000;
const WAIT_NOTICE_MS = 500;

/**
 * Takes the lock of a file, and waits for its present holder for at most 30 minutes by default. Node.js has no flock of
 * its own: a helper process holds the lock and ends with its standard input, that is, with this process.
 *
 * @throws {EsbError} `ProgramMissing` without util-linux's `flock`, `DeadlineExceeded`, `Aborted`
 */
export async function lockProgram(file: string, options: ProgramLockOptions = {}): Promise<ProgramLock> {
  await mkdir(dirname(file), { recursive: true });
  const helper = spawn('flock', ['-x', file, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const ended = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  helper.on('error', (error) =>
    held.reject(
      new EsbError('the program flock (Debian package util-linux) is missing', {
        code: 'ProgramMissing',
        cause: error,
      }),
    ),
  );
  helper.on('close', () => {
    held.reject(new EsbError(`could not lock ${file}`, { code: localCode('LockFailed') }));
    ended.resolve();
  });
  helper.stdout.once('data', () => held.resolve());
  helper.stdin.on('error', () => undefined);
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  const onAbort = (): void => held.reject(new AbortedError(`waiting for ${file}`));
  options.signal?.addEventListener('abort', onAbort, { once: true });
  const notice = setTimeout(() => options.onWait?.(), WAIT_NOTICE_MS);
  const deadline = setTimeout(() => held.reject(new DeadlineError(`waiting for ${file}`, deadlineMs)), deadlineMs);
  try {
    await held.promise;
  } catch (error) {
    helper.kill('SIGKILL');
    throw error;
  } finally {
    clearTimeout(notice);
    clearTimeout(deadline);
    options.signal?.removeEventListener('abort', onAbort);
  }
  return {
    async release() {
      helper.stdin.end();
      await ended.promise;
    },
  };
}
