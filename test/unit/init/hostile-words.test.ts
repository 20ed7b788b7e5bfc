import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it, vi } from 'vitest';
import { Allowances } from '../../../src/init/allowance.ts';
import { manualClock, settle } from '../../support/manual-clock.ts';
import { PlayedContainer, type PlayedInit } from '../../support/played-init.ts';

const MOST_CALLS = 2_047;
/** Calls of each of 110 inits of a namespace that know as many together as the agent keeps of one namespace. */
const SHARE_OF_CALLS = 680;
/** A text of which each character takes two bytes of memory once one of them is no Latin letter. */
const wide = `${'m'.repeat(60_000)}\u{1f600}`;

/** Words of an init that knows as many calls as it may. */
function claim(init: PlayedInit, calls = MOST_CALLS): void {
  init.hello({ calls, idle: false });
  for (let call = 0; call < calls; call += 1) {
    init.say('C', { id: `call-${call}`, stage: 'Running' });
  }
}

/** Bytes of the heap after a full collection. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  collect();
  collect();
  return process.memoryUsage().heapUsed;
}

/** Steps through maps and sets that some work takes. */
async function stepsOf(work: () => Promise<void>): Promise<number> {
  const iterators = [new Map().entries(), new Set().values()].map((each) => Object.getPrototypeOf(each));
  const spies = iterators.map((prototype) => vi.spyOn(prototype, 'next'));
  try {
    await work();
    return spies.reduce((sum, { mock }) => sum + mock.calls.length, 0);
  } finally {
    for (const spy of spies) {
      spy.mockRestore();
    }
  }
}

describe('of what an init says the agent keeps', () => {
  it('ids of calls, and no text of their ends', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    const ends = 100;
    const before = heapBytes();
    claim(init);
    await settle();
    const rest = { size: 0, durationUs: 1, errorType: 'x', field: wide.slice(0, 50_000) };
    for (let call = 0; call < ends; call += 1) {
      init.say('C', { id: `call-${call}`, stage: 'Ended', outcome: 'Error', message: wide, ...rest });
      // As fast as its share.
      await room.clock.advance(500);
    }
    await settle();
    expect(init.ended).toBe(false);
    expect(room.container.found.running).toBe(MOST_CALLS - ends);
    expect(room.allowances.bytes).toBeLessThan(MOST_CALLS * 300);
    expect(heapBytes() - before).toBeLessThan(3 * 2 ** 20);
    await room.clock.advance(60_000);
    await settle();
    // The ended are gone; the running are known until their end.
    expect(room.allowances.bytes).toBeLessThan((MOST_CALLS - ends) * 300);
    init.socket.end();
    await settle();
    expect(room.allowances.bytes).toBe(0);
  });

  it('a message cut to 4 KiB, between two characters', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = room.send('a');
    init.say('C', { id: 'a', outcome: 'Error', size: 0, durationUs: 1, message: `a${'\u00e4'.repeat(30_000)}` });
    expect(await answer).toMatchObject({ end: { message: `a${'\u00e4'.repeat(2_047)}` } });
  });

  it.each([
    ['', false],
    [', be there a call for it', true],
  ])('no frame that has come in part beyond what its namespace may%s', async (_, isCalled) => {
    const clock = manualClock();
    const allowances = new Allowances(clock, 600_000);
    const rooms = ['a', 'a', 'b'].map((namespace) => new PlayedContainer({ clock, allowances, namespace }));
    const inits = rooms.map((room) => room.connect());
    const begun = Buffer.alloc(250_000);
    begun.writeUInt32BE(256 * 1024);
    for (const init of inits) {
      init.hello();
      await settle();
    }
    for (const room of isCalled ? rooms : []) {
      void room.send('a').answer;
    }
    for (const [index, bytes] of [200_000, 250_000, 100_000].entries()) {
      inits[index]?.socket.write(begun.subarray(0, bytes));
      await settle();
    }
    // The one that holds most of the namespace that holds most.
    expect(inits.map(({ ended }) => ended)).toEqual([false, true, false]);
    expect(rooms[1]?.news.at(-1)?.breach).toMatch(/more than its namespace may/);
    expect(allowances.bytes).toBeLessThan(310_000);
  });
});

it('110 inits of a namespace name as many calls as the agent keeps of one within 15 s', async () => {
  const clock = manualClock();
  const allowances = new Allowances(clock);
  const rooms = Array.from({ length: 110 }, () => new PlayedContainer({ clock, allowances, namespace: 'a' }));
  for (const room of rooms) {
    const init = room.connect();
    const words: Buffer[] = [];
    const write = vi.spyOn(init.socket, 'write').mockImplementation((word: Buffer) => words.push(word) > 0);
    claim(init, SHARE_OF_CALLS);
    write.mockRestore();
    // As an init says it all: in few pieces.
    init.socket.write(Buffer.concat(words));
  }
  await clock.advance(14_900);
  expect(rooms.map(({ container }) => container.found.running)).toEqual(rooms.map(() => SHARE_OF_CALLS));
});

describe('each word of an init costs', () => {
  it.each([0, MOST_CALLS])('a few steps and a share of one decision, where it knows %i calls', async (calls) => {
    const room = new PlayedContainer();
    const init = room.connect();
    if (calls > 0) {
      claim(init);
    } else {
      init.hello();
    }
    await room.clock.advance(10_000);
    const words = 200;
    const news = room.news.length;
    const phase = (count: number): string => `phase=Ready\nidle=${count % 2 === 0}\ninitMs=1\nrestarts=0\n`;
    const steps = await stepsOf(async () => {
      init.rawAll(Array.from({ length: words }, (_, count) => ['P', Buffer.from(phase(count))]));
      await settle();
    });
    expect(room.news.length - news).toBe(1);
    expect(steps).toBeLessThan(5 * words);
  });
});

describe('an init that has named many calls at once', () => {
  it('with the beginnings of 100 answers is read without a wait, beside any number of others', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    const calls = Array.from({ length: 100 }, (_, call) => `call-${call}`);
    const part = Buffer.alloc(32 * 1024);
    init.hello({ calls: calls.length, idle: false });
    for (const id of calls) {
      init.say('C', { id, stage: 'Running' });
      init.data(id, 0, part);
      init.data(id, part.length, part);
      init.end(id, 'Answered', 64 * 1024);
    }
    for (let turn = 0; turn < 200 && room.container.state === undefined; turn += 1) {
      await settle();
    }
    expect(room.container.state).toBeDefined();
  });

  it('is served where it says nothing for long, as all others of its node, and then a word', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    claim(init);
    while (room.container.found.running < MOST_CALLS) {
      await room.clock.advance(100);
      await settle();
    }
    await room.clock.advance(40_000);
    init.say('P', { phase: 'Ready', idle: false, initMs: 1, restarts: 0 });
    await settle();
    expect([init.ended, room.news.at(-1)?.breach]).toEqual([false, undefined]);
  });
});

describe('an init that does not name all calls that it knows', () => {
  it('is told of, before its worker counts as lost', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    init.hello({ calls: 2 });
    init.say('C', { id: 'x', stage: 'Running' });
    await room.clock.advance(14_900);
    expect(init.ended).toBe(false);
    await room.clock.advance(200);
    await settle();
    expect(init.ended).toBe(true);
    expect(room.news).toMatchObject([{ breach: 'the init did not name the calls that it knows' }]);
  });
});
