import { fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { unreachable } from '../../src/common/errors.ts';
import { waitFor } from '../support/wait-for.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { CALLED, type HubOrder, type HubWord } from './hostile-words-hub.ts';
import { type InitsOrder, KINDS, kindOf } from './hostile-words-inits.ts';
import { peakResidentMiB, processorSeconds, residentMiB } from './processes.ts';
import type { ClusterBench, ClusterScenario } from './scenario.ts';

/** Workers of one namespace: as many as a node has Pods. */
const WORKERS = 110;
const TALK_MS = 300_000;
/** Each abuser is to be seen ended, however short the run. */
const LEAST_TALK_MS = 75_000;
const PRELUDE_MS = 10_000;
const REST_MS = 10_000;
const CALL_EVERY_MS = 20;
const CPU_EVERY_MS = 5_000;
const MOST_MORE_MIB = 64;
const MOST_CPU_PERCENT = 20;
const MOST_END_S = 60;

/** Workers talk without end, or are silent and burn that share of a processor. */
type Mode = { readonly kind: 'Talk' } | { readonly kind: 'Burn'; readonly share: number };

interface Turn {
  /** Milliseconds of each call. */
  readonly calls: readonly number[];
  readonly failures: readonly string[];
  /** Processor that the hub takes, in slices, in percent. */
  readonly cpu: readonly number[];
  readonly restMiB: number;
  readonly peakMiB: number;
  /** Processor that the inits take, as a share of one. */
  readonly burnt: number;
  /** Seconds from the first word of each worker until it was ended. */
  readonly ends: readonly { readonly name: string; readonly seconds: number }[];
  /** Breaches that ended workers, with their number. */
  readonly breaches: ReadonlyMap<string, number>;
  /** Seconds for which the others have talked at the end of the turn. */
  readonly left: readonly { readonly name: string; readonly seconds: number }[];
}

/**
 * 110 workers of one namespace that say all that an init may, hostile words of five kinds, to the agent's hub of inits:
 * what a call of another namespace takes, and what the hub takes; against as many that are silent and burn the same
 * processor.
 */
export const hostileWords: ClusterScenario = {
  name: 'hostile-words',
  group: 'inits',
  async run(bench): Promise<readonly BenchResult[]> {
    const talkMs = Math.max(LEAST_TALK_MS, TALK_MS * bench.scale);
    const prelude = await turn(bench, { kind: 'Talk' }, PRELUDE_MS);
    const before = await turn(bench, { kind: 'Burn', share: prelude.burnt }, talkMs / 2);
    const hostile = await turn(bench, { kind: 'Talk' }, talkMs);
    const after = await turn(bench, { kind: 'Burn', share: hostile.burnt }, talkMs / 2);
    return resultsOf(hostile, [before, after]);
  },
};

function resultsOf(hostile: Turn, silent: readonly Turn[]): readonly BenchResult[] {
  const failures = [hostile, ...silent].flatMap((each) => each.failures);
  const ends = hostile.ends.map(({ seconds }) => seconds);
  const late = hostile.left.filter(({ seconds }) => seconds > MOST_END_S);
  const silentCpu = silent.flatMap(({ cpu }) => cpu);
  return [
    compare({
      name: 'hostile-words',
      unit: 'ms',
      ours: hostile.calls,
      baseline: { what: `${WORKERS} silent workers that burn as much`, sample: silent.flatMap(({ calls }) => calls) },
      budget: 'no failure, p99 ≤ 2 × bare',
      met: (mine, bare) => failures.length === 0 && mine.p99 <= 2 * bare.p99,
      failures: failures.length,
      note: `the inits took ${[hostile, ...silent].map(({ burnt }) => burnt.toFixed(2)).join(', ')} of a processor, talking and silent${failures[0] === undefined ? '' : `; a call failed: ${failures[0]}`}`,
    }),
    compare({
      name: 'hostile-words-memory',
      unit: 'MiB',
      ours: [hostile.peakMiB],
      baseline: { what: 'the hub before the first hostile word', sample: [hostile.restMiB] },
      budget: `≤ bare + ${MOST_MORE_MIB} MiB`,
      met: (mine, bare) => mine.p99 <= bare.p99 + MOST_MORE_MIB,
      note: `at most by the kernel's own count; beside silent workers ${silent.map(({ peakMiB }) => peakMiB.toFixed(0)).join(' and ')} MiB`,
    }),
    compare({
      name: 'hostile-words-cpu',
      unit: '%',
      ours: hostile.cpu,
      baseline: { what: 'the hub beside silent workers', sample: silentCpu },
      budget: `mean ≤ ${MOST_CPU_PERCENT} %`,
      met: () => mean(hostile.cpu) <= MOST_CPU_PERCENT,
      note: `mean ${mean(hostile.cpu).toFixed(1)} %, beside silent workers ${mean(silentCpu).toFixed(1)} %`,
    }),
    compare({
      name: 'hostile-words-end',
      unit: 's',
      ours: ends,
      baseline: { what: 'the time in which an abuser is to be ended', sample: [MOST_END_S] },
      budget: `each ≤ ${MOST_END_S} s`,
      met: () => ends.length > 0 && late.length === 0 && Math.max(...ends) <= MOST_END_S,
      failures: late.length,
      note: `${ends.length} ended, ${late.length} not in time; ${KINDS.map((kind) => kindNote(kind, hostile)).join(', ')}; ${[...hostile.breaches].map(([breach, count]) => `${count} × ${breach}`).join(', ')}`,
    }),
  ];
}

function kindNote(kind: string, { ends, left }: Turn): string {
  const secondsOf = (those: Turn['ends']): number[] =>
    those.filter(({ name }) => kindOf(name) === kind).map(({ seconds }) => seconds);
  const most = Math.max(...secondsOf(ends), ...secondsOf(left)).toFixed(0);
  return `${kind} ${secondsOf(ends).length} (at most ${most} s)`;
}

function mean(those: readonly number[]): number {
  return those.reduce((sum, each) => sum + each, 0) / those.length;
}

/** The processes of one turn: the hub, and the inits. */
class Processes {
  readonly #hub = fork(join(import.meta.dirname, 'hostile-words-hub.ts'), ['hub']);
  readonly #inits = fork(join(import.meta.dirname, 'hostile-words-inits.ts'), ['inits']);
  readonly breaches = new Map<string, number>();
  readonly #began = new Map<string, number>();
  readonly #due = new Map<string, number>();
  readonly calls: number[] = [];
  readonly failures: string[] = [];
  readonly ends: { readonly name: string; readonly seconds: number }[] = [];

  constructor() {
    this.#hub.on('message', this.#take);
  }

  /** Seconds for which workers talk that are not ended, by name. */
  get left(): { readonly name: string; readonly seconds: number }[] {
    return [...this.#began].map(([name, at]) => ({ name, seconds: (performance.now() - at) / 1_000 }));
  }

  /** Whether calls wait for their answers. */
  get awaits(): boolean {
    return this.#due.size > 0;
  }

  get hubPid(): number {
    return this.#hub.pid ?? 0;
  }

  get initsPid(): number {
    return this.#inits.pid ?? 0;
  }

  async open(): Promise<void> {
    this.#order({ kind: 'Open', workers: WORKERS });
    await waitFor('the workers', () => this.#began.size === WORKERS, { timeoutMs: 60_000 });
    await delay(REST_MS / 2);
  }

  begin(mode: Mode): void {
    const now = performance.now();
    for (const name of this.#began.keys()) {
      this.#began.set(name, now);
    }
    this.#play(mode);
  }

  call(due: number): void {
    const id = randomUUID();
    this.#due.set(id, due);
    this.#order({ kind: 'Call', id });
  }

  forgetCalls(): void {
    this.calls.length = 0;
  }

  async stop(): Promise<void> {
    const ended = once(this.#hub, 'exit');
    this.#hub.off('message', this.#take);
    this.#inits.kill('SIGKILL');
    if (this.#hub.exitCode === null && this.#hub.connected) {
      this.#order({ kind: 'Stop' });
      const timer = setTimeout(() => this.#hub.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(timer);
    }
  }

  #order(order: HubOrder): void {
    this.#hub.send(order);
  }

  #play(order: InitsOrder): void {
    this.#inits.send(order);
  }

  readonly #take = (word: HubWord): void => {
    switch (word.kind) {
      case 'Opened':
        if (word.name === CALLED) {
          this.#play({ kind: 'Serve', folder: word.folder });
        } else {
          this.#began.set(word.name, performance.now());
          this.#play({ kind: 'Come', name: word.name, folder: word.folder });
        }
        break;
      case 'Answered':
        this.calls.push(performance.now() - (this.#due.get(word.id) ?? Number.NaN));
        this.#due.delete(word.id);
        if (word.outcome !== 'Answered') {
          this.failures.push(word.outcome);
        }
        break;
      case 'Ended':
        this.breaches.set(word.breach, (this.breaches.get(word.breach) ?? 0) + 1);
        this.ends.push({
          name: word.name,
          seconds: (performance.now() - (this.#began.get(word.name) ?? Number.NaN)) / 1_000,
        });
        this.#began.delete(word.name);
        break;
      default:
        unreachable(word);
    }
  };
}

async function turn({ say, interrupted }: ClusterBench, mode: Mode, ms: number): Promise<Turn> {
  say(`${WORKERS} workers ${mode.kind === 'Talk' ? 'talk' : 'are silent'} for ${(ms / 1_000).toFixed(0)} s ...`);
  const parts = new Processes();
  try {
    return await Promise.race([measure(parts, mode, ms), interrupted]);
  } finally {
    await parts.stop();
  }
}

async function measure(parts: Processes, mode: Mode, ms: number): Promise<Turn> {
  await parts.open();
  await callFor(parts, REST_MS / 2);
  parts.forgetCalls();
  const restMiB = await residentMiB(parts.hubPid);
  parts.begin(mode);
  const began = performance.now();
  const burntBefore = await processorSeconds([parts.initsPid]);
  const cpu: number[] = [];
  const sampling = sampleCpu(parts.hubPid, began + ms, cpu);
  await callFor(parts, ms);
  await sampling;
  const seconds = (performance.now() - began) / 1_000;
  const burnt = ((await processorSeconds([parts.initsPid])) - burntBefore) / seconds;
  const { breaches, calls, ends, failures, left } = parts;
  return { breaches, calls, ends, failures, left, cpu, burnt, restMiB, peakMiB: await peakResidentMiB(parts.hubPid) };
}

async function sampleCpu(pid: number, until: number, cpu: number[]): Promise<void> {
  let before = { at: performance.now(), seconds: await processorSeconds([pid]) };
  while (before.at < until) {
    await delay(CPU_EVERY_MS);
    const now = { at: performance.now(), seconds: await processorSeconds([pid]) };
    cpu.push((100_000 * (now.seconds - before.seconds)) / (now.at - before.at));
    before = now;
  }
}

/** Calls at fixed times, whether or not the calls before were answered, and waits for the last answers. */
async function callFor(parts: Processes, ms: number): Promise<void> {
  const began = performance.now();
  for (let due = began; due < began + ms; due += CALL_EVERY_MS) {
    await delay(Math.max(0, due - performance.now()));
    parts.call(due);
  }
  await waitFor('the last answers', () => !parts.awaits, { timeoutMs: 60_000 });
}
