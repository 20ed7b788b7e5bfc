import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LambdaFunction, lambdaFunctions } from '../../../src/api/lambda-function.ts';
import { type LambdaVersion, lambdaVersions } from '../../../src/api/lambda-version.ts';
import { type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { isLiving, isWorkerReady } from '../../../src/controller/functions/readiness.ts';
import { runGateway } from '../../../src/gateway/main.ts';
import { leases } from '../../../src/kube/api/resource-types.ts';
import { ListWatchInformer } from '../../../src/kube/cache/informer.ts';
import { gatewayFlags } from '../../../src/options/gateway.ts';
import { Random } from '../../chaos/random.ts';
import { freePort } from '../../support/free-port.ts';
import { functionManifest } from '../../support/function-manifest.ts';
import { type FunctionServer, startFunctionServer } from '../../support/function-server.ts';
import { optionsOf } from '../../support/options.ts';
import { type OwnedProcess, startOwnedProcess } from '../../support/owned-process.ts';
import { type Running, running } from '../../support/running.ts';
import { waitFor } from '../../support/wait-for.ts';

const KILLS = Number(process.env.ESB_CONTROLLER_KILLS ?? '4');
const SEED = Number(process.env.ESB_CONTROLLER_SEED ?? Date.now() % 1_000_000);
/** How many times as fast the clocks of the controllers go: the Lease of one that was killed ends after 3 s. */
const SPEED = 5;
const MAX_WORKERS = 14;
const LEAST = 3;
const MAX_CALLS = 9;
const rollout = { maxSurge: 2, maxUnavailable: 1 };
const namespace = 'default';
const NAME = 'storm';

/** Takes down where a watch has seen a bound exceeded. */
class Witness {
  readonly broken: string[] = [];
  readonly #settled = new Set<string>();
  /** By name of a worker, the uid of the one that is there. */
  readonly #present = new Map<string, string>();
  readonly #numbers = new Map<number, string>();
  mostWorkers = 0;
  mostChanging = 0;
  created = 0;

  /** Workers that were ready once and are not as they are wished now, by a change of theirs. */
  changing(workers: readonly LambdaWorker[]): readonly LambdaWorker[] {
    return workers.filter((worker) => this.#settled.has(worker.metadata.uid ?? '') && !isWorkerReady(worker));
  }

  seeWorkers(all: readonly LambdaWorker[]): void {
    const living = all.filter(isLiving);
    for (const worker of living) {
      const { name, uid = '' } = worker.metadata;
      this.created += this.#present.get(name) === uid ? 0 : 1;
      this.#present.set(name, uid);
      if (isWorkerReady(worker)) {
        this.#settled.add(uid);
      }
    }
    const latest = living.filter(({ spec }) => spec.version === undefined);
    const changing = this.changing(latest);
    this.mostWorkers = Math.max(this.mostWorkers, living.length);
    this.mostChanging = Math.max(this.mostChanging, changing.length);
    // One for each call, and a spare one.
    if (living.length > MAX_WORKERS || latest.length > MAX_CALLS + 1) {
      this.broken.push(`${living.length} workers, ${latest.length} of $LATEST`);
    }
    if (changing.length > rollout.maxSurge + rollout.maxUnavailable) {
      this.broken.push(`${changing.map(({ metadata }) => metadata.name).join()} change at once`);
    }
  }

  seeVersion({ metadata, spec }: LambdaVersion): void {
    const { env, image } = spec.template.spec;
    const change = env?.find(({ name }) => name === 'CHANGE')?.value ?? '';
    const content = `${metadata.uid} ${JSON.stringify(spec)}`;
    const known = this.#numbers.get(spec.version) ?? content;
    this.#numbers.set(spec.version, content);
    if (known !== content || !image.endsWith(digestOf(change))) {
      this.broken.push(`version ${spec.version} of ${image} for change ${change}`);
    }
  }

  /** Contents that have more than one number. */
  get versions(): number {
    return this.#numbers.size;
  }
}

function digestOf(change: string): string {
  return createHash('sha256').update(change).digest('hex');
}

describe(`${KILLS} kills of controllers in the middle of growth, a rollout and a publication (ESB_CONTROLLER_SEED=${SEED})`, () => {
  let lab: FunctionServer;
  let folder: string;
  let url: string;
  let gateway: Running;
  const random = new Random(SEED);
  const controllers = new Map<string, OwnedProcess>();
  const logger = silentLogger();

  beforeAll(async () => {
    lab = await startFunctionServer();
    folder = await mkdtemp(join(tmpdir(), 'esb-kills-'));
    const port = await freePort();
    url = `http://127.0.0.1:${port}`;
    const flags = [
      ...['--kubeconfig', await lab.server.kubeconfig('esb:gateway'), '--namespace', namespace, '--state-dir', folder],
      ...['--listen', `127.0.0.1:${port}`, '--health', '127.0.0.1:0', '--authentication=off'],
    ];
    gateway = running((signal) =>
      runGateway(optionsOf(gatewayFlags, flags), { signal, logger }, { maxWaitMs: 600_000 }),
    );
  });

  afterAll(async () => {
    await gateway?.stop();
    await Promise.all([...controllers.values()].map((one) => one.kill()));
    await lab?.close();
    await rm(folder ?? '', { recursive: true, force: true });
  });

  const start = async (identity: string): Promise<void> => {
    const flags = [
      ...['--kubeconfig', lab.controllerConfig, '--identity', identity],
      ...['--health', '127.0.0.1:0', '--demand-listen', '127.0.0.1:0'],
    ];
    const args = [join(import.meta.dirname, '../../support/fast-controller.ts'), String(SPEED), ...flags];
    const logFile = join(lab.server.folder, `${identity}.log`);
    controllers.set(identity, await startOwnedProcess({ program: process.execPath, args, logFile }));
  };
  /** The controller that leads and is not dead. */
  const leader = () =>
    waitFor(
      'a leader',
      async () => {
        const lease = await lab.admin.get(leases, { namespace: 'esb-system', name: 'esb-controller' });
        const holder = lease?.spec?.holderIdentity ?? '';
        return [...controllers].find(([identity]) => holder.startsWith(`${identity}_`));
      },
      { timeoutMs: 60_000, everyMs: 20 },
    );
  const apply = (change: number, version: number | undefined): Promise<unknown> =>
    lab.server.kubectl(
      ['apply', '-f', '-'],
      functionManifest(NAME, {
        scaling: { mode: 'Auto', minWorkers: LEAST, maxWorkers: MAX_WORKERS, scaleDownDelaySeconds: 5 },
        rollout,
        publishToken: `change-${change}`,
        ...(version === undefined ? {} : { aliases: [{ name: 'live', version, provisionedWorkers: 2 }] }),
        template: { spec: { image: 'hello:1', env: [{ name: 'CHANGE', value: String(change) }] } },
      }),
    );
  /** Has the agent of a worker tell how far it is: on its way with a container that serves, or as it is wished. */
  const report = async ({ metadata, spec }: LambdaWorker, isReady: boolean): Promise<void> => {
    const change = spec.env?.find(({ name }) => name === 'CHANGE')?.value ?? '';
    const lastTransitionTime = `${new Date().toISOString().slice(0, 19)}Z`;
    const word = (type: string, status: 'True' | 'False') => ({
      ...{ type, status, reason: isReady ? 'Running' : 'Replacing', message: '', lastTransitionTime },
    });
    const status = {
      phase: 'Running',
      observedGeneration: metadata.generation,
      image: spec.version === undefined ? `registry.example/hello@sha256:${digestOf(change)}` : spec.image,
      conditions: [word('Ready', isReady ? 'True' : 'False'), word('Callable', 'True')],
    };
    await lab.admin.patch(
      lambdaWorkers,
      { namespace, name: metadata.name },
      { kind: 'apply', fieldManager: 'esb-agent', body: { metadata: { uid: metadata.uid }, status } },
      { subresource: 'status' },
    );
  };

  it(
    'make no worker too many, give no number twice, and keep to the budget at all times',
    async () => {
      const { admin, node } = lab;
      const witness = new Witness();
      const watch = { logger };
      const workers = new ListWatchInformer<LambdaWorker>(admin, lambdaWorkers, { namespace }, watch);
      const versions = new ListWatchInformer<LambdaVersion>(admin, lambdaVersions, { namespace }, watch);
      const functions = new ListWatchInformer<LambdaFunction>(admin, lambdaFunctions, { namespace }, watch);
      const informers = [workers, versions, functions] as const;
      workers.subscribe(() => witness.seeWorkers(workers.cache.list()));
      versions.subscribe(({ kind, object }) => kind === 'deleted' || witness.seeVersion(object));
      for (const informer of informers) {
        informer.start();
        await informer.synced();
      }
      const latest = () => workers.cache.list().filter((one) => isLiving(one) && one.spec.version === undefined);
      const owner = (): LambdaFunction | undefined => functions.cache.get({ namespace, name: NAME });
      const hung = new Set<AbortController>();
      /** Has so many calls wait in the gateway. */
      const call = (count: number): void => {
        while (hung.size > count) {
          const [one] = hung;
          one?.abort();
          hung.delete(one as AbortController);
        }
        while (hung.size < count) {
          const one = new AbortController();
          hung.add(one);
          const request = { method: 'POST', body: '{}', signal: one.signal };
          fetch(`${url}/2015-03-31/functions/${NAME}/invocations`, request)
            .catch(() => undefined)
            .finally(() => hung.delete(one));
        }
      };
      let isOver = false;
      const agent = (async () => {
        while (!isOver) {
          // The part that the test plays takes as long.
          await delay(random.next() * 60);
          const due = workers.cache
            .list()
            .filter(
              (worker) => worker.status?.assignment !== undefined && (!isLiving(worker) || !isWorkerReady(worker)),
            );
          const chosen = due.filter(() => random.next() < 0.4);
          await Promise.all(
            chosen.map((worker) =>
              (isLiving(worker) ? report(worker, random.next() < 0.7) : node.cleanUp(worker)).catch(() => undefined),
            ),
          );
        }
      })();
      const settled = () =>
        waitFor(
          'the function to be as it is wished',
          () => {
            const { metadata, spec, status } = owner() ?? {};
            const isTold = metadata !== undefined && status?.observedGeneration === metadata.generation;
            const isPublished = status?.publication?.token === spec?.publishToken;
            return isTold && isPublished && status?.conditions?.[0]?.status === 'True';
          },
          { timeoutMs: 120_000 },
        );
      const middles = { growth: 0, rollout: 0, publication: 0 };
      try {
        await apply(0, undefined);
        await start('first');
        await start('second');
        await settled();
        for (let kill = 1; kill <= KILLS; kill += 1) {
          const { latestVersion, publication } = owner()?.status ?? {};
          await apply(kill, publication?.state === 'Created' && kill % 3 === 0 ? latestVersion : undefined);
          const isStorm = kill % 4 === 1;
          call(isStorm ? MAX_CALLS : random.between(0, MAX_CALLS));
          const [identity, process] = await leader();
          if (isStorm) {
            // The gateway has to find the new leader first.
            const beginning = () => latest().length > LEAST;
            await waitFor('more workers', beginning, { timeoutMs: 60_000, everyMs: 1 });
          } else {
            // Most of what a change brings about begins within some milliseconds.
            await delay(random.next() * random.next() * 1_500);
          }
          middles.growth += isStorm && latest().length <= MAX_CALLS ? 1 : 0;
          middles.rollout += latest().some(({ spec }) => spec.env?.[0]?.value !== String(kill)) ? 1 : 0;
          const { state, token } = owner()?.status?.publication ?? {};
          middles.publication += state === 'Creating' || token !== `change-${kill}` ? 1 : 0;
          await process.kill();
          controllers.delete(identity);
          await start(`controller-${kill}`);
          if (kill % 4 === 0 || kill === KILLS) {
            call(0);
            await settled();
            await waitFor('as few workers as without calls', () => latest().length === LEAST, { timeoutMs: 120_000 });
          }
        }
      } finally {
        isOver = true;
        call(0);
        await agent;
        await Promise.all(informers.map((informer) => informer.stop()));
      }
      const { broken, created, mostChanging, mostWorkers } = witness;
      const seen = `${mostWorkers} workers, ${mostChanging} changing at once, ${created} made, ${witness.versions} versions`;
      console.log(`${KILLS} kills, in the middle of ${JSON.stringify(middles)}: ${seen}`);
      expect(broken).toEqual([]);
      expect(witness.versions).toBeGreaterThan(0);
    },
    240_000 + KILLS * 30_000,
  );
});
