import { describe, expect, it } from 'vitest';
import { ArrivedBytes } from '../../../src/agent/rpc/arrived-bytes.ts';
import { markOf } from '../../../src/init/call-history.ts';
import type { InitAnswer, InitRequest } from '../../../src/init/contract.ts';
import { settle } from '../../support/manual-clock.ts';
import { PlayedContainer, type PlayedInit } from '../../support/played-init.ts';

const WINDOW = 64 * 1024;

/** An answer begins, of which the test sends the rest. */
async function answering(
  room: PlayedContainer,
  init: PlayedInit,
  more: Partial<InitRequest> = {},
): Promise<ReturnType<PlayedContainer['send']>> {
  const sent = room.send('a', more);
  init.say('C', { id: 'a', stage: 'Running', answering: true, contentType: 'text/plain', streaming: true });
  await settle();
  return sent;
}

describe('a call', () => {
  it('goes out with its event at once, and brings its answer and its outcome', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer, heard } = await answering(room, init);
    const [order, event] = init.heard;
    expect(order).toMatch(/^I id=a\nsize=2\ntimeoutMs=3000\n/);
    expect(event).toBe('E 4');
    init.data('a', 0, 'abc');
    await settle();
    expect(init.heard.slice(2)).toEqual([]);
    init.end('a', 'Answered', 3);
    expect(await answer).toMatchObject({ kind: 'Ended', end: { outcome: 'Answered', size: 3, durationUs: 7 } });
    expect(heard).toEqual(['sending', 'head text/plain true', 'chunk 3']);
    // An agent that dies now leaves the answer to the next.
    await room.clock.advance(59_999);
    expect(init.heard.slice(2)).toEqual([]);
    await room.clock.advance(1);
    await settle();
    expect(init.heard.slice(2)).toEqual(['F id=a']);
    expect(room.clock.pending()).toBe(0);
  });

  it('takes no more than its window while its receiver has no room', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const space = Promise.withResolvers<void>();
    const { heard } = await answering(room, init, { room: () => space.promise });
    init.data('a', 0, Buffer.alloc(WINDOW / 2));
    await settle();
    init.data('a', WINDOW / 2, Buffer.alloc(WINDOW / 2));
    await settle();
    expect(heard).toHaveLength(4);
    expect(init.heard.filter((each) => each.startsWith('A'))).toEqual([]);
    space.resolve();
    await settle();
    expect(init.heard.at(-1)).toBe(`A id=a\noffset=${WINDOW}`);
    expect(init.ended).toBe(false);
  });

  it('whose caller tells what has arrived has a window of 256 KiB, by the word of its order', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const arrival = new ArrivedBytes();
    const { answer } = await answering(room, init, { arrival: () => arrival });
    expect(init.heard[0]).toContain('\nwindow=262144');
    for (let at = 0; at < 4 * WINDOW; at += WINDOW) {
      init.data('a', at, Buffer.alloc(WINDOW));
    }
    await settle();
    expect(init.ended).toBe(false);
    init.data('a', 4 * WINDOW, 'x');
    expect(await answer).toMatchObject({ message: 'the init sent more of an answer than it was asked for' });
  });

  it('of any other caller has one of 64 KiB, as every call of inits of before', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    await answering(room, init);
    expect(init.heard[0]).not.toContain('window');
  });

  it('is acknowledged as far as it has arrived, where its caller tells', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const arrival = new ArrivedBytes();
    await answering(room, init, { arrival: () => arrival });
    init.data('a', 0, Buffer.alloc(WINDOW));
    await settle();
    expect(init.heard.slice(2)).toEqual([]);
    arrival.note(20_000);
    await settle();
    // Each word costs both sides something.
    arrival.note(20_001);
    await settle();
    arrival.note(50_000);
    await settle();
    expect(init.heard.slice(2)).toEqual(['A id=a\noffset=20000', 'A id=a\noffset=50000']);
    init.end('a', 'Answered', WINDOW);
    await settle();
    // The rest is kept for two seconds.
    expect(init.heard).toHaveLength(4);
    arrival.end();
    await room.clock.advance(100);
    await settle();
    expect(init.heard.at(-1)).toBe('F id=a');
  });

  it.each([
    ['a gap', (init: PlayedInit) => init.data('a', 1, 'x')],
    ['more than the window', (init: PlayedInit) => init.data('a', 0, Buffer.alloc(WINDOW + 1))],
    ['nothing', (init: PlayedInit) => init.data('a', 0, '')],
    ['an offset beyond all numbers', (init: PlayedInit) => init.data('a', Number.MAX_SAFE_INTEGER, 'x')],
    ['an end before the end', (init: PlayedInit) => init.end('a', 'Answered', 5)],
    ['an outcome that is none', (init: PlayedInit) => init.end('a', 'Won', 0)],
    ['a frame that is too large', (init: PlayedInit) => init.socket.write(Buffer.alloc(8, 0xff))],
    ['its name again', (init: PlayedInit) => init.hello()],
  ])('whose init sends %s is unknown, and the init is not served any more', async (_, attack) => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = await answering(room, init);
    attack(init);
    await settle();
    expect(await answer).toMatchObject({ kind: 'Unknown' });
    expect(init.ended).toBe(true);
    expect(room.news.at(-1)).toMatchObject({ state: undefined, breach: expect.stringMatching(/^the init /) });
    expect(room.free).toBe(0);
    expect(room.connect().ended || room.container.state).toBeFalsy();
    expect(await room.send('b').answer).toMatchObject({ kind: 'NotSent', own: false });
  });

  it('that is not streamed has at most 6 MiB and 100 bytes', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = room.send('a');
    init.say('C', { id: 'a', stage: 'Running', answering: true });
    const most = 6 * 1024 * 1024 + 100;
    for (let at = 0; at < most; at += WINDOW) {
      init.data('a', at, Buffer.alloc(Math.min(WINDOW, most - at)));
      await settle();
    }
    expect(init.ended).toBe(false);
    init.data('a', most, 'x');
    expect(await answer).toMatchObject({ kind: 'Unknown', message: 'the init sent an answer that is too large' });
  });

  it('brings no bytes before their kind', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = room.send('a');
    init.data('a', 0, 'x');
    expect(await answer).toMatchObject({ kind: 'Unknown' });
  });

  it('of which nothing is heard within its bound is silent, but for a receiver without room', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const silent = room.send('b');
    await room.clock.advance(10_000);
    expect(await silent.answer).toEqual({ kind: 'Silent' });
    const space = Promise.withResolvers<void>();
    const slow = await answering(room, init, { room: () => space.promise });
    init.data('a', 0, Buffer.alloc(WINDOW / 2));
    await settle();
    init.data('a', WINDOW / 2, Buffer.alloc(WINDOW / 2));
    await room.clock.advance(60_000);
    space.resolve();
    init.end('a', 'Answered', WINDOW);
    expect(await slow.answer).toMatchObject({ kind: 'Ended' });
  });

  it.each([
    ['an id that no runtime takes', { requestId: 'a\nb' }],
    ['an event that no runtime takes', { payload: Buffer.alloc(6 * 1024 * 1024 + 101) }],
    ['a context that no frame takes', { clientContext: 'y'.repeat(256 * 1024) }],
    ['a time limit that is none', { timeoutMs: 0.5 }],
  ])('with %s is not sent', async (_, more) => {
    const room = new PlayedContainer();
    const init = await room.connected();
    expect(await room.send('a', more).answer).toMatchObject({ kind: 'NotSent', own: true });
    await settle();
    expect(init.heard).toEqual([]);
  });

  it('with the id of another under way is not sent', async () => {
    const room = new PlayedContainer();
    await room.connected();
    void room.send('a');
    expect(await room.send('a').answer).toMatchObject({ kind: 'NotSent', own: true });
  });
});

