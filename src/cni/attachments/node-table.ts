import type { Clock } from '../../common/clock.ts';
import { EsbError } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import type { EgressClass, HeldEgress } from '../host/egress-rules.ts';
import type { NetworkSetup } from '../host/network-setup.ts';
import { addHeld, applyNodeRules, readForwardDroppers, removeHeld } from '../host/nftables.ts';
import { hasNodeRules, shapeOf, type TableShape } from '../host/table-check.ts';
import type { AttachmentIndex } from './attachment-index.ts';
import type { AttachedRecord } from './attachment-store.ts';
import { segmentsInUse } from './segments.ts';

interface NodeTableOptions {
  readonly book: AttachmentIndex;
  readonly runner: CommandRunner;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly setup: () => Promise<NetworkSetup>;
  readonly deniedRanges: readonly string[];
  readonly allowedRanges: readonly string[];
  /** Class of workers that ask for none. */
  readonly defaultEgress: EgressClass;
  /** Ranges of the cluster's Pods and Services, as known so far. */
  readonly clusterRanges: () => readonly string[];
  readonly nameServers: () => Promise<readonly string[]>;
}

/** Parts of the table that change while the agent runs, the workers apart. */
interface Surroundings {
  readonly nameServers: readonly string[];
  readonly clusterRanges: readonly string[];
}

/** Milliseconds between two checks of our table, and until a failed write is tried again. */
const TABLE_CHECK_MS = 5_000;
const RULES_RETRY_MS = 2000;

/**
 * Our table in the packet filter of the node: written at the start, when somebody took it away, and when the name servers
 * or the cluster's ranges have changed, always with the workers that have a class.
 */
export class NodeTable {
  readonly #options: NodeTableOptions;
  /** Writes follow one another, so that none takes away an element that another one has just added. */
  readonly #turns = new Limiter(1);
  /** When the table was last seen whole; undefined before a write, which is due then. */
  #seenAt: number | undefined;
  #failure: { readonly at: number; readonly error: EsbError } | undefined;
  /** The table as it was last written, and its surroundings as JSON. */
  #written: { readonly shape: TableShape; readonly around: string } | undefined;

  constructor(options: NodeTableOptions) {
    this.#options = options;
  }

  /** Makes the next check write the table. */
  forget(): void {
    this.#seenAt = undefined;
  }

  /**
   * Sees to it that the table is there and whole.
   *
   * @throws {EsbError} `NftFailed`
   */
  async check(setup: NetworkSetup): Promise<void> {
    const now = this.#options.clock.monotonic();
    const around = await this.#surroundings();
    const moved = JSON.stringify(around) !== this.#written?.around;
    const look = moved ? 'Moved' : await this.#look(now);
    if (look === 'Recent') {
      return;
    }
    if (this.#failure !== undefined && now - this.#failure.at < RULES_RETRY_MS) {
      throw this.#failure.error;
    }
    try {
      await this.#mend(setup, around, look);
      this.#seenAt = now;
      this.#failure = undefined;
    } catch (cause) {
      const error = EsbError.from(cause);
      this.#seenAt = undefined;
      this.#failure = { at: now, error };
      throw error;
    }
  }

  /**
   * Puts the class of an attachment in force; its record has to be written.
   *
   * @throws {EsbError} `NftFailed`; then nothing may run in the attachment
   */
  async hold({ held }: Pick<AttachedRecord, 'held'>): Promise<void> {
    if (held !== undefined) {
      // The table may be away, or have the address with another class: then it is written with what the records say.
      await this.#change(() => addHeld(this.#options.runner, held));
    }
  }

  /** Takes the class of an attachment out, once the attachment is marked for removal. */
  async release({ held }: Pick<AttachedRecord, 'held'>): Promise<void> {
    if (held !== undefined) {
      await this.#change(() => removeHeld(this.#options.runner, held));
    }
  }

  async #change(change: () => Promise<void>): Promise<void> {
    await this.#turns.run(async () => {
      try {
        await change();
      } catch {
        await this.#apply(await this.#options.setup(), await this.#surroundings());
      }
    });
  }

  async #surroundings(): Promise<Surroundings> {
    const { clusterRanges, nameServers } = this.#options;
    return { nameServers: await nameServers(), clusterRanges: [...new Set(clusterRanges())].toSorted() };
  }

  /** Whether the table was whole a moment ago: other programs flush the packet filter of the node, or our table alone. */
  async #look(now: number): Promise<'Recent' | 'Due' | 'Damaged'> {
    const written = this.#written;
    if (this.#seenAt === undefined || written === undefined) {
      return 'Due';
    }
    if (now - this.#seenAt < TABLE_CHECK_MS) {
      return 'Recent';
    }
    const isWhole = await hasNodeRules(this.#options.runner, written.shape, () => this.#held());
    // Another write in the meantime has put right what was seen.
    if (!isWhole && written === this.#written) {
      return 'Damaged';
    }
    this.#seenAt = now;
    return 'Recent';
  }

  async #mend(setup: NetworkSetup, around: Surroundings, why: 'Due' | 'Moved' | 'Damaged'): Promise<void> {
    const { logger, runner } = this.#options;
    await this.#turns.run(() => this.#apply(setup, around));
    if (why === 'Damaged') {
      logger.warn('the rules of the worker network were gone, in whole or in part, and have been written again');
    }
    for (const chain of await readForwardDroppers(runner)) {
      logger.warn(
        { chain },
        'a forward chain of another program drops by default: workers reach nothing outside unless it has a rule for them',
      );
    }
  }

  async #apply(setup: NetworkSetup, around: Surroundings): Promise<void> {
    const { allowedRanges, book, defaultEgress, deniedRanges, runner } = this.#options;
    const text = await applyNodeRules(runner, {
      ...around,
      bridges: segmentsInUse(setup, book).map(({ bridge }) => bridge),
      subnets: setup.subnets,
      deniedRanges,
      allowedRanges,
      defaultEgress,
      held: this.#held(),
    });
    this.#written = { shape: shapeOf(text), around: JSON.stringify(around) };
  }

  #held(): readonly HeldEgress[] {
    const { book } = this.#options;
    return book.attached().flatMap(({ held, id }) => (held === undefined || book.isDiscarded(id) ? [] : [held]));
  }
}
