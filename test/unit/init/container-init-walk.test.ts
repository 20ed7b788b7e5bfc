import { expect, it } from 'vitest';
import { sleep } from '../../../src/common/deadline.ts';
import { settle } from '../../support/manual-clock.ts';
import { PlayedContainer } from '../../support/played-init.ts';

/** Numbers from 0 to 1, the same for the same seed. */
function pseudoRandom(seed: number): () => number {
  let state = seed * 2_654_435_761;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_519) + 3_266_489_917) >>> 0;
    return state / 2 ** 32;
  };
}

it.each(Array.from({ length: 50 }, (_, index) => index + 1))(
  'whatever an init says, every call ends, and has its whole answer where its end is known (seed %i)',
  async (seed) => {
    const chance = pseudoRandom(seed);
    const any = <T>(...options: readonly T[]): T => options[Math.floor(chance() * options.length)] as T;
    const room = new PlayedContainer();
    let init = await room.connected();
    const offsets = new Map<string, number>();
    const answers: Promise<void>[] = [];
    let serial = 0;
    const call = async (id: string): Promise<void> => {
      let bytes = 0;
      offsets.set(id, 0);
      const onChunk = (chunk: Buffer): void => {
        bytes += chunk.length;
      };
      const space = any(undefined, () => sleep(room.clock, 50));
      const answer = await room.send(id, { onChunk, room: space }).answer;
      if (answer.kind === 'Ended') {
        expect(bytes).toBe(answer.end.size);
      }
    };
    for (let step = 0; step < 300; step += 1) {
      const id = `call-${any(serial, serial, serial - 1)}`;
      const offset = offsets.get(id) ?? 0;
      const bytes = Buffer.alloc(Math.floor(chance() * any(10, 1_000, 30_000)) + 1);
      const state = { phase: any('Ready', 'Starting', 'Stopping'), idle: any(true, false), initMs: 1, restarts: 0 };
      const usual = [
        () => init.say('P', state),
        () => init.say('C', { id, stage: 'Running', answering: true, streaming: any(true, false) }),
        () => init.end(id, any('Answered', 'Timeout', 'Exited'), offset),
        () => {
          init.say('C', { id, stage: 'Running', answering: true });
          init.data(id, offset, bytes);
          offsets.set(id, offset + bytes.length);
        },
        () => {
          serial += 1;
          answers.push(call(`call-${serial}`));
        },
      ];
      const rare = [
        () => init.say('C', { id, stage: 'Waiting' }),
        () => init.data(id, Math.max(0, offset + any(-1, 1)), bytes),
        () => init.end(id, 'Answered', offset + 1),
        () => init.raw(any('P', 'C', 'D', 'H', 'Z'), bytes),
        () => init.hello(),
        () => room.container.abort(id, 'gone'),
        () => {
          init.socket.end();
        },
      ];
      any(...(chance() < 0.04 ? rare : usual))();
      if (init.ended) {
        init = room.connect();
        init.hello({ calls: any(0, 1), session: any('one', 'one', 'two') });
      }
      await (chance() < 0.5 ? settle() : room.clock.advance(any(1, 100)));
    }
    await room.clock.advance(60_000);
    await Promise.all(answers);
    room.container.close('over');
    expect(room.clock.pending()).toBe(0);
  },
);
