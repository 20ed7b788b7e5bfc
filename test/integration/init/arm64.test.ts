import { expect, it, onTestFinished } from 'vitest';
import { builtProgram, initSource } from '../../../local/tools/built-program.ts';
import { ensureNeeds } from '../../../local/tools/debian-packages.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { run } from '../../support/command.ts';
import { startBareInit } from '../../support/init-bare.ts';

/** A compiler for another processor, and an emulator of that. */
const needs = [
  { program: 'aarch64-linux-gnu-gcc', debianPackage: 'gcc-aarch64-linux-gnu', purpose: 'building the init for arm64' },
  {
    file: '/usr/aarch64-linux-gnu/lib/libc.a',
    debianPackage: 'libc6-dev-arm64-cross',
    purpose: 'building the init for arm64',
  },
  { program: 'qemu-aarch64', debianPackage: 'qemu-user', purpose: 'running the init for arm64' },
];

it('the init for arm64 is built on another machine, and serves a call', async () => {
  await ensureNeeds(needs, createProgress({ write: () => undefined }), new AbortController().signal);
  const program = await builtProgram('init-arm64', initSource, (path) =>
    run('make', [`PROGRAM=${path}`, 'CC=aarch64-linux-gnu-gcc'], { cwd: initSource }),
  );
  const init = await startBareInit({ program: ['qemu-aarch64', program] });
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
