import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../support/command.ts';
import { patience } from '../../support/patience.ts';

/** Files of the core of the init. Nothing else of the init is built with them, and the player has clocks of its own. */
const coreFiles = ['buffer', 'history', 'call', 'places', 'worker', 'next'];
const source = fileURLToPath(new URL('../../../init', import.meta.url));
const player = fileURLToPath(new URL('./fixtures/core.c', import.meta.url));
const checks = ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];

let folder = '';
let program = '';

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'esb-init-core-'));
  program = join(folder, 'core');
  const files = [player, ...coreFiles.map((name) => join(source, `${name}.c`))];
  await run('gcc', [...checks, '-std=gnu11', '-D_GNU_SOURCE', `-I${source}`, '-o', program, ...files]);
}, 60_000 * patience());

afterAll(() => rm(folder, { recursive: true, force: true }));

/** Effects that the core asks for after each event, in order. */
async function effectsAfter(events: readonly string[]): Promise<readonly (readonly string[])[]> {
  const { stdout } = await run(program, [], { input: `${events.join('\n')}\n` });
  const parts = stdout.split(/^> .*\n/m).slice(1);
  return parts.map((part) => part.split('\n').filter((line) => line !== ''));
}

/** Plays a script. Each line has an event, and behind an arrow the effects that the core asks for. */
async function follows(script: string): Promise<void> {
  const lines = script.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]));
  const events = lines.map((line) => line.split(' → ')[0] ?? '');
  const effects = await effectsAfter(events);
  expect(events.map((event, index) => [event, effects[index]?.join(', ')].filter(Boolean).join(' → '))).toEqual(lines);
}

/** The first request for a call, which ends the initialization. */
const ready = 'waits → log-extensions, log-init-end';

describe('the initialization', () => {
  it('ends when runtime and extensions wait, and calls are given from then on', () =>
    follows(`
      take a 0
      late yes
      waits
      late - → log-extensions, log-init-end, give a
    `));

  it('that takes too long ends the worker, and the calls that wait', () =>
    follows(`
      time 60000
      take a 0
      tick → log-extensions, log-init-end
      show a → a ended NotStarted Sandbox.Timedout
      waits
      take b 0
      show b → b ended NotStarted -
    `));

  it('is over by a request that comes as its time ends', () =>
    follows(`
      time 60000
      waits + tick → log-extensions, log-init-end
      take a 0 → give a
    `));

  it('in which the runtime ends fails', () =>
    follows(`
      take a 0
      runtime-ends → log-extensions, log-init-end
      show a → a ended NotStarted Runtime.ExitError
    `));
});

describe('calls', () => {
  it('go to requests in the order of their arrival, each when its event is whole', () =>
    follows(`
      concurrency 4
      ${ready}
      take a 10
      event a 9
      take b 0 → give b
      take c 0
      event a 1
      waits → give a
      waits → give c
      waits
      take d 0 → give d
    `));

  it('take no more of an event than was said', () =>
    follows(`
      ${ready}
      take a 2
      event a 1000 → give a
      event a 1000
      size a → 2
    `));

  it('end with the whole answer: their last line is written before the runtime hears that it was taken', () =>
    follows(`
      ${ready}
      take a 0 → give a
      idle → idle 0
      answers a
      piece a 100
      answered a → log-end a Answered, accept a
      waits
      idle → idle 1
    `));

  it('that are known are not run again', () =>
    follows(`
      ${ready}
      take a 0 → give a
      waits
      take a 0
      answers a
      answered a → log-end a Answered, accept a
      take a 0
    `));

  it('that no runtime takes in time end without a start, also where the worker was frozen until a request came', () =>
    follows(`
      ${ready}
      leaves
      take a 0
      take b 0
      time 999
      tick
      time 1
      tick
      show a → a ended NotStarted -
      take c 0
      time 1000
      waits
      show c → c ended NotStarted -
    `));

  it('whose answer breaks off end a moment later, unless the runtime ends by then', () =>
    follows(`
      concurrency 2
      ${ready}
      waits
      take a 0 → give a
      take b 0 → give b
      answers a
      answers b
      breaks a
      time 200
      breaks b
      tick → log-end a Interrupted
      runtime-ends → log-end b Exited, end-for-restart, start-again
    `));
});

