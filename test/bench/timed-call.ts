import { type Agent, request } from 'node:http';

/** One HTTP call with its times. */
export interface TimedCall {
  readonly status: number;
  /** Milliseconds from the request to the head of the answer. */
  readonly firstByteMs: number;
  readonly totalMs: number;
  /** Milliseconds by name, from the `Server-Timing` header. */
  readonly serverTiming: ReadonlyMap<string, number>;
  /**
   * State that the call found: `running`, `paused` or `absent`, from the same header; undefined where there is none.
   */
  readonly start: string | undefined;
  readonly body: string;
}

/** Posts `body` and reads the answer; rejects for anything but a 200 without a function error. */
export function timedPost(agent: Agent, url: string, body: string): Promise<TimedCall> {
  return timedRequest(agent, url, 'POST', body);
}

/** Times a request of any method. */
export function timedRequest(agent: Agent, url: string, method: string, body: string): Promise<TimedCall> {
  const done = Promise.withResolvers<TimedCall>();
  const began = performance.now();
  const call = request(
    url,
    { agent, method, headers: { 'content-type': 'application/json', 'content-length': body.length } },
    (answer) => {
      const firstByteMs = performance.now() - began;
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', done.reject);
      answer.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (answer.statusCode !== 200 || answer.headers['x-amz-function-error'] !== undefined) {
          done.reject(new Error(`${url} answered ${answer.statusCode}: ${text.slice(0, 300)}`));
          return;
        }
        done.resolve({
          status: answer.statusCode,
          firstByteMs,
          totalMs: performance.now() - began,
          serverTiming: parseServerTiming(answer.headers['server-timing']),
          start: /start;desc="(\w+)"/.exec(String(answer.headers['server-timing']))?.[1],
          body: text,
        });
      });
    },
  );
  call.setTimeout(60_000, () => call.destroy(new Error(`${url} did not answer in 60 s`)));
  call.on('error', done.reject);
  call.end(body);
  return done.promise;
}

function parseServerTiming(header: string | readonly string[] | undefined): ReadonlyMap<string, number> {
  const text = typeof header === 'string' ? header : (header ?? []).join(',');
  return new Map(
    [...text.matchAll(/([\w-]+)(?:;desc="[^"]*")?;dur=([\d.]+)/g)].map((match) => [match[1] ?? '', Number(match[2])]),
  );
}
