// node test/bench/kube-client/main.ts [OBJECTS]
// Figures of docs/adr/0043: src/kube beside @kubernetes/client-node, each measured in a process of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { configMaps } from '../../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { startApiServer } from '../../support/api-server.ts';
import { type Figures, MODES, type Order, UPDATES } from './modes.ts';

const namespace = 'default';
const count = Number(process.argv[2] ?? 10_000);
const AT_ONCE = 32;

const server = await startApiServer();
try {
  const client = createKubeClient({
    source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }),
  });
  const names = Array.from({ length: count }, (_, index) => `object-${index}`);
  await each(names, (name) =>
    client.create(configMaps, {
      metadata: { namespace, name, labels: { app: `app-${name.length}`, tier: 'bench' } },
      data: Object.fromEntries(Array.from({ length: 20 }, (_, index) => [`key-${index}`, 'x'.repeat(60)])),
    }),
  );
  let round = 0;
  const update = (): Promise<void> => {
    round += 1;
    return each(names.slice(0, Math.min(UPDATES, count)), (name) =>
      client.patch(configMaps, { namespace, name }, { kind: 'merge', body: { data: { round: String(round) } } }),
    );
  };
  const rows: Record<string, Figures> = {};
  for (const mode of MODES) {
    rows[mode] = await measure({ mode, kubeconfig: server.adminKubeconfig, count }, update);
    console.log(mode, JSON.stringify(rows[mode]));
  }
  console.table(rows);
  await client.close();
} finally {
  await server.stop();
}

/** Runs one mode in a child. The child asks for updates with a message and ends with its figures. */
async function measure(order: Order, update: () => Promise<void>): Promise<Figures> {
  const child = fork(join(import.meta.dirname, 'modes.ts'), [JSON.stringify(order)], {
    execArgv: ['--disable-warning=ExperimentalWarning', '--expose-gc'],
  });
  let figures: Figures | undefined;
  child.on('message', (message: 'update' | Figures) => {
    if (message === 'update') {
      void update();
    } else {
      figures = message;
    }
  });
  await once(child, 'exit');
  if (figures === undefined) {
    throw new Error(`${order.mode} gave no figures`);
  }
  return figures;
}

async function each(names: readonly string[], work: (name: string) => Promise<unknown>): Promise<void> {
  const waiting = [...names];
  const next = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      await work(name);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}
