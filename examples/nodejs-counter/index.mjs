// A function that shows what a worker remembers; the same events as ../python-counter/lambda_function.py:
//
//   {"sleep": 1.5}     sleep that many seconds
//   {"raise": "text"}  throw an error with that text
//   {"exit": 3}        end the process with that code
//   {"allocate": 64}   allocate and touch that many MiB
//   {"print": "text"}  write a line to standard output
//   {"write": 16}      write that many MiB to /tmp
//   {"size": 1000}     answer with that many characters of padding
//   {"echo": ...}      give this value back
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

const bootId = randomUUID().replaceAll('-', '');
const started = Date.now();
let counter = 0;
let running = 0;
let overlaps = 0;

export async function handler(event, context) {
  counter += 1;
  running += 1;
  if (running > 1) {
    overlaps += 1;
  }
  try {
    const asked = typeof event === 'object' && event !== null && !Array.isArray(event);
    return await answer(asked ? event : { echo: event }, context, counter);
  } finally {
    running -= 1;
  }
}

async function answer(event, context, count) {
  if ('print' in event) {
    console.log(event.print);
  }
  if ('sleep' in event) {
    await delay(Number(event.sleep) * 1000);
  }
  if ('raise' in event) {
    throw new Error(event.raise);
  }
  if ('exit' in event) {
    process.exit(Number(event.exit));
  }
  if ('allocate' in event) {
    Buffer.alloc(Number(event.allocate) * 1024 * 1024, 1);
  }
  if ('write' in event) {
    writeFileSync('/tmp/written', Buffer.alloc(Number(event.write) * 1024 * 1024));
  }
  return {
    message: `hello from ${context.functionName}`,
    counter: count,
    overlaps,
    bootId,
    uptime: Math.round(Date.now() - started) / 1000,
    requestId: context.awsRequestId,
    remainingMs: context.getRemainingTimeInMillis(),
    ...(context.clientContext === undefined ? {} : { clientContext: context.clientContext.custom }),
    ...('echo' in event ? { echo: event.echo } : {}),
    ...('size' in event ? { padding: 'x'.repeat(Number(event.size)) } : {}),
  };
}
