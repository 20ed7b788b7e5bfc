import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/logger.ts';
import type { WorkerInits } from '../../src/init/contract.ts';
import { createWorkerInits } from '../../src/init/worker-inits.ts';
import { initProgram } from './init-lab.ts';

/** The inits of a lab's node, as one run of the agent has them. */
export async function nodeInits(folder: string): Promise<WorkerInits> {
  return createWorkerInits({
    runDir: join(folder, 'run'),
    stateDir: join(folder, 'agent'),
    program: await initProgram(),
    clock: systemClock,
    logger: silentLogger(),
  });
}

/** Calls a worker by its init, as the agent does. Rejects for a call that is not answered. */
export async function callByInit(
  inits: WorkerInits,
  containerId: string,
  payload: unknown,
  timeoutMs = 10_000,
): Promise<string> {
  const link = inits.link(containerId);
  if (link === undefined) {
    throw new Error(`no init is known of ${containerId}`);
  }
  const answer: Buffer[] = [];
  const end = await link.call({
    requestId: randomUUID(),
    payload: Buffer.from(JSON.stringify(payload)),
    timeoutMs,
    boundMs: timeoutMs + 5_000,
    functionArn: 'arn:aws:lambda:us-east-1:012345678912:function:tried',
    version: '$LATEST',
    clientContext: '',
    traceId: '',
    onSending: () => undefined,
    onHead: () => undefined,
    onChunk: (chunk) => answer.push(chunk),
  });
  if (end.kind !== 'Ended' || end.end.outcome !== 'Answered') {
    throw new Error(`the call was not answered: ${JSON.stringify(end)}`);
  }
  return Buffer.concat(answer).toString();
}
