import { appendFileSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

let calls = 0;

/** Counts its calls: in its process, and in the files of its container. */
export const handler = async ({ sleep = 0 }) => {
  calls += 1;
  const answer = { calls };
  appendFileSync('/tmp/kept', 'x');
  await setTimeout(sleep * 1_000);
  return { ...answer, kept: statSync('/tmp/kept').size };
};

/** Streams `parts`, with `pause` seconds after each; fails at the end where it is to `raise`. */
export const streams = awslambda.streamifyResponse(async ({ parts = [], pause = 0, raise }, answer) => {
  answer.setContentType('text/plain');
  for (const part of parts) {
    answer.write(part);
    await setTimeout(pause * 1_000);
  }
  if (raise !== undefined) {
    throw new Error(raise);
  }
  answer.end();
  await answer.finished();
});
