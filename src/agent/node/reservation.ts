import { readFile, rm } from 'node:fs/promises';
import type { LambdaNode } from '../../api/lambda-node.ts';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { NodeFleet } from '../worker/node-fleet.ts';

/** Name of the file in the state folder of the agent. */
export const RESERVATION_FILE = 'reservation.json';

interface ReservationOptions {
  readonly fleet: Pick<NodeFleet, 'reserve'>;
  readonly file: string;
  /** Told once another amount holds, also after a restart. */
  readonly onChange: () => void;
  readonly logger: Logger;
}

/**
 * The memory that the kubelet has allocated for the workers of the node, as the controller tells. The last word is kept
 * in a file: an agent that starts while the API server is away lets workers have no more than that.
 */
export class Reservation {
  readonly #options: ReservationOptions;
  #known: number | undefined;
  #ended = false;
  /** Writes of the file, one after the other. */
  #written: Promise<void> = Promise.resolve();

  constructor(options: ReservationOptions) {
    this.#options = options;
  }

  /** Takes up what an earlier run was told. Call it before anything is started. Never rejects. */
  async load(): Promise<void> {
    const { file, fleet, logger } = this.#options;
    try {
      const text = await undefinedIfNoFile(readFile(file, 'utf8'));
      const kept: unknown = text === undefined ? undefined : JSON.parse(text);
      if (typeof kept === 'object' && kept !== null && 'memoryMiB' in kept && typeof kept.memoryMiB === 'number') {
        this.#known = kept.memoryMiB;
        fleet.reserve(kept.memoryMiB);
      }
    } catch (error) {
      logger.warn({ error: messageOf(error) }, 'the last reservation of the node cannot be read');
    }
  }

  /** Takes in nothing more: the agent leaves the node, and its files go. Never rejects. */
  end(): Promise<void> {
    this.#ended = true;
    return this.#written;
  }

  /** Takes in the LambdaNode of this node, at every change. */
  note({ status }: Pick<LambdaNode, 'status'>): void {
    const memoryMiB = status?.reserved?.memoryMiB;
    if (memoryMiB === this.#known || this.#ended) {
      return;
    }
    const { file, fleet, logger, onChange } = this.#options;
    this.#known = memoryMiB;
    fleet.reserve(memoryMiB);
    logger.info({ memoryMiB }, 'workers may have another amount of memory');
    // The controller takes memory back once the amount is told that an agent would start with.
    this.#written = this.#written
      .then(() =>
        memoryMiB === undefined ? rm(file, { force: true }) : writeFileAtomically(file, JSON.stringify({ memoryMiB })),
      )
      .catch((error: unknown) => logger.warn({ error: messageOf(error) }, 'the reservation of the node cannot be kept'))
      .then(onChange);
  }
}