describe('a worker', () => {
  it('is not idle after a call that lost its taker, until that has ended', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = room.send('a');
    room.container.abort('a', 'gone');
    expect(await answer).toEqual({ kind: 'Unknown', message: 'gone' });
    expect(room.container.state?.idle).toBe(false);
    init.say('P', { phase: 'Ready', idle: false, initMs: 5, restarts: 0 });
    init.say('P', { phase: 'Ready', idle: true, initMs: 5, restarts: 0 });
    await settle();
    expect(room.container.state?.idle).toBe(false);
    init.end('a', 'Answered', 3);
    await settle();
    expect(room.news.at(-1)).toMatchObject({ state: { idle: true }, found: { running: 0 } });
  });

  it('is idle once the end of its call is known, whatever its init told before', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    room.send('a');
    init.say('P', { phase: 'Ready', idle: true, initMs: 6, restarts: 0 });
    await settle();
    expect(room.news.at(-1)).toMatchObject({ state: { idle: false } });
    init.end('a', 'Answered', 0);
    await settle();
    expect(room.news.at(-1)).toMatchObject({ state: { idle: true } });
  });

  it('that failed is known to have failed after its init has left', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    init.hello({ phase: 'Failed', idle: false, errorType: 'Runtime.ExitError', message: 'exit status 3' });
    await settle();
    init.socket.end();
    await settle();
    expect(room.container.state).toBeUndefined();
    expect(room.container.start.state).toMatchObject({ fault: { message: 'exit status 3' } });
  });
});

