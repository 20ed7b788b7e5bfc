import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InitAgent } from './init-agent.ts';
import { checkedInitProgram } from './init-lab.ts';
import { waitFor } from './wait-for.ts';

export interface BareInitOptions {
  /** The init, and what runs it. Default: the one with checks of memory. */
  readonly program?: readonly string[];
  /** The runtime. Default: a process that sleeps, whose part the test plays. */
  readonly argv?: readonly string[];
  readonly flags?: readonly string[];
  /** Descriptor of the log. Default: a pipe that the test reads. */
  readonly stdout?: number;
  /** Files of the folder of extensions: name → content; undefined stands for a folder. */
  readonly extensions?: Readonly<Record<string, string | undefined>>;
}

/** The init with checks of memory in a process table of its own, without a container. The test plays the runtime. */
export interface InitProcess {
  /** Folder on which the test and the processes under the init agree. */
  readonly folder: string;
  /** Output so far. */
  log(): string;
  /** Opens a connection to the Runtime API. `heedless`: it goes on to send after the init has said its last word. */
  connect(manner?: 'heedless'): Promise<Peer>;
  /** Whether the init has ended. */
  hasEnded(): boolean;
  /** Waits until the init has ended. */
  ended(): Promise<void>;
  /** Has the init stand still, as a freezer does, or go on. */
  stand(still: boolean): void;
  /** Ends the init, and says what the checks of memory found. */
  close(): Promise<string>;
}

/** An init of which the test plays the agent as well. */
export interface BareInit extends InitProcess {
  readonly agent: InitAgent;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export async function startBareInit(options: BareInitOptions = {}): Promise<BareInit> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-init-bare-'));
  const agent = new InitAgent(join(folder, 'agent.sock'));
  await agent.listen();
  const init = await startInitProcess(folder, join(folder, 'agent.sock'), options);
  await agent.until('the init', () => agent.phase ?? init.hasEnded());
  return {
    ...init,
    agent,
    async close() {
      const found = await init.close();
      await agent.die();
      return found;
    },
  };
}

/** Starts an init that connects to an agent's socket. The folder goes with the init. */
export async function startInitProcess(
  folder: string,
  socket: string,
  options: BareInitOptions = {},
): Promise<InitProcess> {
  const extensions = join(folder, 'extensions');
  await mkdir(extensions);
  for (const [name, content] of Object.entries(options.extensions ?? {})) {
    const path = join(extensions, name);
    await (content === undefined ? mkdir(path) : writeFile(path, content, { mode: 0o755 }));
  }
  const port = await freePort();
  const flags = ['--socket', socket, '--port', String(port), '--extensions', extensions];
  const child = spawn(
    'unshare',
    [
      ...['--pid', '--fork', '--kill-child', '--mount-proc', ...(options.program ?? [await checkedInitProgram()])],
      ...[...flags, ...(options.flags ?? []), '--', ...(options.argv ?? ['sleep', '1000'])],
    ],
    { stdio: ['ignore', options.stdout ?? 'pipe', 'pipe'], env: { ...process.env, FOLDER: folder } },
  );
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data: Buffer) => {
      said += data.toString();
    });
  }
  const exit = once(child, 'exit');
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  return {
    folder,
    log: () => said,
    async connect(manner) {
      const peer = connect({ port, host: '127.0.0.1', allowHalfOpen: manner === 'heedless' });
      await once(peer, 'connect');
      return new Peer(peer);
    },
    hasEnded,
    async ended() {
      await waitFor('the end of the init', hasEnded, { everyMs: 10, timeoutMs: 20_000 });
    },
    stand(still) {
      const pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8'));
      process.kill(pid, still ? 'SIGSTOP' : 'SIGCONT');
    },
    async close() {
      child.kill('SIGKILL');
      await exit;
      await rm(folder, { recursive: true, force: true });
      return /[^\n]*(Sanitizer|runtime error)[\s\S]*/.exec(said)?.[0] ?? '';
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const runtimePath = '/2018-06-01/runtime/invocation';

/** One connection to the Runtime API. */
export class Peer {
  readonly socket: Socket;
  #in: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#ended = true;
    });
    socket.on('end', () => {
      this.#ended = true;
    });
    socket.on('data', (data: Buffer) => {
      this.#in = Buffer.concat([this.#in, data]);
    });
  }

  /** Whether the init has closed the connection. */
  get ended(): boolean {
    return this.#ended;
  }

  send(bytes: string | Buffer): void {
    this.socket.write(bytes);
  }

  request(method: string, path: string, headers: Readonly<Record<string, string>> = {}, body = ''): void {
    const fields = Object.entries({ Host: 'x', 'Content-Length': String(body.length), ...headers });
    this.send(
      `${method} ${path} HTTP/1.1\r\n${fields.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`,
    );
  }

  /** Asks for the next call. */
  next(): void {
    this.request('GET', `${runtimePath}/next`);
  }

  respond(id: string, body: string, headers: Readonly<Record<string, string>> = {}): void {
    this.request('POST', `${runtimePath}/${id}/response`, headers, body);
  }

  /** Begins an answer in chunks. */
  stream(id: string, ...chunks: readonly string[]): void {
    this.send(
      `POST ${runtimePath}/${id}/response HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n` +
        'Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n',
    );
    for (const chunk of chunks) {
      this.chunk(chunk);
    }
  }

  chunk(text: string): void {
    this.send(`${text.length.toString(16)}\r\n${text}\r\n`);
  }

  extension(method: string, path: string, headers: Readonly<Record<string, string>>, body = ''): void {
    this.request(method, `/2020-01-01/extension/${path}`, headers, body);
  }

  /** Registers an extension, and returns its identifier. */
  async register(name: string, events: readonly string[]): Promise<string> {
    this.extension('POST', 'register', { 'Lambda-Extension-Name': name }, JSON.stringify({ events }));
    return (await this.answer()).headers['lambda-extension-identifier'] ?? '';
  }

  /** Waits for an answer. */
  answer(timeoutMs = 5_000): Promise<HttpAnswer> {
    return waitFor('an answer', () => this.#take(), { everyMs: 5, timeoutMs });
  }

  #take(): HttpAnswer | undefined {
    const end = this.#in.indexOf('\r\n\r\n');
    const [first = '', ...lines] = this.#in.subarray(0, Math.max(end, 0)).toString().split('\r\n');
    const headers = Object.fromEntries(
      lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
    );
    const whole = end + 4 + Number(headers['content-length'] ?? 0);
    if (end < 0 || this.#in.length < whole) {
      return undefined;
    }
    const body = this.#in.subarray(end + 4, whole).toString();
    this.#in = this.#in.subarray(whole);
    return { status: Number(first.split(' ')[1]), headers, body };
  }
}
