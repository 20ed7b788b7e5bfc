import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** How a client ends what it has sent. */
export type Ending =
  /** The client waits for the answers. */
  | 'Wait'
  /** The client ends its side of the connection and reads on. */
  | 'HalfClose'
  /** The client closes the connection without reading. */
  | 'Close'
  /** The client resets the connection. */
  | 'Reset';

/** Bytes of a client: pieces, one write each, and the end of the connection. */
export interface Conversation {
  readonly pieces: readonly Buffer[];
  /** Milliseconds between two pieces. */
  readonly gapMs: number;
  readonly ending: Ending;
}

/** One answer as it came. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Bytes and end that a client saw. */
export interface Heard {
  readonly answers: readonly RawAnswer[];
  /** Bytes that are no whole answer. */
  readonly rest: string;
  /** Whether the server closed the connection. */
  readonly closed: boolean;
}

export interface ConverseOptions {
  /** Milliseconds without a byte after which nothing more is expected. */
  readonly quietMs?: number;
  /** Answers after which nothing more is expected. */
  readonly answers?: number;
}

/**
 * Talks to a port of this machine, byte for byte as told. Never rejects because of what the server does to the
 * connection.
 */
export async function converse(
  port: number,
  conversation: Conversation,
  { quietMs = 300, answers: expected = Number.POSITIVE_INFINITY }: ConverseOptions = {},
): Promise<Heard> {
  const socket = await openSocket(port);
  const chunks: Buffer[] = [];
  let lastAt = performance.now();
  let closed = false;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    lastAt = performance.now();
  });
  socket.on('close', () => {
    closed = true;
  });
  for (const piece of conversation.pieces) {
    if (socket.destroyed || closed) {
      break;
    }
    socket.write(piece);
    if (conversation.gapMs > 0) {
      await delay(conversation.gapMs);
    }
  }
  lastAt = performance.now();
  switch (conversation.ending) {
    case 'Wait':
      break;
    case 'HalfClose':
      socket.end();
      break;
    case 'Close':
      socket.destroy();
      break;
    case 'Reset':
      socket.resetAndDestroy();
      break;
  }
  let looked = 0;
  while (!closed && performance.now() - lastAt < quietMs) {
    await delay(5);
    if (chunks.length > looked && Number.isFinite(expected)) {
      looked = chunks.length;
      if (parseAnswers(Buffer.concat(chunks)).answers.length >= expected) {
        break;
      }
    }
  }
  const heard = parseAnswers(Buffer.concat(chunks));
  const byServer = closed && conversation.ending === 'Wait';
  socket.destroy();
  return { ...heard, closed: byServer };
}

/** A connection whose errors are taken for what they are: its end. */
export async function openSocket(port: number, localAddress = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', localAddress, allowHalfOpen: true });
  const opened = Promise.withResolvers<void>();
  socket.once('connect', () => opened.resolve());
  socket.on('error', (error) => opened.reject(error));
  socket.on('end', () => socket.end());
  await opened.promise;
  return socket;
}

/** Reads answers whose bodies have a length or none. Interim ones (1xx) are left out. */
export function parseAnswers(bytes: Buffer): Pick<Heard, 'answers' | 'rest'> {
  const answers: RawAnswer[] = [];
  let at = 0;
  for (;;) {
    const headEnd = bytes.indexOf('\r\n\r\n', at);
    if (headEnd < 0) {
      break;
    }
    const [first = '', ...lines] = bytes.toString('latin1', at, headEnd).split('\r\n');
    const status = /^HTTP\/1\.[01] (\d{3})/.exec(first)?.[1];
    if (status === undefined) {
      break;
    }
    const headers = Object.fromEntries(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    const bodyAt = headEnd + 4;
    const length = Number(headers['content-length'] ?? 0);
    if (bodyAt + length > bytes.length) {
      break;
    }
    if (!status.startsWith('1')) {
      answers.push({
        status: Number(status),
        headers,
        body: bytes.toString('utf8', bodyAt, bodyAt + length),
      });
    }
    at = bodyAt + length;
  }
  return { answers, rest: bytes.toString('latin1', at) };
}