describe('a connection that is lost', () => {
  it('is known to be over once the last words of its init were told', async () => {
    const room = new PlayedContainer();
    await room.container.disconnected();
    const init = await room.connected();
    const phases: (string | undefined)[] = [];
    const over = room.container.disconnected().then(() => phases.push(...room.news.map(({ state }) => state?.phase)));
    await settle();
    expect(phases).toEqual([]);
    init.say('P', { phase: 'Failed', idle: false, initMs: 0, restarts: 0, errorType: 'Sad', message: 'm', bound: 'b' });
    init.socket.end();
    await over;
    expect(phases).toEqual(['Ready', 'Failed', undefined]);
  });

  it('is waited for, and the calls go on where they were', async () => {
    const room = new PlayedContainer();
    const first = await room.connected();
    const { answer, heard } = await answering(room, first);
    first.data('a', 0, 'abc');
    await settle();
    first.socket.end();
    await settle();
    expect(room.container.state).toBeUndefined();
    expect(room.free).toBe(1);
    await room.clock.advance(1_900);
    const second = room.connect();
    second.hello({ calls: 1, idle: false });
    await settle();
    expect(room.container.state).toBeUndefined();
    second.say('C', { id: 'a', stage: 'Running', answering: true, streaming: true });
    second.data('a', 1, 'bcde');
    await settle();
    expect(second.heard).toEqual(['A id=a\noffset=0']);
    expect(room.container).toMatchObject({ state: { phase: 'Ready' }, found: { running: 0 } });
    second.end('a', 'Answered', 5);
    expect(await answer).toMatchObject({ kind: 'Ended' });
    expect(heard).toEqual(['sending', 'head text/plain true', 'chunk 3', 'chunk 2']);
    await room.clock.advance(60_000);
    expect(room.clock.pending()).toBe(0);
  });

  it('leaves a call unknown after a while, or when another init comes', async () => {
    const room = new PlayedContainer();
    const first = await room.connected();
    const call = room.send('a');
    first.socket.end();
    await room.clock.advance(2_000);
    expect(await call.answer).toMatchObject({ kind: 'Unknown' });
    const second = await room.connected();
    const again = room.send('b');
    second.socket.end();
    await settle();
    room.connect().hello({ session: 'two' });
    expect(await again.answer).toMatchObject({ kind: 'Unknown' });
  });

  it('leaves a call not sent whose event the init never had in whole', async () => {
    const room = new PlayedContainer();
    const first = await room.connected();
    const call = room.send('a');
    first.socket.end();
    await settle();
    await room.connected();
    expect(await call.answer).toMatchObject({ kind: 'NotSent' });
  });
});

