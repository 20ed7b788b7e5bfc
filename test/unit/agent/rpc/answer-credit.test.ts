import { describe, expect, it } from 'vitest';
import { AnswerCredit } from '../../../../src/agent/rpc/answer-credit.ts';

describe('the credit of an answer', () => {
  it('is used up by a window of unread bytes, and given by reading', async () => {
    const credit = new AnswerCredit(100);
    credit.sent(99);
    expect(credit.room()).toBeUndefined();
    credit.sent(51);
    const room = credit.room();
    expect(room).toBeDefined();
    expect(credit.room()).toBe(room);
    credit.read(50);
    expect(credit.room()).toBe(room);
    credit.read(51);
    await room;
    expect(credit.room()).toBeUndefined();
  });

  it('is not raised by what was never sent, nor lowered by an old word', () => {
    const credit = new AnswerCredit(100);
    credit.sent(100);
    credit.read(1_000_000);
    credit.read(3);
    expect(credit.room()).toBeUndefined();
    credit.sent(100);
    expect(credit.room()).toBeDefined();
  });

  it('lets one chunk at a time pass where the window is none, and is bounded where it is huge', () => {
    const none = new AnswerCredit(0);
    expect(none.room()).toBeUndefined();
    none.sent(5);
    expect(none.room()).toBeDefined();
    none.read(5);
    expect(none.room()).toBeUndefined();
    const huge = new AnswerCredit(2 ** 31);
    huge.sent(2 ** 20);
    expect(huge.room()).toBeDefined();
  });

  it('ends the wait of a caller that is gone', async () => {
    const credit = new AnswerCredit(1);
    credit.sent(1);
    const room = credit.room();
    credit.close();
    await room;
    expect(credit.room()).toBeUndefined();
  });
});
