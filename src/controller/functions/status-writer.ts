import { fieldManagers } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import type { KubeClient, KubeObject, ResourceType } from '../../kube/api/types.ts';

/** How much of a status is new. */
export type StatusChange = 'none' | 'numbers' | 'conditions';

/** Least milliseconds between two writes of a status whose numbers alone change. */
const NUMBERS_EVERY_MS = 30_000;

/** Writes the status of functions and versions: conditions at once, numbers alone now and then. */
export class StatusWriter {
  readonly #client: Pick<KubeClient, 'patch'>;
  readonly #clock: Clock;
  /** By uid, monotonic milliseconds of the last write. */
  readonly #writtenAt = new Map<string, number>();

  constructor(options: { readonly client: Pick<KubeClient, 'patch'>; readonly clock: Clock }) {
    this.#client = options.client;
    this.#clock = options.clock;
  }

  /** The object is gone. */
  forget({ metadata }: KubeObject): void {
    this.#writtenAt.delete(metadata.uid ?? '');
  }

  /**
   * Writes a status that follows from the object as it was read: the write of another since then is to be seen first.
   *
   * @returns the milliseconds to wait where the status may not be written yet
   */
  async write<T extends KubeObject>(
    type: ResourceType<T>,
    object: T,
    status: object,
    change: StatusChange,
    call: CallOptions,
  ): Promise<number | undefined> {
    if (change === 'none') {
      return undefined;
    }
    const { resourceVersion, uid = '' } = object.metadata;
    const at = this.#writtenAt.get(uid);
    const leftMs = change === 'conditions' || at === undefined ? 0 : at + NUMBERS_EVERY_MS - this.#clock.monotonic();
    if (leftMs > 0) {
      return leftMs;
    }
    this.#writtenAt.set(uid, this.#clock.monotonic());
    const body = { metadata: { uid, resourceVersion }, status };
    const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
    try {
      await this.#client.patch(type, objectKey(object), patch, { ...call, subresource: 'status' });
    } catch (error) {
      if (!hasCode(error, 'NotFound') && !hasCode(error, 'Conflict')) {
        throw error;
      }
    }
    return undefined;
  }
}
