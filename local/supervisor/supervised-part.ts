import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';
import { backoffDelay } from '../../src/common/backoff.ts';
import type { Clock, Timer } from '../../src/common/clock.ts';
import { EsbError, errnoOf, messageOf } from '../../src/common/errors.ts';
import { Limiter } from '../../src/common/limiter.ts';
import { localCode } from '../common/error-codes.ts';
import { identify, isRunning, type ProcessIdentity, signalProcess, waitForEnd } from '../common/process-table.ts';
import { netnsPath } from '../network/node-address.ts';
import { probeHealth } from './health-probe.ts';
import { type PartSpec, type PartStatus, partFingerprint } from './part.ts';

/** The record of a part on disk, for the next supervisor after a crash. */
export interface PartRecord {
  /** Fingerprint of the spec that the process was started from. */
  readonly fingerprint: string;
  /** False while it is stopped on purpose. */
  readonly wanted: boolean;
  readonly process?: ProcessIdentity;
}

export interface SupervisedPartOptions {
  readonly spec: PartSpec;
  /** Where its record is kept. */
  readonly recordFile: string;
  /** The environment that all parts share. */
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly log: (fields: Readonly<Record<string, unknown>>, message: string) => void;
}

/** Waits before an ended part is started again. */
const RESTART_BACKOFF = { firstMs: 100, maxMs: 10_000 } as const;
/** Milliseconds of run after which a part counts as sound again. */
const SOUND_AFTER_MS = 10_000;
/** Milliseconds after its start for which a part that does not serve counts as starting. */
const STARTING_MS = 20_000;
const KILL_DEADLINE_MS = 10_000;
const HEALTH_DEADLINE_MS = 2_000;
/** A process of an earlier supervisor is no child of this one: its end is found by looking. */
const ADOPTED_LOOK_MS = 300;

interface Running {
  readonly process: ProcessIdentity;
  readonly since: number;
}

/** Keeps one part running. {@link SupervisedPart.run} serializes the other methods. */
export class SupervisedPart {
  readonly spec: PartSpec;
  readonly #options: SupervisedPartOptions;
  #wanted = true;
  #running: Running | undefined;
  #failures = 0;
  #restarts = 0;
  #timer: Timer | undefined;
  #startedOnce = false;
  #lastError: string | undefined;
  readonly #actions = new Limiter(1);

  constructor(options: SupervisedPartOptions) {
    this.#options = options;
    this.spec = options.spec;
  }

  /** Runs `action` after the actions that wait for this part. */
  run<T>(action: () => Promise<T>): Promise<T> {
    return this.#actions.run(action);
  }

