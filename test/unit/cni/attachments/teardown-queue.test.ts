import { expect, it } from 'vitest';
import type { AttachmentIndex } from '../../../../src/cni/attachments/attachment-index.ts';
import { TeardownQueue, type TeardownQueueOptions } from '../../../../src/cni/attachments/teardown-queue.ts';

it('what is discarded after a stop is marked for the next agent, and keeps no one waiting for its removal', () => {
  const marked: string[] = [];
  const book: Pick<AttachmentIndex, 'discard'> = { discard: (id) => void marked.push(id) };
  // No other part is asked once the queue was stopped.
  const queue = new TeardownQueue({ book } as unknown as TeardownQueueOptions);
  queue.stop();
  queue.discard('one');
  expect([marked, queue.isBusy]).toEqual([['one'], false]);
});
