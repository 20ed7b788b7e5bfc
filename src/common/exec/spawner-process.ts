// Runs programs for the process that started it, until that ends: see `Spawner`.
import { errnoOf, messageOf } from '../errors.ts';
import { type CommandRequest, runProgram } from './command-runner.ts';
import type { SpawnerAnswer, SpawnerOrder } from './spawner.ts';

const running = new Map<number, AbortController>();

process.on('message', (order: SpawnerOrder) => {
  if (order.kind === 'Stop') {
    running.get(order.id)?.abort();
  } else {
    void run(order.id, order.request);
  }
});
// With its last program this process has nothing more to wait for, and ends.
process.on('disconnect', () => {
  for (const stop of running.values()) {
    stop.abort();
  }
});

/** Never rejects. */
async function run(id: number, request: CommandRequest): Promise<void> {
  const stop = new AbortController();
  running.set(id, stop);
  try {
    const result = await runProgram({ ...request, signal: stop.signal }, (pid) => tell({ kind: 'Started', id, pid }));
    tell({ kind: 'Ended', id, result });
  } catch (error) {
    tell({ kind: 'Failed', id, message: messageOf(error), errno: errnoOf(error) });
  } finally {
    running.delete(id);
  }
}

function tell(answer: SpawnerAnswer): void {
  if (process.connected) {
    // A parent that does not receive it has ended, and the disconnect is on its way.
    process.send?.(answer, undefined, undefined, () => undefined);
  }
}