describe('a call of an earlier run of the agent', () => {
  it('was never had by an init that remembers all calls since before, and has not this one', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    const marks = ['gone', 'too'].map((id) => markOf(id).toString(16).padStart(8, '0')).join('');
    init.hello({ since: 10_000, past: marks, calls: 1 });
    await settle();
    expect(room.container.neverHad('b', 1_000)).toBe(false);
    init.say('C', { id: 'named', stage: 'Running' });
    await settle();
    expect(['b', 'gone', 'too', 'named'].map((id) => room.container.neverHad(id, 1_000))).toEqual([
      ...[true, false, false, false],
    ]);
    expect([9_499, 9_500].map((sentMs) => room.container.neverHad('b', sentMs))).toEqual([true, false]);
    await room.clock.advance(2_000);
    expect([11_499, 11_500].map((sentMs) => room.container.neverHad('b', sentMs))).toEqual([true, false]);
  });

  it('may have been had by an init that does not remember, and by one that is away', async () => {
    const room = new PlayedContainer();
    expect(room.container.neverHad('b', 0)).toBe(false);
    await room.connected();
    expect(room.container.neverHad('b', 0)).toBe(false);
  });

  it('comes to this container alone once the init was told so', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    room.container.serveAlone(false);
    room.container.serveAlone(false);
    await settle();
    expect(init.heard).toEqual(['L ']);
  });

  it('may have come to another container since, until the init was told once more', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    room.container.serveAlone(false);
    room.container.serveBeside();
    room.container.serveBeside();
    room.container.serveAlone(true);
    await settle();
    expect(init.heard).toEqual(['L ', 'O ', 'L ']);
  });

  it('may have come to another container that has gone while the init was away', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    room.container.serveAlone(true);
    room.container.serveAlone(true);
    await settle();
    expect(init.heard).toEqual(['O ', 'L ']);
  });
});

describe('an answer that was read', () => {
  it('is forgotten before another call with its id begins', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = await answering(room, init);
    init.end('a', 'Answered', 0);
    await answer;
    const order = init.heard.length;
    void room.send('a');
    await settle();
    expect(init.heard.slice(order)).toEqual(['F id=a', expect.stringMatching(/^I id=a/), 'E 4']);
  });

  it('is kept until its gateway has it, and is forgotten with the next call, or soon', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const arrival = new ArrivedBytes();
    const { answer } = await answering(room, init, { arrival: () => arrival });
    init.end('a', 'Answered', 0);
    await answer;
    await room.clock.advance(30_000);
    const order = init.heard.length;
    arrival.end();
    const next = new ArrivedBytes();
    const other = room.send('b', { arrival: () => next });
    await settle();
    expect(init.heard.slice(order)).toEqual(['F id=a', expect.stringMatching(/^I id=b/), 'E 4']);
    init.end('b', 'Answered', 0);
    await other.answer;
    next.end();
    await room.clock.advance(99);
    expect(init.heard.at(-1)).toBe('E 4');
    await room.clock.advance(1);
    await settle();
    expect(init.heard.at(-1)).toBe('F id=b');
  });

  it('is kept though many are, where the worker takes many calls at once', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    init.hello({ places: 4, held: 0 });
    await settle();
    for (let call = 0; call < 800; call += 1) {
      const { answer } = room.send(`call-${call}`);
      init.end(`call-${call}`, 'Answered', 0);
      await answer;
    }
    await settle();
    expect(init.heard.filter((each) => each.startsWith('F'))).toEqual([]);
  });

  it('leaves room for as many calls as the worker takes, beyond which an init is not served', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    init.hello({ places: 1_600, held: 0 });
    await settle();
    for (let call = 0; call < 600; call += 1) {
      const { answer } = room.send(`call-${call}`);
      init.end(`call-${call}`, 'Answered', 0);
      await answer;
    }
    await settle();
    const kept = 600 - init.heard.filter((each) => each.startsWith('F')).length;
    expect(kept).toBeGreaterThan(0);
    const next = new PlayedContainer();
    const same = next.connect();
    same.hello({ calls: kept + 1_600 });
    await settle();
    expect(same.ended).toBe(false);
  });

  it('is forgotten at once, with the older half, where there are many, or where the init has not the whole of it', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    for (let call = 0; call < 600; call += 1) {
      const { answer } = room.send(`call-${call}`);
      init.end(`call-${call}`, 'Answered', 0);
      await answer;
    }
    await settle();
    const forgotten = init.heard.filter((each) => each.startsWith('F'));
    expect(forgotten).toEqual(Array.from({ length: 257 }, (_, call) => `F id=call-${call}`));
    await answering(room, init);
    for (const at of [0, WINDOW / 2]) {
      init.data('a', at, Buffer.alloc(WINDOW / 2));
      await settle();
    }
    init.end('a', 'Answered', WINDOW);
    await settle();
    expect(init.heard.at(-1)).toBe('F id=a');
  });

  it('is left to the next agent where this one ends', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const { answer } = room.send('a');
    room.container.leave('a', 'the agent stops');
    room.container.close('the agent stops');
    expect(await answer).toEqual({ kind: 'Unknown', message: 'the agent stops' });
    await settle();
    expect(init.heard.filter((each) => each.startsWith('F'))).toEqual([]);
  });
});

