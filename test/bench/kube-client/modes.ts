// One mode of the measurement, in a process of its own: see main.ts.
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import type { KubeConfig } from '@kubernetes/client-node';
import { silentLogger } from '../../../src/common/logger.ts';

export const MODES = [
  'nothing',
  'load ours',
  'load library',
  'informer ours',
  'informer library',
  'watch-list ours',
  'burst ours',
  'burst library',
] as const;

export interface Order {
  readonly mode: (typeof MODES)[number];
  readonly kubeconfig: string;
  readonly count: number;
}

export interface Figures {
  /** Milliseconds for loading, and for the whole list or all requests. */
  readonly loadMs: number;
  readonly workMs?: number;
  /** MiB: resident after a collection, the most that was resident, and the heap. */
  readonly rssMiB: number;
  readonly peakMiB: number;
  readonly heapMiB: number;
  /** Seconds of processor time for loading and list or requests, and for {@link UPDATES} updates. */
  readonly cpuSeconds: number;
  readonly updateCpuSeconds?: number;
  readonly sockets?: number;
}

/** Objects that are changed while an informer watches. */
export const UPDATES = 5_000;
const REQUESTS = 1_000;
const namespace = 'default';

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const order = JSON.parse(process.argv[2] ?? '') as Order;
  process.send?.(await run(order), undefined, undefined, () => process.exit(0));
}

async function run({ mode, kubeconfig, count }: Order): Promise<Figures> {
  switch (mode) {
    case 'nothing':
      return figures(0);
    case 'load ours': {
      const { loadMs } = await ours(kubeconfig);
      return figures(loadMs);
    }
    case 'load library': {
      const { loadMs } = await library(kubeconfig);
      return figures(loadMs);
    }
    case 'informer ours': {
      const { loadMs, client, configMaps, ListWatchInformer } = await ours(kubeconfig);
      const informer = new ListWatchInformer(client, configMaps, { namespace }, { logger: silentLogger() });
      let changes = 0;
      informer.subscribe(({ kind }) => {
        changes += kind === 'updated' ? 1 : 0;
      });
      const workMs = await timed(async () => {
        informer.start();
        await informer.synced();
      });
      return withUpdates({ ...figures(loadMs), workMs }, () => changes, count);
    }
    case 'informer library': {
      const { loadMs, config, module } = await library(kubeconfig);
      const api = config.makeApiClient(module.CoreV1Api);
      const list = () => api.listNamespacedConfigMap({ namespace });
      const informer = module.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
      let added = 0;
      let changes = 0;
      informer.on('add', () => {
        added += 1;
      });
      informer.on('update', () => {
        changes += 1;
      });
      const workMs = await timed(async () => {
        await informer.start();
        await until(() => added >= count);
      });
      return withUpdates({ ...figures(loadMs), workMs }, () => changes, count);
    }
    case 'watch-list ours': {
      const { loadMs, source } = await ours(kubeconfig);
      const { Transport } = await import('../../../src/kube/client/transport.ts');
      const { linesOf, parseWatchFrame } = await import('../../../src/kube/client/watch-frames.ts');
      const { createObjectCache } = await import('../../../src/kube/cache/object-cache.ts');
      const cache = createObjectCache();
      const query =
        'watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=60';
      const workMs = await timed(async () => {
        const stream = await new Transport({ source }).stream(
          { what: 'watch', method: 'GET', path: `/api/v1/namespaces/${namespace}/configmaps?${query}` },
          new AbortController().signal,
        );
        for await (const line of linesOf(stream.body)) {
          const frame = parseWatchFrame(line, line);
          if (frame.kind === 'bookmark') {
            return;
          }
          delete (frame.object.metadata as { managedFields?: unknown }).managedFields;
          cache.set(frame.object);
        }
      });
      return { ...figures(loadMs), workMs };
    }
    case 'burst ours': {
      const { loadMs, client, configMaps } = await ours(kubeconfig);
      return burst(loadMs, count, (name) => client.get(configMaps, { namespace, name }));
    }
    case 'burst library': {
      const { loadMs, config, module } = await library(kubeconfig);
      const api = config.makeApiClient(module.CoreV1Api);
      return burst(loadMs, count, (name) => api.readNamespacedConfigMap({ namespace, name }));
    }
    default:
      throw new Error(`no such mode: ${String(mode)}`);
  }
}

async function ours(kubeconfig: string) {
  const began = performance.now();
  const [{ createKubeClient }, { createKubeConnectionSource }, { configMaps }, { ListWatchInformer }] =
    await Promise.all([
      import('../../../src/kube/client/client.ts'),
      import('../../../src/kube/client/kube-config.ts'),
      import('../../../src/kube/api/resource-types.ts'),
      import('../../../src/kube/cache/informer.ts'),
    ]);
  const source = createKubeConnectionSource({ kubeconfig });
  const client = createKubeClient({ source });
  return { loadMs: performance.now() - began, source, client, configMaps, ListWatchInformer };
}

async function library(kubeconfig: string) {
  const began = performance.now();
  const module = await import('@kubernetes/client-node');
  const config: KubeConfig = new module.KubeConfig();
  config.loadFromFile(kubeconfig);
  return { loadMs: performance.now() - began, module, config };
}

async function burst(loadMs: number, count: number, get: (name: string) => Promise<unknown>): Promise<Figures> {
  let sockets = 0;
  const look = setInterval(() => {
    sockets = Math.max(sockets, process.getActiveResourcesInfo().filter((name) => name.startsWith('TCP')).length);
  }, 5);
  const workMs = await timed(async () => {
    await Promise.all(Array.from({ length: REQUESTS }, (_, index) => get(`object-${index % count}`)));
  });
  clearInterval(look);
  return { ...figures(loadMs), workMs, sockets };
}

async function withUpdates(before: Figures, changes: () => number, count: number): Promise<Figures> {
  const cpu = process.cpuUsage();
  process.send?.('update');
  await until(() => changes() >= Math.min(UPDATES, count));
  const used = process.cpuUsage(cpu);
  return {
    ...figures(before.loadMs),
    workMs: before.workMs ?? 0,
    cpuSeconds: before.cpuSeconds,
    updateCpuSeconds: rounded((used.user + used.system) / 1e6),
  };
}

async function timed(work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return Math.round(performance.now() - began);
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) {
    await delay(20);
  }
}

function figures(loadMs: number): Figures {
  const { user, system } = process.cpuUsage();
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  return {
    loadMs: Math.round(loadMs),
    rssMiB: Math.round(rss / 2 ** 20),
    peakMiB: Math.round(process.resourceUsage().maxRSS / 1024),
    heapMiB: Math.round(heapUsed / 2 ** 20),
    cpuSeconds: rounded((user + system) / 1e6),
  };
}

function rounded(seconds: number): number {
  return Math.round(seconds * 100) / 100;
}