describe('events of one step', () => {
  it('end no call again that is let go', () =>
    follows(`
      ${ready}
      take a 0 → give a
      answers a
      answered a → log-end a Answered, accept a
      forget a
      told a
      tick + fails → log-init-end, free a
      show a → a unknown
    `));

  it('take a call anew that is let go', () =>
    follows(`
      take a 0
      forget a
      told a
      tick + take a 0 → free a
      show a → a waiting - -
    `));

  it('have the agent hear of the end of a call after its lines: the word of an answer tells of all', () =>
    follows(`
      concurrency 2
      ${ready}
      waits
      take a 0 → give a
      take b 0 → give b
      answers a
      answers b
      time 3000
      answered a + tick → log-end a Answered, log-end b Timeout, accept a, refuse b, end-for-restart
    `));
});

describe('a request that ends as its call goes out', () => {
  it('gives the call back, and the next one has it', () =>
    follows(`
      concurrency 3
      ${ready}
      waits
      waits
      break whole 2
      take a 0 → give a, give a, give a
      answers a
      answered a → log-end a Answered, accept a
    `));

  it('leaves the call to the next that comes, before calls that came later', () =>
    follows(`
      ${ready}
      break whole 1
      take a 0 → give a
      take b 0
      show a → a waiting - -
      waits → give a
    `));

  it('after a part of the event gives the call back once', () =>
    follows(`
      concurrency 3
      ${ready}
      waits
      waits
      break begun 2
      take a 0 → give a, give a
      show a → a running - -
      idle → idle 0
    `));

  it('leaves the call to a runtime that answers by then', () =>
    follows(`
      concurrency 2
      ${ready}
      waits
      take a 0 → give a
      answers a
      returns a
      answered a → log-end a Answered, accept a
    `));

  it('after a part of the event may have begun the call', () =>
    follows(`
      ${ready}
      break begun 1
      take a 0 → give a
      time 3000
      tick → log-end a Timeout, end-for-restart
    `));
});

describe('the end of the time of a call', () => {
  it('has the runtime hear that its answer is late, and end; the calls that wait go to the next one', () =>
    follows(`
      ${ready}
      take a 0 → give a
      answers a
      time 3000
      take b 0
      tick → log-end a Timeout, refuse a, end-for-restart
      waits
      runtime-ends → tell-shutdown, start-again
      ${ready}, give b
    `));

  it('has the other calls go on where the runtime takes several', () =>
    follows(`
      concurrency 2
      ${ready}
      waits
      take a 0 → give a
      time 2000
      take b 0 → give b
      time 1000
      tick → log-end a Timeout
      answers b
      answered b → log-end b Answered, accept b
    `));

  it('stands still while no agent is there to take the answer', () =>
    follows(`
      ${ready}
      take a 0 → give a
      answers a
      agent leaves
      time 4000
      tick
      agent comes
      time 2999
      tick
      time 1
      tick → log-end a Timeout, refuse a, end-for-restart
    `));
});

describe('a restart', () => {
  it('ends each call that a runtime has, and gives the others to the next runtime', () =>
    follows(`
      concurrency 2
      ${ready}
      waits
      take a 0 → give a
      take b 0 → give b
      take c 0
      answers b
      runtime-ends → log-end b Exited, refuse b, log-end a Exited, end-for-restart, start-again
      take d 0
      ${ready}, give c
      waits → give d
    `));
});

describe('the end of the worker', () => {
  it('starts no call any more, has those that run go on, and tells extensions once the runtime has ended', () =>
    follows(`
      ${ready}
      take a 0 → give a
      take b 0
      stop → end-for-good
      show b → b ended NotStarted -
      take c 0
      show c → c ended NotStarted -
      runtime-ends → log-end a Exited, tell-shutdown
    `));
});

describe('the agent', () => {
  it('has a runtime go on with its answer by what it has of that, and not by what it cannot have', () =>
    follows(`
      ${ready}
      take a 0 → give a
      answers a
      piece a 100
      acknowledge a 60 → resume a
      acknowledge a 60
      acknowledge a 5000 → resume a
      acknowledge a 100
      answered a → log-end a Answered, accept a
    `));

  it('forgets a call: one that waits ends, and is gone once the agent has been told', () =>
    follows(`
      take a 0
      forget a
      show a → a ended NotStarted -
      tick
      told a
      tick → free a
    `));

  it('forgets a call that a runtime has: the call goes on', () =>
    follows(`
      ${ready}
      take a 0 → give a
      answers a
      forget a
      piece a 10
      answered a → log-end a Answered, accept a
      told a
      tick → free a
      show a → a unknown
    `));

  it('may call anew what it forgot', () =>
    follows(`
      take a 0
      forget a
      take a 0 → free a
      show a → a waiting - -
    `));

  it('that has gone takes calls with it that have not arrived, and is waited for with the others', () =>
    follows(`
      ${ready}
      take a 0 → give a
      take b 10
      answers a
      answered a → log-end a Answered, accept a
      waits
      agent leaves
      show b → b unknown
      time 4999
      tick
      time 1
      tick → free a
    `));
});

