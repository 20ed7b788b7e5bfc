// The agent's hub of inits, in a process of its own so that memory and processor are the hub's alone.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { crashBackoff } from '../../src/agent/model/backoff.ts';
import { foundCall, heard, type InitSight } from '../../src/agent/step/init-sight.ts';
import { backoffDelay } from '../../src/common/backoff.ts';
import { systemClock } from '../../src/common/clock.ts';
import { unreachable } from '../../src/common/errors.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { keepHeapSmall } from '../../src/common/small-heap.ts';
import type { InitLink, InitNews, WorkerInits } from '../../src/init/contract.ts';
import { createWorkerInits } from '../../src/init/worker-inits.ts';
import { nameOf, slotOf } from './hostile-words-inits.ts';

const CALL_MS = 60_000;

/** Order to the hub. */
export type HubOrder =
  | { readonly kind: 'Open'; readonly workers: number }
  | { readonly kind: 'Call'; readonly id: string }
  | { readonly kind: 'Stop' };

/** Word of the hub. `Ended`: the hub serves that worker no more. */
export type HubWord =
  | { readonly kind: 'Opened'; readonly name: string; readonly folder: string }
  | { readonly kind: 'Answered'; readonly id: string; readonly outcome: string }
  | { readonly kind: 'Ended'; readonly name: string; readonly breach: string };

/** Name of the worker that is called, which has a namespace of its own. */
export const CALLED = 'called';

function tell(word: HubWord): void {
  process.send?.(word);
}

async function open(inits: WorkerInits, name: string, namespace: string): Promise<void> {
  const { folder } = await inits.open(name, namespace);
  tell({ kind: 'Opened', name, folder });
}

async function answer(link: InitLink | undefined, id: string): Promise<string> {
  const end = await link?.call({
    requestId: id,
    payload: Buffer.from('{}'),
    timeoutMs: CALL_MS,
    boundMs: CALL_MS,
    functionArn: 'arn',
    version: '1',
    clientContext: '',
    traceId: '',
    onSending: () => undefined,
    onHead: () => undefined,
    onChunk: () => undefined,
  });
  return end?.kind === 'Ended' ? end.end.outcome : (end?.kind ?? 'no link');
}

/** Ends the worker as its agent does, and makes the next one after the waits that an agent keeps between crashes. */
async function replace(inits: WorkerInits, { containerId, breach = '' }: InitNews): Promise<void> {
  tell({ kind: 'Ended', name: containerId, breach });
  await inits.remove(containerId);
  const crashes = Number(containerId.split('.')[1]) + 1;
  await delay(backoffDelay(crashes, crashBackoff));
  await open(inits, nameOf(slotOf(containerId), crashes), 'hostile');
}

async function serve(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'hostile-words-'));
  const program = join(folder, 'program');
  await writeFile(program, '');
  const logger = silentLogger();
  const places = { runDir: join(folder, 'run'), stateDir: join(folder, 'state') };
  const inits = createWorkerInits({ ...places, program, clock: systemClock, logger });
  await inits.start();
  const sights = new Map<string, InitSight>();
  inits.subscribe((news) => {
    if (news.breach !== undefined) {
      sights.delete(news.containerId);
      // A hub that stops makes no more.
      replace(inits, news).catch(() => undefined);
      return;
    }
    foundCall(news);
    sights.set(news.containerId, heard(sights.get(news.containerId) ?? { kind: 'Away', since: 0 }, news, 0));
  });
  process.on('disconnect', () => process.exit());
  const obey = async (order: HubOrder): Promise<void> => {
    switch (order.kind) {
      case 'Open':
        await open(inits, CALLED, 'called');
        for (let slot = 0; slot < order.workers; slot += 1) {
          await open(inits, nameOf(String(slot), 0), 'hostile');
        }
        break;
      case 'Call':
        tell({ kind: 'Answered', id: order.id, outcome: await answer(inits.link(CALLED), order.id) });
        break;
      case 'Stop':
        await inits.stop();
        await delay(100);
        await rm(folder, { recursive: true, force: true });
        process.exit();
        break;
      default:
        unreachable(order);
    }
  };
  process.on('message', (order: HubOrder) => {
    obey(order).catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  });
}

if (process.argv[2] === 'hub') {
  keepHeapSmall();
  await serve();
}
