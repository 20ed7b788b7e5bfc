import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Timer } from '../common/clock.ts';

/** Ends the name of each mark. */
export const MARK_SUFFIX = '.mark';
const stampLength = 27;
const idle = 0x30;
const busy = 0x31;

/** What an earlier run of the agent left of one worker. */
export interface FoundMark {
  readonly uid: string;
  readonly containerId: string;
  /** Whether a call was in the container when that run ended. */
  readonly busy: boolean;
  /** The last stamp that was issued for it, if any. */
  readonly stamp: string | undefined;
}

/** Milliseconds that a mark outlives its call: calls that follow each other closely cost one mark, not one each. */
const lingerMs = 10;

/**
 * Says on a tmpfs whether a call is in a worker, so that the next run of the agent knows. One byte is written before
 * the first byte of a call, one line after its answer, or rather a moment later, when no other call has followed; the
 * file stays open in between, since this is on the path of every call. An agent that dies within that moment restarts a
 * worker for nothing, which is harmless. The line is `0` or `1`, the container and the last stamp. Nothing is synced: it has to survive this
 * process, not the machine, with which the worker would end too.
 *
 * Errors of the file system are thrown as they are.
 */
export class InFlightMark {
  readonly #path: string;
  #descriptor: number | undefined;
  #containerId = '';
  #line = Buffer.alloc(0);
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  /** Whether the file says that a call is in the worker. */
  #marked = false;
  /** Whether a call is in it. */
  #inside = false;
  #stamp = '';
  #timer: Timer | undefined;

  /** @param onError told when a mark cannot be taken back */
  constructor(folder: string, uid: string, clock: Clock, onError: (error: unknown) => void) {
    this.#path = join(folder, `${uid}${MARK_SUFFIX}`);
    this.#clock = clock;
    this.#onError = onError;
  }

  begin(containerId: string): void {
    this.#inside = true;
    if (this.#descriptor === undefined || this.#containerId !== containerId) {
      this.#open(containerId);
    }
    if (!this.#marked) {
      this.#line[0] = busy;
      writeSync(this.#descriptor ?? -1, this.#line, 0, 1, 0);
      this.#marked = true;
    }
  }

  /** The call was answered. */
  end(stamp: string): void {
    this.#inside = false;
    this.#stamp = stamp;
    if (this.#marked && this.#timer === undefined) {
      this.#timer = this.#clock.setTimer(() => {
        this.#timer = undefined;
        this.#takeBack();
      }, lingerMs);
    }
  }

  /** Takes the mark back, unless a call is in the worker. */
  #takeBack(): void {
    if (this.#descriptor === undefined || !this.#marked || this.#inside) {
      return;
    }
    this.#line[0] = idle;
    this.#line.write(this.#stamp, this.#line.length - stampLength - 1, stampLength, 'latin1');
    try {
      writeSync(this.#descriptor, this.#line, 0, this.#line.length, 0);
      this.#marked = false;
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Gives the descriptor back; the file stays, and with it the mark of a call that was not answered. */
  release(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#descriptor !== undefined) {
      this.#takeBack();
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
    this.#marked = false;
  }

  /** The container is gone, and with it whatever ran in it. */
  remove(): void {
    this.#inside = false;
    this.release();
    rmSync(this.#path, { force: true });
  }

  #open(containerId: string): void {
    if (this.#descriptor !== undefined) {
      closeSync(this.#descriptor);
    }
    this.#marked = false;
    this.#containerId = containerId;
    this.#line = Buffer.from(`0 ${containerId} ${'-'.repeat(stampLength)}\n`, 'latin1');
    this.#descriptor = openSync(this.#path, 'w', 0o600);
    writeSync(this.#descriptor, this.#line, 0, this.#line.length, 0);
  }
}

/** The marks in a folder. A file that is none counts as a call in an unknown container. */
export function readMarks(folder: string): readonly FoundMark[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(MARK_SUFFIX))
    .map((name) => {
      const [flag, containerId = '', stamp = ''] = readFileSync(join(folder, name), 'latin1')
        .trim()
        .split(' ');
      return {
        uid: name.slice(0, -MARK_SUFFIX.length),
        containerId,
        busy: flag !== '0',
        stamp: stamp.startsWith('-') || stamp === '' ? undefined : stamp,
      };
    });
}

/** Removes the mark of a worker that is no more; missing is success. */
export function removeMark(folder: string, uid: string): void {
  rmSync(join(folder, `${uid}${MARK_SUFFIX}`), { force: true });
}