/** Asks for the answer of a call of an earlier agent. */
function ask(
  room: PlayedContainer,
  id: string,
  from = 0,
): { answer: Promise<InitAnswer> | undefined; heard: string[] } {
  const heard: string[] = [];
  const answer = room.container.recover(id, from, {
    onHead: ({ contentType }) => heard.push(`head ${contentType}`),
    onChunk: (chunk) => heard.push(`chunk ${chunk.toString().slice(0, 9)}`),
  });
  return { answer, heard };
}

/** An init that knows a call `x` of an earlier agent, which has begun to answer. */
async function found(room: PlayedContainer): Promise<PlayedInit> {
  const init = room.connect();
  init.hello({ calls: 1, idle: false });
  init.say('C', { id: 'x', stage: 'Running', answering: true, contentType: 'text/plain' });
  await settle();
  return init;
}

/** The init tells of `x` as it was ordered to. */
function again(init: PlayedInit, number = 1): void {
  init.say('C', { id: 'x', stage: 'Running', answering: true, contentType: 'text/plain', again: number });
}

const running = (requestId?: string): { running: number; requestId: string | undefined } => ({
  running: requestId === undefined ? 0 : 1,
  requestId,
});

describe('calls of an earlier agent', () => {
  it('are told once the init has named them all, and are seen to end', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    init.hello({ calls: 2, idle: false });
    init.say('C', { id: 'x', stage: 'Running' });
    await settle();
    expect(room.news).toEqual([]);
    init.say('C', { id: 'y', stage: 'Running' });
    init.end('y', 'Answered', 0);
    await settle();
    expect(room.news.at(-1)).toMatchObject({ found: running('x'), state: { phase: 'Ready', idle: false } });
    expect(init.heard).toEqual([]);
    init.end('x', 'Answered', 0);
    await settle();
    expect(room.news.at(-1)?.found).toEqual(running());
  });

  it('have ended where the worker waits for the next call, though their ends follow bytes that nobody asks for', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    init.data('x', 0, Buffer.alloc(WINDOW));
    init.say('P', { phase: 'Ready', idle: true, initMs: 5, restarts: 0 });
    await settle();
    expect(room.news.at(-1)).toMatchObject({ state: { idle: true }, found: running() });
    const gone = new AbortController();
    const taker = { onHead: () => undefined, onChunk: () => undefined, signal: gone.signal };
    void room.container.recover('x', 0, taker);
    // A worker that nothing is in may be removed.
    expect(room.news.at(-1)?.found).toEqual(running('x'));
    gone.abort();
    expect(room.news.at(-1)?.found).toEqual(running());
  });

  it('are told to those who ask, whether they have ended or not, and kept by the init until then', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    init.data('x', 0, 'abc');
    await settle();
    const { answer, heard } = ask(room, 'x');
    await settle();
    expect(init.heard).toEqual(['T id=x\nnumber=1']);
    again(init);
    init.data('x', 0, 'abc');
    init.data('x', 3, 'def');
    init.end('x', 'Answered', 6);
    expect(await answer).toMatchObject({ kind: 'Ended', end: { outcome: 'Answered' } });
    expect(heard).toEqual(['head text/plain', 'chunk abc', 'chunk def']);
    await room.clock.advance(60_000);
    await settle();
    expect(init.heard.slice(1)).toEqual(['F id=x']);
    expect(ask(room, 'x').answer).toBeUndefined();
  });

  it('go to the newest who asks, and are unknown to those who asked before', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    const older = ask(room, 'x');
    again(init);
    init.data('x', 0, 'abc');
    await settle();
    const newer = ask(room, 'x');
    expect(await older.answer).toMatchObject({ kind: 'Unknown' });
    await settle();
    expect(init.heard).toEqual(['T id=x\nnumber=1', 'T id=x\nnumber=2']);
    // Words from before the order may be on their way.
    init.data('x', 3, 'def');
    again(init, 2);
    init.data('x', 0, 'abcdef');
    init.end('x', 'Answered', 6);
    expect(await newer.answer).toMatchObject({ kind: 'Ended' });
    expect(older.heard).toEqual(['head text/plain', 'chunk abc']);
    expect(newer.heard).toEqual(['head text/plain', 'chunk abcdef']);
  });

  it('go to the newest also where the one before had the end, as long as they are kept', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    const first = ask(room, 'x');
    again(init);
    init.data('x', 0, 'abc');
    init.end('x', 'Answered', 3);
    expect(await first.answer).toMatchObject({ kind: 'Ended' });
    await room.clock.advance(30_000);
    const second = ask(room, 'x', 1);
    again(init, 2);
    init.data('x', 0, 'abc');
    init.end('x', 'Answered', 3);
    expect(await second.answer).toMatchObject({ kind: 'Ended' });
    expect(second.heard).toEqual(['head text/plain', 'chunk bc']);
    await room.clock.advance(60_000);
    await settle();
    expect(init.heard).toEqual(['T id=x\nnumber=1', 'T id=x\nnumber=2', 'F id=x']);
    expect(ask(room, 'x').answer).toBeUndefined();
  });

  it('are given up once nobody can ask any more, also where the one who asked is gone', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    const gone = new AbortController();
    const answer = room.container.recover('x', 0, {
      onHead: () => undefined,
      onChunk: () => undefined,
      signal: gone.signal,
    });
    gone.abort();
    await room.clock.advance(59_000);
    expect(init.heard.slice(1)).toEqual([]);
    await room.clock.advance(1_000);
    await settle();
    expect(init.heard.slice(1)).toEqual(['F id=x']);
    expect(await answer).toMatchObject({ kind: 'Unknown' });
  });

  it('go on as their reader has room', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    const { answer, heard } = ask(room, 'x');
    again(init);
    for (const at of [0, WINDOW / 2]) {
      init.data('x', at, Buffer.alloc(WINDOW / 2));
      await settle();
    }
    expect(init.heard.slice(1)).toEqual([`A id=x\noffset=${WINDOW}`]);
    init.data('x', WINDOW, 'rest');
    init.end('x', 'Answered', WINDOW + 4);
    expect(await answer).toMatchObject({ kind: 'Ended' });
    expect(heard.at(-1)).toBe('chunk rest');
  });

  it.each([
    ['bytes', (init: PlayedInit) => init.data('x', 5, 'fghi')],
    ['an end', (init: PlayedInit) => init.end('x', 'Answered', 9)],
  ])('have no answer where its beginning went to the earlier agent, as %s shows', async (_, tell) => {
    const room = new PlayedContainer();
    const init = await found(room);
    const early = ask(room, 'x');
    again(init);
    tell(init);
    expect(await early.answer).toMatchObject({ kind: 'Unknown' });
    await settle();
    expect(init.heard.slice(1)).toEqual(['F id=x']);
    expect(ask(room, 'x').answer).toBeUndefined();
    expect(early.heard).toEqual(['head text/plain']);
  });

  it('go on from the byte that was asked for, and have ended for those who have them all', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    const { answer, heard } = ask(room, 'x', 102);
    again(init);
    init.data('x', 100, 'abcdef');
    init.data('x', 106, 'ghi');
    init.end('x', 'Answered', 109);
    expect(await answer).toMatchObject({ kind: 'Ended' });
    expect(heard).toEqual(['head text/plain', 'chunk cdef', 'chunk ghi']);
    const whole = ask(room, 'x', 109);
    again(init, 2);
    init.end('x', 'Answered', 109);
    expect(await whole.answer).toMatchObject({ kind: 'Ended', end: { size: 109 } });
    expect(whole.heard).toEqual(['head text/plain']);
  });

  it('are forgotten where nobody asks, and were had by the init all the same', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    init.hello({ calls: 2, idle: false, since: 600_000, past: '' });
    init.say('C', { id: 'x', stage: 'Running' });
    init.end('y', 'Answered', 3);
    await settle();
    expect(await room.send('x').answer).toMatchObject({ kind: 'NotSent', own: true });
    await room.clock.advance(60_000);
    await settle();
    expect(init.heard).toEqual(['F id=x', 'F id=y']);
    expect(['x', 'y'].map((id) => ask(room, id).answer)).toEqual([undefined, undefined]);
    // The call goes on, and keeps its worker.
    expect(room.container.found).toEqual(running('x'));
    init.end('x', 'Answered', 3);
    await settle();
    expect(room.container.found).toEqual(running());
    expect(['x', 'y', 'never'].map((id) => room.container.neverHad(id, 1_000))).toEqual([false, false, true]);
    void room.send('x');
    await settle();
    expect(init.heard.slice(2)).toEqual([expect.stringMatching(/^I id=x/), 'E 4']);
  });

  it('are unknown to those who ask once the connection is lost', async () => {
    const room = new PlayedContainer();
    const init = await found(room);
    const { answer } = ask(room, 'x');
    init.socket.end();
    expect(await answer).toMatchObject({ kind: 'Unknown' });
    expect(room.clock.pending()).toBe(0);
  });
});

