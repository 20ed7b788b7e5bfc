import { describe, expect, it } from 'vitest';
import { Limiter } from '../../../src/common/limiter.ts';

describe('Limiter', () => {
  it('lets so many in and no more, in order', async () => {
    const room = new Limiter(2);
    const gates = [0, 1, 2, 3].map(() => Promise.withResolvers<void>());
    const begun: number[] = [];
    const all = gates.map((gate, index) =>
      room.run(() => {
        begun.push(index);
        return gate.promise;
      }),
    );
    await Promise.resolve();
    expect(begun).toEqual([0, 1]);
    gates[1]?.resolve();
    await all[1];
    await Promise.resolve();
    expect(begun).toEqual([0, 1, 2]);
    for (const gate of gates) {
      gate.resolve();
    }
    await Promise.all(all);
    expect(begun).toEqual([0, 1, 2, 3]);
  });

  it('frees its place after a failure and forgets whoever gave up', async () => {
    const room = new Limiter(1);
    const gate = Promise.withResolvers<void>();
    const first = room.run(() => gate.promise);
    const controller = new AbortController();
    const second = room.run(() => Promise.resolve('second'), controller.signal);
    const third = room.run(() => Promise.resolve('third'));
    controller.abort();
    await expect(second).rejects.toMatchObject({ code: 'Aborted' });
    gate.reject(new Error('broken'));
    await expect(first).rejects.toThrow('broken');
    expect(await third).toBe('third');
    await expect(room.run(() => Promise.resolve(), controller.signal)).rejects.toMatchObject({
      code: 'Aborted',
    });
  });
});