describe.each([1, 2, 3, 4, 5, 6])('events without sense (seed %i)', (seed) => {
  it('end each call once, tell each answer its end, and leave nothing behind', async () => {
    const ids = Array.from({ length: 8 }, (_, index) => `c${index}`);
    const chance = pseudoRandom(seed);
    const walk = Array.from({ length: 10_000 }, () => anyEvent(chance, ids).split('\n')).flat();
    const end = ['stop', 'runtime-ends', ...ids.flatMap((id) => [`forget ${id}`, `told ${id}`]), 'tick'];
    const events = [`concurrency ${1 + (seed % 3)}`, ...walk, ...end, ...ids.map((id) => `show ${id}`)];
    const effects = await effectsAfter(events);
    const lives = new CallLives();
    for (const effect of effects.flat()) {
      lives.see(effect);
    }
    expect(lives.faults).toEqual([]);
    expect(lives.given).toBeGreaterThan(100);
    expect(effects.slice(-ids.length).flat()).toEqual(ids.map((id) => `${id} unknown`));
  });
});

type Chance = (bound: number) => number;

function anyEvent(chance: Chance, ids: readonly string[]): string {
  const id = ids[chance(ids.length)] ?? '';
  const events = [
    ...[`take ${id} ${chance(3)}`, `event ${id} ${chance(3)}`, 'waits', 'waits', 'leaves', `answers ${id}`],
    ...[`piece ${id} ${chance(100)}`, `answered ${id}`, `answered ${id}`, `breaks ${id}`, `forget ${id}`, `told ${id}`],
    `returns ${id}`,
    ...[`acknowledge ${id} ${chance(200)}`, `time ${chance(400)}`, 'tick', 'tick'],
    ...[chance(5) === 0 ? 'runtime-ends\nlate -\nwaits' : 'tick', chance(5) === 0 ? 'late yes' : 'late -'],
    ...[`agent ${chance(4) === 0 ? 'leaves' : 'comes'}`, `break ${chance(2) === 0 ? 'begun' : 'whole'} ${chance(3)}`],
  ];
  return events[chance(events.length)] ?? '';
}

/** Lives of calls as the effects show them, and the effects that have no place in such a life. */
class CallLives {
  readonly faults: string[] = [];
  given = 0;
  readonly #stages = new Map<string, 'Given' | 'Ended' | 'Replied'>();
  #restarting = false;

  see(effect: string): void {
    const [word = '', id = ''] = effect.split(' ');
    const stage = this.#stages.get(id);
    if (!this.#mayBe(word, stage)) {
      this.faults.push(`${effect} after ${stage}`);
    }
    if (word === 'give') {
      this.given += 1;
      this.#stages.set(id, 'Given');
    } else if (word === 'log-end') {
      this.#stages.set(id, 'Ended');
    } else if (word === 'accept' || word === 'refuse') {
      this.#stages.set(id, 'Replied');
    } else if (word === 'free') {
      this.#stages.delete(id);
    } else if (word === 'end-for-restart' || word === 'start-again') {
      this.#restarting = word === 'end-for-restart';
    }
  }

  #mayBe(word: string, stage: 'Given' | 'Ended' | 'Replied' | undefined): boolean {
    switch (word) {
      case 'give':
        return !this.#restarting && (stage === undefined || stage === 'Given');
      case 'log-end':
      case 'resume':
        return stage === 'Given';
      case 'accept':
      case 'refuse':
        return stage === 'Ended';
      case 'free':
        return stage !== 'Given';
      default:
        return true;
    }
  }
}

/** Numbers from 0 up to a bound, by a seed (a linear congruential generator). */
function pseudoRandom(seed: number): Chance {
  let state = seed;
  return (bound) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * bound);
  };
}
