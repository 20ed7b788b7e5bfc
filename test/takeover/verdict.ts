import { type CallKind, callKinds, type EndKind, type LoadedCall } from './load.ts';

/** Kills after which each kind of call was under way at one. */
const ENOUGH_KILLS = 100;

/** A call that a worker ran, as its function noted it, and the process that ran it. */
export interface NotedRun {
  readonly worker: string;
  readonly id: string;
  readonly process: string;
}

/** The lines that the functions write for each call. */
export function runsIn(worker: string, text: string): readonly NotedRun[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [id = '', process = ''] = line.split(' ');
      return { worker, id, process };
    });
}

/** Calls and workers that the kills have met. */
export interface Hits {
  readonly kills: number;
  /** Calls that were under way at a kill, by kind. A long one counts at each kill. */
  readonly calls: ReadonlyMap<CallKind, number>;
  /** Paused workers just before a kill, on the average of the looks at them. */
  readonly paused: number;
}

/** Ends of calls and runtimes under many ends of the agent. */
export interface Verdict {
  readonly calls: number;
  readonly hits: Hits;
  readonly ends: Readonly<Record<EndKind, number>>;
  /** Runtimes that were started beyond the first of each worker. */
  readonly restartedRuntimes: number;
  readonly runTwice: number;
  /** Calls that were answered, and that no worker noted; or refused, and noted. */
  readonly untrue: number;
  /** A line for each call and worker that is not as expected. */
  readonly wrong: readonly string[];
}

/** Every call is to be answered, and to have run once; no runtime is to have been started again. */
export function verdictOn(calls: readonly LoadedCall[], runs: readonly NotedRun[], hits: Hits): Verdict {
  const wrong: string[] = [];
  const ends: Record<EndKind, number> = { Answered: 0, Wrong: 0, Failed: 0, Refused: 0, Unknown: 0 };
  const times = new Map<string, number>();
  const processes = new Map<string, Set<string>>();
  for (const { id, process, worker } of runs) {
    times.set(id, (times.get(id) ?? 0) + 1);
    processes.set(worker, (processes.get(worker) ?? new Set()).add(process));
  }
  let untrue = 0;
  for (const call of calls) {
    ends[call.end] += 1;
    const ran = times.get(call.event.id) ?? 0;
    const isTrue = call.end === 'Answered' ? ran > 0 : call.end !== 'Refused' || ran === 0;
    untrue += isTrue ? 0 : 1;
    if (call.end !== 'Answered' || ran !== 1) {
      wrong.push(textOf(call, ran));
    }
  }
  let restartedRuntimes = 0;
  for (const [worker, { size }] of processes) {
    restartedRuntimes += size - 1;
    if (size > 1) {
      wrong.unshift(`${worker}: ${size} runtimes`);
    }
  }
  wrong.push(...missedBy(hits));
  const runTwice = [...times.values()].filter((count) => count > 1).length;
  return { calls: calls.length, ends, restartedRuntimes, runTwice, untrue, wrong, hits };
}

/** Kinds of calls and workers that no kill has met, where there were kills enough. */
function missedBy({ calls, kills, paused }: Hits): readonly string[] {
  if (kills < ENOUGH_KILLS) {
    return [];
  }
  const missed = callKinds.filter((kind) => !calls.has(kind)).map((kind) => `no kill met a ${kind} call`);
  return paused === 0 ? [...missed, 'no kill met a paused worker'] : missed;
}

function textOf({ beganAt, end, endedAt, event, kind, why, worker }: LoadedCall, ran: number): string {
  const what: Record<CallKind, string> = {
    short: '',
    big: `, ${event.size} bytes`,
    bulky: `, ${event.size} bytes for ${event.filler}`,
    long: `, ${event.sleep} s`,
    streamed: `, ${event.parts} parts of ${event.size} bytes in ${event.sleep} s`,
  };
  const [began, ended] = [beganAt, endedAt].map((at) => (at / 1_000).toFixed(3));
  return `${worker} ${event.id} (${kind}${what[kind]}) from ${began} to ${ended} s, run ${ran} times: ${end} ${why}`;
}

/** The numbers. */
export function summaryOf(kills: number, { calls, ends, hits, restartedRuntimes, runTwice, untrue }: Verdict): string {
  const met = callKinds.map((kind) => `${hits.calls.get(kind) ?? 0} ${kind}`).join(', ');
  return (
    `${kills} kills, ${calls} calls: ${ends.Answered} answered, ${ends.Unknown} unknown, ${ends.Refused} refused, ` +
    `${ends.Failed} failed, ${ends.Wrong} answered wrongly, ${runTwice} run twice, ${untrue} told untruly; ` +
    `${restartedRuntimes} runtimes restarted\n` +
    `calls under way at the kills: ${met}; ${hits.paused.toFixed(1)} workers paused`
  );
}
