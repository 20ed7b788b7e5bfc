import { expect, it } from 'vitest';
import { toolsFolder } from '../support/tools.ts';
import { takeover } from '../takeover/takeover.ts';
import { openTakeoverInstance } from '../takeover/takeover-instance.ts';
import { summaryOf } from '../takeover/verdict.ts';
import { instance } from './support/instance.ts';

/** Ends of the agent. */
const kills = Number(process.env.ESB_TAKEOVER_KILLS ?? 20);

const esb = instance();

it('workers of four languages answer every call once, however often their agent is killed', {
  tags: ['P17'],
  timeout: 180_000 + kills * 15_000,
}, async () => {
  await using lab = await openTakeoverInstance(esb.home);
  const verdict = await takeover(lab, {
    kills,
    workers: 5,
    seed: 1,
    longSeconds: 8,
    tools: toolsFolder(),
    write: (text) => process.stdout.write(text),
  });
  process.stdout.write(`${summaryOf(kills, verdict)}\n`);
  expect(verdict.wrong).toEqual([]);
  expect(verdict).toMatchObject({ restartedRuntimes: 0, runTwice: 0, untrue: 0 });
  expect(verdict.calls).toBeGreaterThan(kills);
});
