import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { waitFor } from './wait-for.ts';

/** State of a worker, as its init tells it. */
export interface InitPhase {
  readonly phase: string;
  readonly idle: boolean;
  readonly initMs: number;
  readonly restarts: number;
  /** Where several calls are in it at once. */
  readonly places?: number | undefined;
  readonly held?: number | undefined;
  readonly fault?:
    | {
        readonly errorType: string;
        readonly message: string;
        readonly body?: string | undefined;
        /** The bound of the Runtime API for which the worker is ended. */
        readonly bound?: string | undefined;
      }
    | undefined;
}

/** State of a call, as the init tells it. */
export interface InitCall {
  readonly id: string;
  readonly stage: string;
  readonly streaming: boolean;
  readonly contentType?: string | undefined;
  readonly outcome?:
    | {
        readonly kind: string;
        readonly errorType?: string | undefined;
        readonly message?: string | undefined;
        readonly errorBody?: string | undefined;
      }
    | undefined;
  readonly size: number;
  /** Microseconds in the runtime. */
  readonly durationUs: number;
}

/** A call as this agent knows it. */
export interface KnownCall {
  readonly facts: InitCall;
  /** The answer so far. */
  readonly answer: Buffer;
}

export interface CallOptions {
  readonly id?: string;
  readonly timeoutMs?: number;
  /** Headers of the call beyond those that every call has. */
  readonly order?: Readonly<Record<string, string>>;
}

/** Speaks the agent's side of the protocol of `init/`. Every byte of an answer is acknowledged unless told otherwise. */
export class InitAgent {
  readonly #path: string;
  readonly #calls = new Map<string, { facts: InitCall; answer: Buffer[]; length: number }>();
  readonly #events: string[] = [];
  readonly #waiting = new Map<string, () => void>();
  #server: Server | undefined;
  #socket: Socket | undefined;
  #phase: InitPhase | undefined;
  #serial = 0;
  /** Whether bytes of answers are acknowledged. */
  acknowledges = true;
  /** Bytes that came twice. */
  repeated = 0;

  constructor(path: string) {
    this.#path = path;
  }

  get phase(): InitPhase | undefined {
    return this.#phase;
  }

  /** Kinds of frames in the order in which they came, with the id of the call where there is one. */
  get events(): readonly string[] {
    return this.#events;
  }

