import { expect, it, onTestFinished } from 'vitest';
import { startBareInit } from '../../support/init-bare.ts';
import { arm64InitProgram } from '../../support/init-lab.ts';

it('the init for arm64 is built on another machine, and serves a call', async () => {
  const init = await startBareInit({ program: ['qemu-aarch64', await arm64InitProgram()] });
  onTestFinished(async () => expect(await init.close()).toBe(''));
  const peer = await init.connect();
  peer.next();
  await init.agent.idle();
  const id = init.agent.send({ a: 1 });
  const { body, headers } = await peer.answer();
  expect({ body, id: headers['lambda-runtime-aws-request-id'] }).toEqual({ body: '{"a":1}', id });
  peer.respond(id, '"done"');
  const { answer, facts } = await init.agent.ended(id);
  expect({ answer: answer.toString(), outcome: facts.outcome }).toEqual({
    answer: '"done"',
    outcome: { kind: 'Answered' },
  });
}, 300_000);
