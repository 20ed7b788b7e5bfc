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
