import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it, onTestFinished } from 'vitest';

describe('esb hold', { timeout: 60_000 }, () => {
  it('waits until it is told to end, and then has succeeded', async () => {
    const main = resolve(import.meta.dirname, '../../../src/main.ts');
    const child = spawn(process.execPath, [main, 'hold'], { stdio: ['ignore', 'pipe', 'inherit'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const ended = once(child, 'exit');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();

    expect((await lines.next()).value).toContain('holding the memory');
    child.kill('SIGTERM');

    expect((await lines.next()).value).toContain('told to end');
    expect(await ended).toEqual([0, null]);
  });
});
