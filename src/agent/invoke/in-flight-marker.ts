import { closeSync, constants, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../common/clock.ts';
import type { FoundMark, LeftCall, MarkedCall } from '../model/marked-call.ts';

/** Ends the name of each mark. */
export const MARK_SUFFIX = '.mark';
const stampLength = 27;
const stampForm = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
/** Stamps of a worker that are remembered one by one, in 10 KiB. */
const maxRemembered = 256;
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
 * earlier run of the agent has left, or that ran out of time in a container that is being removed. An empty line ends
 * the text: what follows it is left of a longer one. Agents of version 0.1.0 wrote, and read, the first three words
 * alone.
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
  /** Whether the container that was called last is gone: the file tells of calls that were left alone. */
  #gone = false;
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
    this.#gone = false;
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
    if (this.#gone) {
      this.remove();
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
      this.#gone = true;
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
  /** The call that was begun last in this run of the agent, unless it was answered. */
  #unanswered: MarkedCall | undefined;

  /** @param owner the container that an earlier run of the agent has left a mark for */
  constructor(mark: Mark, owner: string | undefined) {
    this.#mark = mark;
    this.#owner = owner;
  }

  begin(containerId: string, call: MarkedCall): void {
    if (this.#unanswered !== undefined && this.#owner !== undefined && this.#owner !== containerId) {
      // The call that ran out of time goes on in a container that is being removed, and may outlive this agent there.
      this.#mark.keep(this.#owner, this.#unanswered);
    }
    this.#owner = containerId;
    this.#unanswered = call;
    this.#mark.begin(containerId, call);
  }

  /** A call that an earlier run of the agent has left is in a container: the mark says so beside its other content. */
  keep(containerId: string, call: LeftCall): void {
    this.#mark.keep(containerId, call);
  }

  end(containerId: string, stamp: string): void {
    if (this.#owner === containerId) {
      this.#unanswered = undefined;
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
      this.#unanswered = undefined;
    }
  }

  /** The agent ends, or nothing is left of the worker. */
  close(): void {
    this.#mark.release();
  }
}

/** Issues the stamps of one node: wall-clock time in microseconds (RFC 3339, UTC), each later than the one before. */
export class StampSource {
  readonly #clock: Clock;
  #last = 0;
  /** Text of the present second: a stamp is issued for every call. */
  #second = Number.NaN;
  #prefix = '';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  next(): string {
    // The wall clock may step back; the stamps do not.
    this.#last = Math.max(Math.floor(this.#clock.now() * 1_000), this.#last + 1);
    const second = Math.floor(this.#last / 1_000_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#prefix = new Date(second * 1_000).toISOString().slice(0, 20);
    }
    return `${this.#prefix}${String(this.#last - second * 1_000_000).padStart(6, '0')}Z`;
  }

  /** No later stamp is earlier than this one, which an earlier run of the agent issued. */
  notBefore(stamp: string): void {
    const milliseconds = stampForm.test(stamp) ? Date.parse(`${stamp.slice(0, 23)}Z`) : Number.NaN;
    if (!Number.isNaN(milliseconds)) {
      this.#last = Math.max(this.#last, milliseconds * 1_000 + Number(stamp.slice(23, 26)));
    }
  }
}

/**
 * The stamps that the agents of this node have issued for one worker. The latest are known by value. Older ones are too
 * many to be kept: once some are forgotten, an older stamp of our form counts as one of them. Somebody else's patch is
 * taken for ours only when it tells of a time before hundreds of calls.
 */
export class IssuedStamps {
  readonly #source: StampSource;
  /** In the order of time, which is that of their texts too. */
  readonly #recent: string[];
  #forgotten: boolean;
  /** Stamps between these two, the first excluded, are not known one by one. */
  #gap: { readonly after: string; readonly upTo: string } | undefined;

  /**
   * @param stamps the latest that an earlier run of the agent has kept, in order
   * @param keptAtMost how many it keeps: with as many there were more
   */
  constructor(source: StampSource, stamps: readonly string[] = [], keptAtMost = Number.POSITIVE_INFINITY) {
    this.#source = source;
    this.#recent = stamps.filter((stamp) => stampForm.test(stamp));
    this.#forgotten = this.#recent.length >= keptAtMost;
  }

  /** Issues one. */
  next(): string {
    const stamp = this.#source.next();
    this.#remember(stamp);
    return stamp;
  }

  /** The last one that an earlier run of the agent has issued, after those that it has kept. */
  found(stamp: string): void {
    const after = this.#recent.at(-1) ?? '';
    this.#forgotten ||= after === '';
    if (stampForm.test(stamp) && stamp > after) {
      this.#remember(stamp);
      this.#gap = { after, upTo: stamp };
    }
  }

  has(stamp: string): boolean {
    const [oldest] = this.#recent;
    if (oldest === undefined || !stampForm.test(stamp)) {
      return false;
    }
    if (stamp < oldest) {
      return this.#forgotten;
    }
    const inGap = this.#gap !== undefined && stamp > this.#gap.after && stamp <= this.#gap.upTo;
    return inGap || this.#recent.includes(stamp);
  }

  /** The latest ones, to be kept on disk. */
  latest(count: number): readonly string[] {
    return this.#recent.slice(-count);
  }

  #remember(stamp: string): void {
    this.#recent.push(stamp);
    if (this.#recent.length > maxRemembered) {
      this.#recent.shift();
      this.#forgotten = true;
    }
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
