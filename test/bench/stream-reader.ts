import { type Agent, type IncomingMessage, request } from 'node:http';

/** One streamed answer with its times. */
export interface TimedStream {
  /** Milliseconds from the request to the first byte of the body. */
  readonly firstByteMs: number;
  readonly totalMs: number;
  /** Bytes of the body, with its framing. */
  readonly bytes: number;
}

/** Posts an event and begins to read a streamed answer. */
export async function openStream(agent: Agent, url: string, event: object): Promise<IncomingMessage> {
  const body = JSON.stringify(event);
  const opened = Promise.withResolvers<IncomingMessage>();
  const call = request(url, { agent, method: 'POST', headers: { 'content-length': body.length } }, opened.resolve);
  call.on('error', opened.reject);
  call.end(body);
  const answer = await opened.promise;
  if (answer.statusCode !== 200) {
    throw new Error(`${url} answered ${answer.statusCode}`);
  }
  return answer;
}

/** Posts an event and reads the whole of a streamed answer. */
export async function timedStream(agent: Agent, url: string, event: object): Promise<TimedStream> {
  const began = performance.now();
  let firstByteMs: number | undefined;
  let bytes = 0;
  for await (const chunk of (await openStream(agent, url, event)) as AsyncIterable<Buffer>) {
    firstByteMs ??= performance.now() - began;
    bytes += chunk.length;
  }
  return { firstByteMs: firstByteMs ?? Number.NaN, totalMs: performance.now() - began, bytes };
}