describe('a program in the place of the init', () => {
  it('that does not say its name is hung up on, which is no breach', async () => {
    const room = new PlayedContainer();
    const init = room.connect();
    await room.clock.advance(5_000);
    expect(init.ended).toBe(true);
    expect(room).toMatchObject({ free: 1, news: [] });
  });

  it.each([
    ['says anything else first', (init: PlayedInit) => init.say('P', { phase: 'Ready', initMs: 1, restarts: 0 })],
    ['claims more calls than there can be', (init: PlayedInit) => init.hello({ calls: 2_049 })],
  ])('that %s is not served any more', async (_, attack) => {
    const room = new PlayedContainer();
    const init = room.connect();
    attack(init);
    await settle();
    expect(init.ended).toBe(true);
    expect(room.news).toMatchObject([{ breach: expect.any(String) }]);
  });

  it('that talks without end is read as fast as its allowance, and not served any more after 30 seconds', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    for (let count = 0; count < 2_000; count += 1) {
      init.say('P', { phase: 'Ready', idle: count % 2 === 0, initMs: 1, restarts: 0 });
    }
    await settle();
    await settle();
    const before = room.news.length;
    expect(before).toBeLessThan(1_500);
    await room.clock.advance(25_000);
    await settle();
    expect(room.news.length).toBeGreaterThan(before);
    expect(init.ended).toBe(false);
    await room.clock.advance(10_000);
    await settle();
    expect(init.ended).toBe(true);
    expect(room.news.at(-1)).toMatchObject({ state: undefined, breach: expect.stringMatching(/more than its share/) });
  });

  it('is alone: a second connection is refused', async () => {
    const room = new PlayedContainer();
    const init = await room.connected();
    const second = room.connect();
    await settle();
    expect([init.ended, second.ended]).toEqual([false, true]);
  });
});
