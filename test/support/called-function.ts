import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { findCondition } from '../../src/api/condition.ts';
import { type LambdaWorker, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import { CLIENT_CA_NAME, CLIENT_CA_PUBLIC_KEY } from '../../src/api/name.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { runGateway } from '../../src/gateway/main.ts';
import { configMaps } from '../../src/kube/api/resource-types.ts';
import { ListWatchInformer } from '../../src/kube/cache/informer.ts';
import { gatewayFlags } from '../../src/options/gateway.ts';
import { startFakeAgent } from './fake-agent.ts';
import { freePort } from './free-port.ts';
import type { FunctionServer } from './function-server.ts';
import { optionsOf } from './options.ts';
import { running } from './running.ts';
import { waitFor } from './wait-for.ts';

/** Milliseconds that a call takes. */
const CALL_MS = 20;

/** A function that so many callers call all the time, by a real gateway. */
export interface CalledFunction {
  /** Waits until each caller has had answers to calls that it began from now on. */
  more(): Promise<void>;
  /** Number of the calls that were answered, by the image that has run. */
  readonly answered: Readonly<Record<string, number>>;
  /** Status and text of each other answer. */
  readonly failed: readonly string[];
  /** Ends the callers once their last calls are answered, and everything else. May be asked again. */
  stop(): Promise<void>;
}

/**
 * Calls a function of a server whose controller runs. The agent of its node runs the image of each worker whose status
 * says that it is ready, and goes on to run that one while the worker is being changed.
 */
export async function startCalledFunction(
  { admin, node, server }: FunctionServer,
  name: string,
  callers: number,
): Promise<CalledFunction> {
  const trust = await waitFor('the authority of the gateways', async () => {
    const map = await admin.get(configMaps, { namespace: 'esb-system', name: CLIENT_CA_NAME });
    return map?.data?.[CLIENT_CA_PUBLIC_KEY];
  });
  const agent = await startFakeAgent({ nodeName: node.name, clientAuthority: trust });
  const { certificate, endpoint } = agent.node.status ?? {};
  await node.tell({ certificate: certificate ?? '', endpoint: endpoint ?? '' });
  /** The image that runs, by uid of the worker. */
  const images = new Map<string, string>();
  agent.onInvoke((call) => {
    const image = images.get(call.request.worker.uid);
    if (image === undefined) {
      call.refuse('StartFailed', 'there is no container');
    } else {
      void delay(CALL_MS).then(() => call.answer(JSON.stringify(image)));
    }
  });
  const logger = silentLogger();
  const workers = new ListWatchInformer<LambdaWorker>(admin, lambdaWorkers, { namespace: 'default' }, { logger });
  workers.subscribe(({ kind, object: { metadata, spec, status } }) => {
    const { generation, uid = '' } = metadata;
    if (kind === 'deleted') {
      images.delete(uid);
      agent.remove(metadata.name);
      return;
    }
    const isReady = findCondition(status?.conditions, 'Ready')?.status === 'True';
    if (isReady && status?.observedGeneration === generation) {
      images.set(uid, spec.image);
    }
    if (status?.assignment !== undefined) {
      agent.put({
        name: metadata.name,
        worker: { namespace: 'default', name: metadata.name, uid },
        functionName: spec.functionName ?? metadata.name,
        epoch: status.assignment.epoch,
        phase: images.has(uid) ? 'PHASE_RUNNING' : 'PHASE_CREATING',
        callable: images.has(uid),
      });
    }
  });
  workers.start();
  const stateDir = await mkdtemp(join(tmpdir(), 'esb-called-'));
  const port = await freePort();
  const flags = [
    ...['--kubeconfig', await server.kubeconfig('esb:gateway'), '--namespace', 'default', '--state-dir', stateDir],
    ...['--listen', `127.0.0.1:${port}`, '--health', '127.0.0.1:0', '--authentication=off'],
  ];
  const gateway = running((signal) => runGateway(optionsOf(gatewayFlags, flags), { signal, logger }));
  const url = `http://127.0.0.1:${port}/2015-03-31/functions/${name}/invocations`;
  const call = async (): Promise<{ readonly image: string | undefined; readonly told: string }> => {
    const answer = await fetch(url, { method: 'POST', body: '{}' });
    const text = await answer.text();
    return { image: answer.ok ? (JSON.parse(text) as string) : undefined, told: `${answer.status} ${text}` };
  };
  const answered: Record<string, number> = {};
  const failed: string[] = [];
  const counts = Array.from({ length: callers }, () => 0);
  let isOver = false;
  const callTillOver = async (caller: number): Promise<void> => {
    while (!isOver) {
      const { image, told } = await call().catch((error: unknown) => ({ image: undefined, told: String(error) }));
      if (image === undefined) {
        failed.push(told);
      } else {
        answered[image] = (answered[image] ?? 0) + 1;
      }
      counts[caller] = (counts[caller] ?? 0) + 1;
    }
  };
  await waitFor('the gateway to call the function', async () => (await call()).image !== undefined);
  const ended = counts.map((_none, caller) => callTillOver(caller));
  const stop = async (): Promise<void> => {
    isOver = true;
    await Promise.all(ended);
    await gateway.stop();
    await workers.stop();
    await agent.stop();
    await rm(stateDir, { recursive: true, force: true });
  };
  let stopped: Promise<void> | undefined;
  return {
    answered,
    failed,
    async more() {
      const before = [...counts];
      await waitFor('answers to each caller', () =>
        counts.every((count, caller) => count >= (before[caller] ?? 0) + 2),
      );
    },
    stop: () => (stopped ??= stop()),
  };
}
