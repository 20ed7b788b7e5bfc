import { EsbError } from '../common/errors.ts';

/** A line of a container's output, or a part of a long line. */
export interface LogFrame {
  /** Time of the line, with nanoseconds: `2026-11-26T01:43:09.197384878Z`. No two lines have the same time. */
  readonly time: string;
  /** Includes the line feed at the end of a line. */
  readonly data: Buffer;
}

/** Kind of stream, three zero bytes, and the length (Docker Engine API, "Attach to a container", stream format). */
const HEADER_BYTES = 8;
const SPACE = 0x20;

/**
 * Splits the engine's stream for a container without a terminal, with times. Yields the lines of each chunk together.
 *
 * @throws {EsbError} `DockerFailed` for a malformed stream
 */
export async function* readLogFrames(stream: AsyncIterable<Buffer>): AsyncGenerator<readonly LogFrame[]> {
  let pending: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    const frames: LogFrame[] = [];
    for (;;) {
      const end = pending.length < HEADER_BYTES ? Infinity : HEADER_BYTES + pending.readUInt32BE(4);
      if (pending.length < end) {
        break;
      }
      frames.push(frameOf(pending.subarray(HEADER_BYTES, end)));
      pending = pending.subarray(end);
    }
    if (frames.length > 0) {
      yield frames;
    }
  }
}

function frameOf(payload: Buffer): LogFrame {
  const space = payload.indexOf(SPACE);
  const time = payload.subarray(0, Math.max(0, space)).toString('latin1');
  if (!/^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(time)) {
    throw new EsbError('the engine sent a line of a log without its time', { code: 'DockerFailed' });
  }
  return { time, data: payload.subarray(space + 1) };
}