  async listen(): Promise<void> {
    rmSync(this.#path, { force: true });
    const server = createServer((socket) => {
      this.#socket?.destroy();
      this.#socket = socket;
      socket.on('error', () => undefined);
      this.#read(socket);
    });
    server.listen(this.#path);
    await once(server, 'listening');
    // For workers with users of their own.
    chmodSync(this.#path, 0o666);
    this.#server = server;
  }

  /** Ends as an agent that is killed does: at once, with what it was told lost. */
  async die(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#phase = undefined;
    this.#calls.clear();
    if (server !== undefined) {
      server.close();
      await once(server, 'close');
    }
  }

  /** Waits until the worker is ready and may be frozen. */
  idle(timeoutMs?: number): Promise<InitPhase> {
    return this.until('an idle worker', () => (this.#phase?.idle === true ? this.#phase : undefined), timeoutMs);
  }

  until<T>(what: string, probe: () => T | undefined | false, timeoutMs = 20_000): Promise<T> {
    return waitFor(what, probe, { everyMs: 5, timeoutMs });
  }

  /** Hands a call over, and returns its id. */
  send(event: unknown, { id = `call-${++this.#serial}`, timeoutMs = 10_000, order = {} }: CallOptions = {}): string {
    const body = Buffer.isBuffer(event) ? event : Buffer.from(JSON.stringify(event));
    this.#say('I', {
      id,
      size: body.length,
      beginByMs: Math.ceil(Number(process.hrtime.bigint()) / 1e6) + timeoutMs,
      timeoutMs,
      version: '$LATEST',
      functionArn: 'arn:aws:lambda:us-east-1:012345678912:function:tried',
      ...order,
    });
    for (let offset = 0; offset < body.length; offset += 64 * 1024) {
      const head = Buffer.concat([Buffer.from([id.length]), Buffer.from(id)]);
      this.#write('E', Buffer.concat([head, body.subarray(offset, offset + 64 * 1024)]));
    }
    return id;
  }

  /** Waits for the outcome of a call. */
  async ended(id: string, timeoutMs?: number): Promise<KnownCall> {
    await this.until(`the outcome of ${id}`, () => this.#calls.get(id)?.facts.outcome !== undefined, timeoutMs);
    return this.known(id);
  }

  /** Hands a call over, waits for its outcome, and has the init forget it. */
  async call(event: unknown, options: CallOptions = {}): Promise<KnownCall> {
    const id = this.send(event, options);
    const known = await this.ended(id, (options.timeoutMs ?? 10_000) + 10_000);
    this.forget(id);
    return known;
  }

  /** Has `then` called at the outcome of a call, without a look at it every few milliseconds. */
  onEnded(id: string, then: () => void): void {
    this.#waiting.set(id, then);
  }

  known(id: string): KnownCall {
    const call = this.#calls.get(id);
    if (call === undefined) {
      throw new Error(`the init has said nothing of ${id}`);
    }
    return { facts: call.facts, answer: Buffer.concat(call.answer) };
  }

  acknowledge(id: string): void {
    this.#say('A', { id, offset: this.#calls.get(id)?.length ?? 0 });
  }

  forget(id: string): void {
    this.#say('F', { id });
  }

  /** Has the init tell of a call once more. */
  tellAgain(id: string, number: number): void {
    this.#say('T', { id, number });
  }

  stop(graceMs: number): void {
    this.#say('S', { reason: 'spindown', graceMs });
  }

  /** Sends bytes as they are. */
  raw(bytes: Buffer): void {
    this.#socket?.write(bytes);
  }

  #say(kind: string, fields: Readonly<Record<string, string | number>>): void {
    const lines = Object.entries(fields).map(([name, value]) => {
      const text = String(value).replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
      return `${name}=${text}\n`;
    });
    this.#write(kind, Buffer.from(lines.join('')));
  }

  #write(kind: string, body: Buffer): void {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(body.length + 1);
    head.write(kind, 4);
    this.#socket?.write(Buffer.concat([head, body]));
  }

  #read(socket: Socket): void {
    let buffer: Buffer = Buffer.alloc(0);
    socket.on('data', (data) => {
      buffer = Buffer.concat([buffer, data as Buffer]);
      while (buffer.length >= 4 && buffer.length >= 4 + buffer.readUInt32BE(0)) {
        const end = 4 + buffer.readUInt32BE(0);
        this.#take(String.fromCharCode(buffer[4] ?? 0), buffer.subarray(5, end));
        buffer = buffer.subarray(end);
      }
    });
  }

  #take(kind: string, payload: Buffer): void {
    if (kind === 'D') {
      this.#data(payload);
      return;
    }
    const told = fieldsOf(payload);
    const { again, id, outcome, stage = '', phase = '' } = told;
    if (kind !== 'C' || id === undefined) {
      this.#events.push(`${kind} ${phase}`);
      this.#phase = phaseOf(told);
      return;
    }
    this.#events.push(`C ${id} ${outcome ?? stage}${again === undefined ? '' : ` again ${again}`}`);
    this.#calls.set(id, { answer: [], length: 0, ...this.#calls.get(id), facts: callOf(id, told) });
    if (outcome !== undefined) {
      this.#waiting.get(id)?.();
      this.#waiting.delete(id);
    }
  }

  #data(payload: Buffer): void {
    const size = payload[0] ?? 0;
    const id = payload.subarray(1, 1 + size).toString();
    const offset = Number(payload.readBigUInt64BE(1 + size));
    const data = payload.subarray(9 + size);
    const call = this.#calls.get(id);
    if (call === undefined) {
      throw new Error(`bytes of ${id} came before any word of it`);
    }
    // An agent that takes over has none of what was acknowledged before.
    if (call.answer.length === 0) {
      call.length = offset;
    }
    const fresh = data.subarray(Math.max(call.length - offset, 0));
    this.repeated += data.length - fresh.length;
    call.answer.push(Buffer.from(fresh));
    call.length = offset + data.length;
    if (this.acknowledges) {
      this.acknowledge(id);
    }
  }
}

type Fields = Readonly<Record<string, string>>;

function fieldsOf(payload: Buffer): Fields {
  const lines = payload.toString().split('\n').slice(0, -1);
  const pairs = lines.map((line) => {
    const [name = '', ...value] = line.split('=');
    return [name, value.join('=').replace(/\\(.)/g, (_, each: string) => (each === 'n' ? '\n' : each))] as const;
  });
  return Object.fromEntries(pairs);
}

/** Leaves out what is not there. */
function present<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

function phaseOf({
  phase = '',
  idle,
  initMs,
  restarts,
  places,
  held,
  errorType,
  message = '',
  body,
  bound,
}: Fields): InitPhase {
  const fault = errorType === undefined ? undefined : present({ errorType, message, body, bound });
  const several = places === undefined ? {} : { places: Number(places), held: Number(held) };
  return present({
    phase,
    idle: idle === 'true',
    initMs: Number(initMs),
    restarts: Number(restarts),
    ...several,
    fault,
  });
}

function callOf(id: string, told: Fields): InitCall {
  const { stage = '', streaming, contentType, outcome, size, durationUs, errorType, message, errorBody } = told;
  return present({
    id,
    stage,
    streaming: streaming === 'true',
    contentType,
    outcome: outcome === undefined ? undefined : present({ kind: outcome, errorType, message, errorBody }),
    size: Number(size ?? 0),
    durationUs: Number(durationUs ?? 0),
  });
}
