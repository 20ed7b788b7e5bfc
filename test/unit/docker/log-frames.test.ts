import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LogFrame, readLogFrames } from '../../../src/docker/log-frames.ts';

const TIME = '2026-11-26T01:43:09.197384878Z';

function frame(payload: string, stream = 1): Buffer {
  const body = Buffer.from(payload);
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(body.length, 4);
  return Buffer.concat([header, body]);
}

async function read(...chunks: readonly Buffer[]): Promise<LogFrame[]> {
  const frames: LogFrame[] = [];
  async function* stream() {
    yield* chunks;
  }
  for await (const some of readLogFrames(stream())) {
    frames.push(...some);
  }
  return frames;
}

describe('the log of a container', () => {
  it('is taken apart wherever its pieces are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.string(), fc.constantFrom(1, 2)), { maxLength: 8 }),
        fc.array(fc.nat(400), { maxLength: 10 }),
        async (lines, cuts) => {
          const whole = Buffer.concat(lines.map(([text, stream]) => frame(`${TIME} ${text}\n`, stream)));
          const edges = [0, ...cuts.map((cut) => Math.min(cut, whole.length)), whole.length].toSorted((a, b) => a - b);
          const chunks = edges.slice(1).map((edge, index) => whole.subarray(edges[index], edge));
          const frames = await read(...chunks);
          expect(frames.map(({ data }) => data.toString())).toEqual(lines.map(([text]) => `${text}\n`));
          expect(frames.every(({ time }) => time === TIME)).toBe(true);
        },
      ),
    );
  });

  it('keeps a line that ends without a line feed, and an empty one', async () => {
    const frames = await read(frame(`${TIME} half`), frame(`${TIME} \n`), frame(`${TIME} `));
    expect(frames.map(({ data }) => data.toString())).toEqual(['half', '\n', '']);
  });

  it('leaves out what the end of the connection cut off', async () => {
    expect(await read(frame(`${TIME} whole\n`), frame(`${TIME} cut off\n`).subarray(0, 20))).toHaveLength(1);
  });

  it.each(['no time at all\n', 'alone', '2026 x'])('is refused without times, as in %j', async (payload) => {
    await expect(read(frame(payload))).rejects.toMatchObject({ code: 'DockerFailed' });
  });
});
