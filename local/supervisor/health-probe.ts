import { readFileSync } from 'node:fs';
import { get as httpGet } from 'node:http';
import { get as httpsGet } from 'node:https';
import { connect } from 'node:net';
import { withDeadline } from '../../src/common/deadline.ts';
import { messageOf } from '../../src/common/errors.ts';
import type { HealthProbe } from './part.ts';

/** Asks a part whether it serves; resolves to `healthy` or to the fault in a few words. Never rejects. */
export async function probeHealth(probe: HealthProbe, deadlineMs: number): Promise<string> {
  try {
    return await withDeadline('the health check', deadlineMs, undefined, (signal) =>
      probe.kind === 'http' ? probeHttp(probe.url, probe.authorityFile, signal) : probeSocket(probe.path, signal),
    );
  } catch (error) {
    return `failing: ${messageOf(error)}`;
  }
}

async function probeHttp(url: string, authorityFile: string | undefined, signal: AbortSignal): Promise<string> {
  const result = Promise.withResolvers<string>();
  const secure = url.startsWith('https:');
  const options = {
    signal,
    agent: false as const,
    ...(authorityFile === undefined ? {} : { ca: readFileSync(authorityFile) }),
  };
  const outgoing = (secure ? httpsGet : httpGet)(url, options, (answer) => {
    const chunks: Buffer[] = [];
    answer.on('data', (chunk: Buffer) => chunks.push(chunk));
    answer.on('error', result.reject);
    answer.on('end', () => {
      const said = saidBy(Buffer.concat(chunks).toString()).trim().replaceAll(/\s+/g, ' ').slice(0, 300);
      result.resolve(answer.statusCode === 200 ? 'healthy' : `failing: ${answer.statusCode} ${said}`.trim());
    });
  });
  outgoing.on('error', result.reject);
  return result.promise;
}

/** The message of a status of Kubernetes; any other text as it is. */
function saidBy(text: string): string {
  try {
    const status: unknown = JSON.parse(text);
    return typeof status === 'object' && status !== null && 'message' in status && typeof status.message === 'string'
      ? status.message
      : text;
  } catch {
    return text;
  }
}

async function probeSocket(path: string, signal: AbortSignal): Promise<string> {
  const result = Promise.withResolvers<string>();
  const socket = connect(path);
  const onAbort = (): void => {
    socket.destroy();
  };
  signal.addEventListener('abort', onAbort, { once: true });
  socket.on('connect', () => result.resolve('healthy'));
  socket.on('error', result.reject);
  try {
    return await result.promise;
  } finally {
    signal.removeEventListener('abort', onAbort);
    socket.destroy();
  }
}
