import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const smallHeap = join(import.meta.dirname, '../../../src/common/small-heap.ts');

/** MiB of heap that a process takes at most which keeps 100,000 small objects and makes each of them ten times. */
async function peakHeap(prelude: string): Promise<number> {
  const program = `${prelude}
    const kept = new Map();
    let peak = 0;
    for (let round = 0; round < 200; round++) {
      const page = Array.from({ length: 5_000 }, (_, index) => ({ index, round, text: 'kept ' + round + ' ' + index, more: [{ index }] }));
      for (const one of page) {
        kept.set(one.index * 20 + (round % 20), one);
      }
      peak = Math.max(peak, process.memoryUsage().heapTotal);
    }
    console.log(peak / 2 ** 20);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program]);
  return Number(stdout);
}

test('a process whose heap is to stay small takes less memory for the same work', async () => {
  const usual = await peakHeap('');
  const small = await peakHeap(`import { keepHeapSmall } from ${JSON.stringify(smallHeap)}; keepHeapSmall();`);
  expect(small).toBeLessThan(usual * 0.7);
});
