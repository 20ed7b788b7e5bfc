import { appendFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

/** Notes the call in the files of the container. */
const note = ({ id }) => appendFileSync('/tmp/ran', `${id} ${process.pid}\n`);

export const handler = async (event) => {
  note(event);
  await setTimeout(event.sleep * 1_000);
  return { id: event.id, padding: 'x'.repeat(event.size) };
};

export const streaming = awslambda.streamifyResponse(async (event, answer) => {
  note(event);
  const { id, parts, size, sleep } = event;
  for (let part = 0; part < parts; part += 1) {
    await setTimeout((sleep * 1_000) / parts);
    if (!answer.write(`${id} ${part} ${'x'.repeat(size)}\n`)) {
      await new Promise((resolve) => answer.once('drain', resolve));
    }
  }
  answer.end();
});
