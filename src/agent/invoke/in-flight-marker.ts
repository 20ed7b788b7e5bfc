import { closeSync, constants, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { FoundMark, LeftCall, MarkedCall } from '../model/marked-call.ts';

/** Ends the name of each mark. */
export const MARK_SUFFIX = '.mark';
const stampLength = 27;
const idle = '0';
const busy = '1';
/** A request id that can stand in a mark. */
const idForm = /^[\x21-\x7e]{1,256}$/;

/**
 * Says on a tmpfs whether a call is in a worker, so that the next run of the agent knows. The file is written before
 * the first byte of a call, and after its answer before the caller has all of that: the worker of a call that was
 * answered is never taken for one with a call in it. The descriptor stays open in between, since this is on the path of
 * every call; one write takes 1 to 2 µs. Nothing is synced: the file has to survive this process, not the machine, with
 * which the worker would end too.
 *
 * Each line is `0` or `1`, the container, the last stamp, when the time of the call is over, and its request id, with
 * `-` for what is not known. The first line is of the container that was called last, each other line of a call that an
 * earlier run of the agent has left. An empty line ends the text: what follows it is left of a longer one. Agents of
 * version 0.1.0 wrote, and read, the first three words alone.
 *
 * Errors of the file system are thrown as they are.
 */
export class InFlightMarker {
  readonly #path: string;
  #descriptor: number | undefined;
  #containerId = '';
  #call = '- -';
  readonly #left = new Map<string, Partial<MarkedCall>>();
  readonly #onError: (error: unknown) => void;
  /** Whether the file says that a call is in the worker. */
  #marked = false;
  #stamp: string;

  /**
   * @param stamp the last one that an earlier run of the agent has issued
   * @param onError told when a mark cannot be taken back
   */
  constructor(folder: string, uid: string, stamp: string | undefined, onError: (error: unknown) => void) {
    this.#path = join(folder, `${uid}${MARK_SUFFIX}`);
    this.#stamp = stamp ?? '-'.repeat(stampLength);
    this.#onError = onError;
  }

  begin(containerId: string, call: MarkedCall): void {
    this.#containerId = containerId;
    this.#call = textOf(call);
    this.#write(busy);
    this.#marked = true;
  }

  /** The call was answered. */
  end(stamp: string): void {
    this.#stamp = stamp;
    if (this.#marked) {
      this.#try(() => {
        this.#write(idle);
        this.#marked = false;
      });
    }
  }

  /** The file says already that this call was left in a container, and goes on to say so with any further call. */
  keep(containerId: string, call: Partial<MarkedCall>): void {
    this.#left.set(containerId, call);
  }

  /** The call that was left in a container is over. */
  forget(containerId: string): void {
    if (!this.#left.delete(containerId)) {
      return;
    }
    const isOpen = this.#descriptor !== undefined;
    this.#try(() => this.#write(this.#marked ? busy : idle));
    if (!isOpen) {
      this.release();
    }
  }

  /** Gives the descriptor back; the file stays, and with it the mark of a call that was not answered. */
  release(): void {
    if (this.#descriptor !== undefined) {
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
    this.#marked = false;
  }

  /** The container is gone, with every call in it. */
  remove(): void {
    if (this.#left.size > 0) {
      this.#try(() => this.#write(idle));
      this.#marked = false;
      this.release();
      return;
    }
    this.release();
    rmSync(this.#path, { force: true });
  }

  #write(flag: typeof idle | typeof busy): void {
    let text = `${flag} ${this.#containerId} ${this.#stamp} ${this.#call}\n`;
    for (const [containerId, call] of this.#left) {
      if (containerId !== this.#containerId) {
        text += `${busy} ${containerId} - ${textOf(call)}\n`;
      }
    }
    // Not truncated: at no moment may the file say less than the truth.
    this.#descriptor ??= openSync(this.#path, constants.O_WRONLY | constants.O_CREAT, 0o600);
    writeSync(this.#descriptor, `${text}\n`, 0, 'latin1');
  }

  #try(write: () => void): void {
    try {
      write();
    } catch (error) {
      this.#onError(error);
    }
  }
}

/** The mark of one worker. */
export type Mark = Pick<InFlightMarker, 'begin' | 'end' | 'keep' | 'forget' | 'release' | 'remove'>;

/**
 * The one mark of a worker, shared by its containers. The container that was called last owns the mark: one that is
 * made ready beside it, or that is being removed, does not change it.
 */
export class SharedMarker {
  readonly #mark: Mark;
  #owner: string | undefined;

  /** @param owner the container that an earlier run of the agent has left a mark for */
  constructor(mark: Mark, owner: string | undefined) {
    this.#mark = mark;
    this.#owner = owner;
  }

  begin(containerId: string, call: MarkedCall): void {
    this.#owner = containerId;
    this.#mark.begin(containerId, call);
  }

  /** A call that an earlier run of the agent has left is in a container: the mark says so beside its other content. */
  keep(containerId: string, call: LeftCall): void {
    this.#mark.keep(containerId, call);
  }

  end(containerId: string, stamp: string): void {
    if (this.#owner === containerId) {
      this.#mark.end(stamp);
    }
  }

  /** Gives the descriptor back; what the mark says stays. */
  release(containerId: string): void {
    if (this.#owner === containerId) {
      this.#mark.release();
    }
  }

  /** The container is gone, with every call in it; or the call that was left in it is over. */
  remove(containerId: string): void {
    this.#mark.forget(containerId);
    // A mark that was being written when an agent ended names no container.
    if (this.#owner === containerId || this.#owner === '') {
      this.#mark.remove();
      this.#owner = undefined;
    }
  }

  /** The agent ends, or nothing is left of the worker. */
  close(): void {
    this.#mark.release();
  }
}

/** The marks in a folder. A file that is none counts as a call in an unknown container. */
export function readMarks(folder: string): readonly FoundMark[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(MARK_SUFFIX))
    .map((name) => {
      const [text = ''] = readFileSync(join(folder, name), 'latin1').split('\n\n', 1);
      const [first = '', ...others] = text.split('\n');
      return {
        uid: name.slice(0, -MARK_SUFFIX.length),
        ...readLine(first),
        left: others
          .filter((line) => line !== '')
          .map(readLine)
          .map(({ call, containerId }) => ({ containerId, call })),
      };
    });
}

/** Removes the mark of a worker that is no more; missing is success. */
export function removeMark(folder: string, uid: string): void {
  rmSync(join(folder, `${uid}${MARK_SUFFIX}`), { force: true });
}

function textOf({ requestId = '', until }: Partial<MarkedCall>): string {
  return `${until === undefined ? '-' : Math.ceil(until)} ${idForm.test(requestId) ? requestId : '-'}`;
}

function readLine(line: string): Omit<FoundMark, 'uid' | 'left'> {
  const [flag, containerId = '', stamp = '', until = '', requestId = ''] = line.split(' ');
  return {
    containerId,
    busy: flag !== idle,
    call: {
      ...(/^\d+$/.test(until) ? { until: Number(until) } : {}),
      ...(requestId === '' || requestId === '-' ? {} : { requestId }),
    },
    stamp: stamp.startsWith('-') || stamp === '' ? undefined : stamp,
  };
}
