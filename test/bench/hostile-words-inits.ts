// The inits of workers, played in a process of their own: hostile ones of five kinds, or silent ones that burn.
import { connect, type Socket } from 'node:net';
import { unreachable } from '../../src/common/errors.ts';
import { FrameReader } from '../../src/init/frames.ts';

/** Order to the played inits. */
export type InitsOrder =
  | { readonly kind: 'Serve'; readonly folder: string }
  /** The init of a container connects, and rests. */
  | { readonly kind: 'Come'; readonly name: string; readonly folder: string }
  /** From now on all talk that rest, and all that come. */
  | { readonly kind: 'Talk' }
  /** Burns that share of a processor, without a word. */
  | { readonly kind: 'Burn'; readonly share: number };

/** Kinds of hostile words. */
export const KINDS = ['Phases', 'LongEnds', 'UnreadParts', 'Escapes', 'Connections'] as const;
export type Kind = (typeof KINDS)[number];

/** Name of a container: its place among the workers, and how many were there before it. */
export function nameOf(slot: string, run: number): string {
  return `${slot}.${run}`;
}

export function slotOf(name: string): string {
  return name.split('.')[0] ?? '';
}

export function kindOf(name: string): Kind {
  return KINDS[Number(slotOf(name)) % KINDS.length] ?? 'Phases';
}

const MOST_CALLS = 2_047;
const MOST_FRAME_BYTES = 256 * 1024 - 1;
const BURN_PERIOD_MS = 20;
const RETRY_MS = 20;
const CALL_END = 'stage=Ended\noutcome=Answered\nsize=0\ndurationUs=1\n';

function frame(kind: string, payload: Buffer | string): Buffer {
  const head = Buffer.alloc(5);
  const bytes = Buffer.from(payload);
  head.writeUInt32BE(bytes.length + 1);
  head.write(kind, 4);
  return Buffer.concat([head, bytes]);
}

function hello(calls: number): Buffer {
  return frame('H', `version=1\nsession=s\ncalls=${calls}\nphase=Ready\nidle=true\ninitMs=1\nrestarts=0\n`);
}

const names = Buffer.concat(
  Array.from({ length: MOST_CALLS }, (_, call) => frame('C', `id=call-${call}\nstage=Running\n`)),
);
const phases = Buffer.concat(
  Array.from({ length: 400 }, (_, turn) => frame('P', `phase=Ready\nidle=${turn % 2 === 0}\ninitMs=1\nrestarts=0\n`)),
);
/** A text of which each character takes two bytes of memory, as one of them is no Latin letter. */
const wide = `${'m'.repeat(60_000)}\u{1f600}`;
const escapes = frame('C', `id=call-0\nbody=${'\\n'.repeat(60_000)}\nerrorBody=${'\\n'.repeat(60_000)}\n`);
const unread = frame(
  'D',
  Buffer.concat([Buffer.from([6]), Buffer.from('call-0'), Buffer.alloc(8), Buffer.alloc(MOST_FRAME_BYTES - 15)]),
);

/** Words of an init after its name, without end. */
function nextWords(kind: Exclude<Kind, 'Connections'>, turn: number): Buffer {
  switch (kind) {
    case 'Phases':
      return phases;
    case 'LongEnds':
      return frame(
        'C',
        `id=call-${turn % MOST_CALLS}\nstage=Ended\noutcome=Error\nsize=0\ndurationUs=1\nmessage=${wide}\nbody=${wide}\n`,
      );
    case 'UnreadParts':
      return unread;
    case 'Escapes':
      return escapes;
    default:
      return unreachable(kind);
  }
}

function connectTo(folder: string): Socket {
  const socket = connect(`${folder}/agent.sock`);
  socket.on('error', () => undefined);
  socket.resume();
  return socket;
}

/** The init of the worker that is called: each call is answered at once. */
function serve(folder: string): void {
  const socket = connectTo(folder);
  const reader = new FrameReader();
  socket.write(hello(0));
  socket.on('data', (piece: Buffer) =>
    reader.read(piece, (kind, payload) => {
      if (kind === 'I') {
        const id = /^id=(.*)$/m.exec(payload.toString('latin1'))?.[1] ?? '';
        socket.write(frame('C', `id=${id}\n${CALL_END}`));
      }
    }),
  );
}

class HostileInit {
  readonly #kind: Kind;
  readonly #folder: string;
  #socket: Socket;
  #turn = 0;
  #gone = false;

  constructor(kind: Kind, folder: string) {
    this.#kind = kind;
    this.#folder = folder;
    this.#socket = connectTo(folder);
    this.#socket.write(hello(0));
  }

  /** Begins again, as after a restart of the agent, and talks without end. */
  talk(): void {
    this.#socket.destroy();
    this.#connect();
  }

  /** Another container has the place of this one. */
  stop(): void {
    this.#gone = true;
    this.#socket.destroy();
  }

  #connect(): void {
    if (this.#gone) {
      return;
    }
    const socket = connectTo(this.#folder);
    this.#socket = socket;
    socket.on('connect', () => {
      if (this.#kind === 'Connections') {
        socket.end(hello(0));
      } else {
        socket.write(hello(MOST_CALLS));
        socket.write(names);
        this.#talkOn(socket, this.#kind);
      }
    });
    // The hub rests before it listens again.
    socket.on('close', () => setTimeout(() => this.#connect(), RETRY_MS));
  }

  #talkOn(socket: Socket, kind: Exclude<Kind, 'Connections'>): void {
    do {
      this.#turn += 1;
    } while (socket.write(nextWords(kind, this.#turn)));
    socket.once('drain', () => this.#talkOn(socket, kind));
  }
}

function burn(share: number): void {
  setInterval(() => {
    const until = performance.now() + share * BURN_PERIOD_MS;
    while (performance.now() < until) {
      // Burns.
    }
  }, BURN_PERIOD_MS);
}

function play(): void {
  const inits = new Map<string, HostileInit>();
  let talks = false;
  process.on('message', (order: InitsOrder) => {
    switch (order.kind) {
      case 'Serve':
        serve(order.folder);
        break;
      case 'Come': {
        const slot = slotOf(order.name);
        inits.get(slot)?.stop();
        const init = new HostileInit(kindOf(order.name), order.folder);
        inits.set(slot, init);
        if (talks) {
          init.talk();
        }
        break;
      }
      case 'Talk':
        talks = true;
        for (const init of inits.values()) {
          init.talk();
        }
        break;
      case 'Burn':
        burn(order.share);
        break;
      default:
        unreachable(order);
    }
  });
  process.on('disconnect', () => process.exit());
}

if (process.argv[2] === 'inits') {
  play();
}
