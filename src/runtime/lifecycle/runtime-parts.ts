import { dirname, join } from 'node:path';
import { type Clock, systemClock } from '../../common/clock.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import type { Logger } from '../../common/logger.ts';
import { TaskGroup } from '../../common/task-group.ts';
import type { WorkerInits } from '../../init/contract.ts';
import type { CredentialSource } from '../contract/credential-source.ts';
import type { RuntimeObserver } from '../contract/instrumentation.ts';
import type { LogLimits } from '../logs/log-layout.ts';
import { WorkerLogs } from '../logs/worker-logs.ts';
import { HostPortAllocator, type HostPortRange } from '../start/host-port-allocator.ts';
import { type Connect, tcpConnect } from '../start/port-probe.ts';
import { CreationSteps } from './creation-steps.ts';
import { RuntimeEvents } from './runtime-events.ts';

/** Settings that every runtime has, by subject. */
export interface RuntimeOptions {
  readonly logs: {
    /** Folder of the workers' output. */
    readonly folder: string;
    /** How much of a worker's output is kept. Default five files of 10 MiB. */
    readonly limits?: LogLimits | undefined;
  };
  readonly hostPorts?: {
    /** Folder of the record which worker has which ports of the node. Default: beside the folder of the output. */
    readonly folder?: string | undefined;
    /** Ports that workers in `Host` mode may be given. Default 25000 to 26999. */
    readonly range?: HostPortRange | undefined;
  };
  readonly images?: {
    /** Images of one registry that are pulled at the same time. Default 3. */
    readonly maxPulls?: number | undefined;
    /** Credentials of the node. Default: none. */
    readonly credentials?: CredentialSource | undefined;
  };
  readonly readiness?: {
    /** Milliseconds that a started worker may take until its port is open. Default 60,000. */
    readonly deadlineMs?: number | undefined;
    /** How a port is tried. Default TCP from this process. */
    readonly connect?: Connect | undefined;
  };
  /** The inits of workers of interface `Lambda`. Default: no such worker is made. */
  readonly inits?: WorkerInits | undefined;
  readonly observer?: RuntimeObserver | undefined;
  /** Runs the programs of the operating system. Default: as children of this process. */
  readonly runner?: CommandRunner | undefined;
  readonly clock?: Clock | undefined;
  readonly logger: Logger;
}

/** Parts that a runtime and its backend share. */
export type RuntimeParts = Readonly<ReturnType<typeof createRuntimeParts>>;

const DEFAULT_LISTEN_DEADLINE_MS = 60_000;

export function createRuntimeParts(options: RuntimeOptions) {
  const { hostPorts, inits, logger, observer, readiness, runner } = options;
  const { folder, limits } = options.logs;
  const clock = options.clock ?? systemClock;
  const logs = new WorkerLogs(folder, { limits, runner, clock, logger });
  return {
    logs,
    /** Records of who may use which image. */
    proofsFile: join(dirname(folder), 'image-proofs.json'),
    hostPorts: new HostPortAllocator({
      folder: hostPorts?.folder ?? join(dirname(folder), 'host-ports'),
      range: hostPorts?.range,
    }),
    steps: new CreationSteps({
      logs,
      listenDeadlineMs: readiness?.deadlineMs ?? DEFAULT_LISTEN_DEADLINE_MS,
      connect: readiness?.connect ?? tcpConnect,
      inits,
      observer,
      clock,
      logger,
    }),
    inits,
    events: new RuntimeEvents(logger),
    /** Owner of work that outlives the call which began it. */
    background: new TaskGroup((name, error) => {
      logger.warn({ task: name, err: error }, 'a task in the background failed');
    }),
    observer,
    clock,
    logger,
  };
}
