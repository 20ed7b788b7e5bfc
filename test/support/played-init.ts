import { type Duplex, duplexPair } from 'node:stream';
import { Allowances } from '../../src/init/allowance.ts';
import { ContainerInit } from '../../src/init/container-init.ts';
import type { InitAnswer, InitNews, InitRequest } from '../../src/init/contract.ts';
import { FrameReader } from '../../src/init/frames.ts';
import { type ManualClock, manualClock, settle } from './manual-clock.ts';

/** The init of a container, played by the test. */
export class PlayedInit {
  readonly heard: string[] = [];
  readonly socket: Duplex;
  ended = false;

  constructor(socket: Duplex) {
    this.socket = socket;
    const reader = new FrameReader();
    socket.on('error', () => undefined);
    socket.on('data', (piece: Buffer) =>
      reader.read(piece, (kind, payload) =>
        this.heard.push(kind === 'E' ? `E ${payload.length}` : `${kind} ${payload.toString().trimEnd()}`),
      ),
    );
    socket.on('close', () => {
      this.ended = true;
    });
    socket.on('end', () => {
      this.ended = true;
    });
  }

  raw(kind: string, payload: Buffer): void {
    this.rawAll([[kind, payload]]);
  }

  /** Frames that come in one read. */
  rawAll(frames: readonly (readonly [kind: string, payload: Buffer])[]): void {
    const pieces = frames.flatMap(([kind, payload]) => {
      const head = Buffer.alloc(5);
      head.writeUInt32BE(payload.length + 1);
      head.write(kind, 4);
      return [head, payload];
    });
    this.socket.write(Buffer.concat(pieces));
  }

  say(kind: string, fields: Readonly<Record<string, string | number | boolean>>): void {
    this.raw(
      kind,
      Buffer.from(
        Object.entries(fields)
          .map(([name, value]) => `${name}=${value}\n`)
          .join(''),
      ),
    );
  }

  hello(more: Readonly<Record<string, string | number | boolean>> = {}): void {
    const state = { phase: 'Ready', idle: true, initMs: 5, restarts: 0 };
    this.say('H', { ...state, version: 1, session: 'one', calls: 0, ...more });
  }

  data(id: string, offset: number, bytes: Buffer | string): void {
    const head = Buffer.alloc(9 + id.length);
    head.writeUInt8(id.length);
    head.write(id, 1);
    head.writeBigUInt64BE(BigInt(offset), 1 + id.length);
    this.raw('D', Buffer.concat([head, Buffer.from(bytes)]));
  }

  end(id: string, outcome: string, size: number): void {
    this.say('C', { id, stage: 'Ended', outcome, size, durationUs: 7 });
  }
}

/** Parts that the containers of a node share. */
interface Shared {
  readonly clock: ManualClock;
  readonly allowances: Allowances;
  readonly namespace: string;
}

/** The agent's side of a container, on a clock of the test. */
export class PlayedContainer {
  readonly clock: ManualClock;
  readonly news: InitNews[] = [];
  readonly allowances: Allowances;
  readonly container: ContainerInit;
  free = 0;

  /** Alone on its node, if no allowances are given. */
  constructor({ clock = manualClock(), allowances = new Allowances(clock), namespace = '' }: Partial<Shared> = {}) {
    this.clock = clock;
    this.allowances = allowances;
    this.container = new ContainerInit('worker-1', {
      clock,
      allowances,
      namespace,
      onNews: (news) => this.news.push(news),
      onFree: () => {
        this.free += 1;
      },
    });
  }

  connect(): PlayedInit {
    const [ours, theirs] = duplexPair();
    this.container.accept(ours);
    return new PlayedInit(theirs);
  }

  /** An init that is connected, and has named itself. */
  async connected(): Promise<PlayedInit> {
    const init = this.connect();
    init.hello();
    await settle();
    return init;
  }

  send(id: string, more: Partial<InitRequest> = {}): { answer: Promise<InitAnswer>; heard: string[] } {
    const heard: string[] = [];
    const answer = this.container.call({
      requestId: id,
      payload: Buffer.from('{}'),
      timeoutMs: 3_000,
      boundMs: 10_000,
      functionArn: 'arn',
      version: '1',
      clientContext: '',
      traceId: '',
      onSending: () => heard.push('sending'),
      onHead: ({ contentType, streaming }) => heard.push(`head ${contentType} ${streaming}`),
      onChunk: (chunk) => heard.push(`chunk ${chunk.length}`),
      ...more,
    });
    return { answer, heard };
  }
}
