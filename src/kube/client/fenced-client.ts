import { EsbError } from '../../common/errors.ts';
import type { KubeClient } from '../api/types.ts';
import { wrapWrites } from './wrapped-writes.ts';

/** The error of a write that was not sent: the right to write had ended by the time that the request could go out. */
export class FencedError extends EsbError {
  constructor() {
    super('not the leader: nothing was written', { code: 'NotLeader' });
  }
}

/**
 * A client whose writes reach the wire only while `mayWrite` holds, asked at the last moment: a process that slept
 * through its term with a request in hand does not send it when it wakes.
 */
export function fencedClient(client: KubeClient, mayWrite: () => boolean): KubeClient {
  return wrapWrites(client, (options, send) =>
    send({
      ...(options as NonNullable<typeof options>),
      fence() {
        if (!mayWrite()) {
          throw new FencedError();
        }
        options?.fence?.();
      },
    }),
  );
}