  /**
   * Takes over the process of an earlier supervisor, or starts one.
   *
   * @param evenIfStopped also when it was stopped on purpose
   */
  async adoptOrStart(evenIfStopped: boolean): Promise<void> {
    if (this.#running !== undefined || this.#timer !== undefined) {
      return;
    }
    const record = await readPartRecord(this.#options.recordFile);
    if (record?.wanted === false && !evenIfStopped) {
      this.#wanted = false;
      return;
    }
    if (record?.process !== undefined && (await isRunning(record.process))) {
      this.#running = { process: record.process, since: this.#options.clock.monotonic() };
      if (record.fingerprint === partFingerprint(this.spec)) {
        this.#options.log({ part: this.spec.name, pid: record.process.pid }, 'part adopted');
        this.#startedOnce = true;
        this.#watchAdopted(record.process);
        return;
      }
      await this.stop('SIGTERM');
    }
    await this.start();
  }

  /** Starts it unless it runs. */
  async start(): Promise<void> {
    this.#wanted = true;
    this.#failures = 0;
    if (this.#running === undefined) {
      await this.#spawn();
    }
  }

  /** Ends it and keeps it ended. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#wanted = false;
    this.#timer?.cancel();
    this.#timer = undefined;
    const running = this.#running;
    await this.#record();
    if (running === undefined) {
      return;
    }
    await signalProcess(running.process, signal);
    // A process that was frozen by SIGSTOP takes no SIGTERM before it goes on.
    await signalProcess(running.process, 'SIGCONT');
    if (!(await waitForEnd(running.process, signal === 'SIGKILL' ? KILL_DEADLINE_MS : this.spec.stopGraceMs))) {
      await signalProcess(running.process, 'SIGKILL');
      if (!(await waitForEnd(running.process, KILL_DEADLINE_MS))) {
        throw new EsbError(`${this.spec.name} (process ${running.process.pid}) does not end`, {
          code: localCode('PartDoesNotEnd'),
        });
      }
    }
    this.#running = undefined;
    await this.#record();
    this.#options.log({ part: this.spec.name, signal }, 'part stopped');
  }

  async status(): Promise<PartStatus> {
    const running = this.#running;
    const of = (health: string): PartStatus => ({
      name: this.spec.name,
      pid: running?.process.pid ?? 0,
      health,
      restarts: this.#restarts,
    });
    if (running === undefined) {
      return of(this.#wanted ? `restarting (${this.#lastError ?? 'it ended'})` : 'stopped');
    }
    const health = await probeHealth(this.spec.health, HEALTH_DEADLINE_MS);
    const young = this.#options.clock.monotonic() - running.since < STARTING_MS;
    return of(health !== 'healthy' && young ? `starting (${health.replace(/^failing: /, '')})` : health);
  }

  /** Lets go of the part: its process goes on. */
  release(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  async forget(): Promise<void> {
    await rm(this.#options.recordFile, { force: true });
  }

  async #spawn(): Promise<void> {
    const { spec, env } = this.#options;
    const [program, args] =
      spec.namespace === undefined
        ? [spec.program, spec.args]
        : ['nsenter', [`--net=${netnsPath(spec.namespace)}`, '--', spec.program, ...spec.args]];
    const log = openSync(spec.logFile, 'a', 0o600);
    const spawned = Promise.withResolvers<void>();
    const child = spawn(program, args, {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...env, ...spec.env },
      cwd: '/',
    });
    closeSync(log);
    child.once('spawn', () => spawned.resolve());
    child.once('error', (error) => spawned.reject(error));
    // Listens from the start: a program may end before its process is looked at, and its exit is reported.
    const exit = Promise.withResolvers<string>();
    child.once('exit', (code, signal) =>
      exit.resolve(signal === null ? `it ended with code ${code ?? 0}` : `it was ended by ${signal}`),
    );
    try {
      await spawned.promise;
    } catch (error) {
      this.#ended(`it cannot be started: ${messageOf(error)}`, 0);
      return;
    }
    const identity = child.pid === undefined ? undefined : await identify(child.pid);
    const since = this.#options.clock.monotonic();
    if (identity === undefined) {
      this.#ended(await exit.promise, 0);
      return;
    }
    this.#startedOnce = true;
    this.#running = { process: identity, since };
    await this.#record();
    this.#options.log({ part: spec.name, pid: identity.pid }, 'part started');
    exit.promise
      .then((how) => {
        if (this.#running?.process === identity) {
          this.#ended(how, this.#options.clock.monotonic() - since);
        }
      })
      .catch((error: unknown) => this.#options.log({ error: messageOf(error) }, 'a part’s end was lost'));
  }

  #watchAdopted(process: ProcessIdentity): void {
    const look = async (): Promise<void> => {
      if (this.#running?.process !== process) {
        return;
      }
      if (await isRunning(process)) {
        this.#timer = this.#options.clock.setTimer(onTimer, ADOPTED_LOOK_MS);
      } else {
        this.#ended('it ended', SOUND_AFTER_MS);
      }
    };
    const onTimer = (): void => {
      this.#timer = undefined;
      look().catch((error: unknown) => this.#options.log({ error: messageOf(error) }, 'look failed'));
    };
    onTimer();
  }

  /** Handles the end of the process: a wanted part that is not being stopped starts again. */
  #ended(how: string, ranMs: number): void {
    this.#running = undefined;
    this.#lastError = how;
    if (!this.#wanted) {
      return;
    }
    this.#failures = ranMs >= SOUND_AFTER_MS ? 1 : this.#failures + 1;
    if (this.#startedOnce) {
      this.#restarts += 1;
    }
    const delayMs = backoffDelay(this.#failures, RESTART_BACKOFF);
    this.#options.log({ part: this.spec.name, how, delayMs }, 'part ended, restarting');
    this.#timer = this.#options.clock.setTimer(() => {
      this.#timer = undefined;
      this.run(async () => {
        if (this.#wanted && this.#running === undefined) {
          await this.#spawn();
        }
      }).catch((error: unknown) =>
        this.#options.log({ part: this.spec.name, error: messageOf(error) }, 'restart failed'),
      );
    }, delayMs);
  }

  async #record(): Promise<void> {
    const record: PartRecord = {
      fingerprint: partFingerprint(this.spec),
      wanted: this.#wanted,
      ...(this.#running === undefined ? {} : { process: this.#running.process }),
    };
    await writeFileAtomically(this.#options.recordFile, JSON.stringify(record));
  }
}

/** The last record of a part; undefined where there is none that can be read. */
export async function readPartRecord(file: string): Promise<PartRecord | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as PartRecord;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}
