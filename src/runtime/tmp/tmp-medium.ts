import { abortable } from '../../common/deadline.ts';
import type { TmpOfNode, TmpStorage } from '../contract/tmp-storage.ts';
import type { TmpFiles } from './tmp-files.ts';

/** Whether `/tmp` of workers may be on disk: tried once, before the first worker is made. */
export type TmpChoice =
  | { readonly kind: 'Disk'; readonly files: TmpFiles }
  | { readonly kind: 'Memory'; readonly message: string };

const WAIT = 'waiting for the trial of /tmp';

/** The medium of `/tmp` on this node, for as long as the agent runs. */
export class TmpMedium implements TmpOfNode {
  /** Also where none is made any more: an earlier run may have left some. */
  readonly files: TmpFiles | undefined;
  readonly #chosen = Promise.withResolvers<TmpChoice>();
  #choice: TmpChoice | undefined;

  /**
   * @param files absent where there is no folder for them
   * @param isWanted whether new workers are to have one
   */
  constructor(files: TmpFiles | undefined, isWanted: boolean) {
    this.files = files;
    if (files === undefined || !isWanted) {
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

  /**
   * Tries the medium, unless that was done.
   *
   * @param trial uses a file as workers do; returns why that cannot be, and rejects where that is not known
   */
  async decide(trial: (files: TmpFiles) => Promise<string | undefined>): Promise<void> {
    const { files } = this;
    if (this.#choice !== undefined || files === undefined) {
      return;
    }
    const fault = await trial(files);
    this.#choose(fault === undefined ? { kind: 'Disk', files } : { kind: 'Memory', message: fault });
  }

  #choose(choice: TmpChoice): void {
    this.#choice = choice;
    this.#chosen.resolve(choice);
  }
}
