import { Counter, Gauge, Registry } from 'prom-client';
import type { Clock } from '../../common/clock.ts';
import { Limiter } from '../../common/limiter.ts';
import type { MetricsPage } from '../../common/net/health-server.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import type { WorkerUsage } from '../../runtime/contract/usage.ts';
import type { Fleet } from '../model/fleet.ts';

/** Workers that are read at the same time: few, since calls share the threads that read files. */
const AT_ONCE = 4;
/** Milliseconds for which figures serve: clients that ask more often cost nothing more. */
const FRESH_MS = 1_000;
/** Milliseconds for one worker. */
const DEADLINE_MS = 2_000;

interface Sources {
  readonly fleet: Pick<Fleet, 'views'>;
  readonly runtime: Pick<ContainerRuntime, 'usage'>;
  readonly clock: Clock;
}

/** Figures by the uid of their worker. */
export type Usages = ReadonlyMap<string, WorkerUsage>;

/** Reads what each worker of the node uses, when that is asked for. A frozen worker costs the read of some files. */
export class WorkerUsages {
  readonly #sources: Sources;
  #last: { readonly at: number; readonly usages: Promise<Usages> } | undefined;

  constructor(sources: Sources) {
    this.#sources = sources;
  }

  /** Figures of all workers that have a container, a second old at most. Never rejects: a worker without figures is left out. */
  read(): Promise<Usages> {
    const now = this.#sources.clock.monotonic();
    if (this.#last === undefined || now - this.#last.at >= FRESH_MS) {
      const usages = this.#read();
      this.#last = { at: now, usages };
      // Those that come during a long look share it.
      void usages.then(() => {
        if (this.#last?.usages === usages) {
          this.#last = { at: this.#sources.clock.monotonic(), usages };
        }
      });
    }
    return this.#last.usages;
  }

  async #read(): Promise<Usages> {
    const { fleet, runtime } = this.#sources;
    const limiter = new Limiter(AT_ONCE);
    const usages = new Map<string, WorkerUsage>();
    const reads = fleet.views().map(async ({ containerId, identity }) => {
      if (containerId === undefined) {
        return;
      }
      const usage = await limiter
        .run(() => runtime.usage(containerId, { deadlineMs: DEADLINE_MS }))
        .catch(() => undefined);
      if (usage !== undefined) {
        usages.set(identity.uid, usage);
      }
    });
    await Promise.all(reads);
    return usages;
  }
}

/** The metrics of each worker, apart from those of the agent: their number grows with that of the workers. */
export class WorkerMetrics {
  readonly registry = new Registry();
  readonly #cpu = new Counter({
    name: 'esb_worker_cpu_usage_seconds_total',
    help: 'Processor time of a worker since its container was made.',
    labelNames: ['namespace', 'worker', 'function'],
    registers: [this.registry],
  });
  readonly #memory = new Gauge({
    name: 'esb_worker_memory_working_set_bytes',
    help: 'Memory of a worker, frozen or not, without file pages that were not read of late.',
    labelNames: ['namespace', 'worker', 'function'],
    registers: [this.registry],
  });

  async page(fleet: Pick<Fleet, 'views'>, usages: Pick<WorkerUsages, 'read'>): Promise<MetricsPage> {
    const figures = await usages.read();
    this.#cpu.reset();
    this.#memory.reset();
    for (const { identity } of fleet.views()) {
      const usage = figures.get(identity.uid);
      if (usage !== undefined) {
        const labels = { namespace: identity.namespace, worker: identity.name, function: identity.functionName };
        this.#cpu.inc(labels, usage.cpuUs / 1e6);
        this.#memory.set(labels, usage.memoryBytes);
      }
    }
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }
}
