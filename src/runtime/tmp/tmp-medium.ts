import { Backoff } from '../../common/backoff.ts';
import type { Clock } from '../../common/clock.ts';
import { abortable, sleep } from '../../common/deadline.ts';
import type { TmpOfNode, TmpStorage } from '../contract/tmp-storage.ts';
import type { TmpFiles } from './tmp-files.ts';

/** Whether `/tmp` of workers may be on disk: tried before the first worker is made. */
export type TmpChoice =
  | { readonly kind: 'Disk'; readonly files: TmpFiles }
  | { readonly kind: 'Memory'; readonly message: string };

/** Uses a file as workers do; returns why that cannot be, and rejects where that is not known. */
type Trial = (files: TmpFiles) => Promise<string | undefined>;

const WAIT = 'waiting for the trial of /tmp';
/** Milliseconds between two trials on a node where no file can be used; a trial costs a container. */
const AGAIN = { firstMs: 60_000, maxMs: 3_600_000 } as const;

/** The medium of `/tmp` on this node. A disk that could be used once is the medium for as long as the agent runs. */
export class TmpMedium implements TmpOfNode {
  /** Also where none is made any more: an earlier run may have left some. */
  readonly files: TmpFiles | undefined;
  readonly #isWanted: boolean;
  readonly #chosen = Promise.withResolvers<TmpChoice>();
  #choice: TmpChoice | undefined;

  /**
   * @param files absent where there is no folder for them
   * @param isWanted whether new workers are to have one
   */
  constructor(files: TmpFiles | undefined, isWanted: boolean) {
    this.files = files;
    this.#isWanted = files !== undefined && isWanted;
    if (!this.#isWanted) {
      this.#choose({ kind: 'Memory', message: 'the agent is told to keep /tmp of workers in memory' });
    }
  }

  get isOnDisk(): boolean {
    return this.#choice?.kind === 'Disk';
  }

  /**
   * Resolves once the medium was tried.
   *
   * @throws {AbortedError}
   */
  async chosen(signal: AbortSignal): Promise<TmpChoice> {
    return (
      this.#choice ??
      (await abortable<TmpChoice>(WAIT, signal, (resolve, reject) => {
        this.#chosen.promise.then(resolve, reject);
        return undefined;
      }))
    );
  }

  async storage(): Promise<TmpStorage | undefined> {
    switch (this.#choice?.kind) {
      case undefined:
        return undefined;
      case 'Disk':
        return { medium: 'LoopFile', ...(await this.#choice.files.room()) };
      case 'Memory':
        return { medium: 'Tmpfs', message: this.#choice.message };
    }
  }

  /** Tries the medium, unless that was done. */
  async decide(trial: Trial): Promise<void> {
    if (this.#choice === undefined) {
      await this.#try(trial);
    }
  }

  /**
   * Tries the medium again, ever more seldom, for as long as no file can be used. Returns whether one could be in the
   * end.
   *
   * @throws {AbortedError}
   */
  async keepTrying(trial: Trial, clock: Clock, signal: AbortSignal): Promise<boolean> {
    const { kind } = await this.chosen(signal);
    if (kind === 'Disk' || !this.#isWanted) {
      return false;
    }
    const backoff = new Backoff(AGAIN);
    while (!this.isOnDisk) {
      await sleep(clock, backoff.next(), signal);
      // The earlier answer holds where there is none.
      await this.#try(trial).catch(() => undefined);
    }
    return true;
  }

  async #try(trial: Trial): Promise<void> {
    const { files } = this;
    if (files !== undefined) {
      const fault = await trial(files);
      this.#choose(fault === undefined ? { kind: 'Disk', files } : { kind: 'Memory', message: fault });
    }
  }

  #choose(choice: TmpChoice): void {
    this.#choice = choice;
    this.#chosen.resolve(choice);
  }
}
