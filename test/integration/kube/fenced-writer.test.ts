import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { configMaps } from '../../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { type ApiServer, startApiServer } from '../../support/api-server.ts';
import { type OwnedProcess, startOwnedProcess } from '../../support/owned-process.ts';
import { waitFor } from '../../support/wait-for.ts';

const program = fileURLToPath(new URL('support/leading-writer.ts', import.meta.url));

let server: ApiServer;

beforeAll(async () => {
  server = await startApiServer({ audit: true });
  const client = createKubeClient({
    source: createKubeConnectionSource({ kubeconfig: server.adminKubeconfig }),
  });
  await client.create(configMaps, { metadata: { namespace: 'default', name: 'written' } });
  await client.close();
});

afterAll(async () => {
  await server?.stop();
});

interface Writer {
  readonly agent: string;
  readonly process: OwnedProcess;
}

async function startWriter(identity: string): Promise<Writer> {
  const started = await startOwnedProcess({
    program: process.execPath,
    args: [program, server.adminKubeconfig, identity],
    logFile: join(server.folder, `writer-${identity}.log`),
  });
  onTestFinished(() => started.kill());
  return { agent: `writer-${identity}`, process: started };
}

/** The last thing that a writer said of itself. */
function said(writer: Writer): string | undefined {
  expect(writer.process.ended()).toBe(false);
  return writer.process.output().trim().split('\n').at(-1);
}

function writes(agent: string): readonly string[] {
  return server
    .auditEvents()
    .filter(
      ({ userAgent, verb, objectRef }) =>
        userAgent === agent && verb === 'patch' && objectRef?.resource === 'configmaps',
    )
    .map(({ requestReceivedTimestamp }) => requestReceivedTimestamp);
}

test('a leader that was stopped and goes on writes nothing more once another has begun', async () => {
  let [leader, other] = await Promise.all([startWriter('one'), startWriter('two')]);
  await waitFor('a leader', () => [leader, other].some((one) => said(one) === 'leading'));
  if (said(other) === 'leading') {
    [leader, other] = [other, leader];
  }
  const lateOnes: number[] = [];
  for (let round = 1; round <= 3; round++) {
    await waitFor('writes', () => writes(leader.agent).length > 0);
    leader.process.signal('SIGSTOP');
    const stoppedWith = writes(leader.agent).length;
    const otherBefore = writes(other.agent).length;
    await waitFor('the successor', () => writes(other.agent).length > otherBefore);
    leader.process.signal('SIGCONT');
    const now = writes(other.agent).length;
    await waitFor('the old leader to see it', () => said(leader) === 'following');
    await waitFor('more writes of the successor', () => writes(other.agent).length > now + 20);
    // One may have been on its way when the process was stopped; now and then that one had passed the fence and not
    // reached the wire, and goes out when the process continues. The API server refuses it where it names a
    // resourceVersion.
    const late = writes(leader.agent).slice(stoppedWith);
    const began = writes(other.agent)[otherBefore] ?? '';
    lateOnes.push(late.filter((time) => time >= began).length);
    [leader, other] = [other, leader];
  }
  // Without a fence each round has one or more.
  expect(Math.max(...lateOnes), lateOnes.join()).toBeLessThanOrEqual(1);
  expect(lateOnes, lateOnes.join()).toContain(0);
});
