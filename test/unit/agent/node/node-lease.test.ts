import { beforeEach, expect, it } from 'vitest';
import { keepNodeLease } from '../../../../src/agent/node/node-lease.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ApiError } from '../../../../src/kube/api/api-error.ts';
import { type Lease, leases } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { type FakeApiServer, startFakeApiServer } from '../../../support/fake-api-server.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

let server: FakeApiServer;
let client: KubeClient;

beforeEach(async () => {
  server = await startFakeApiServer();
  client = createKubeClient({ source: server.source });
  return async () => {
    await client.close();
    await server.stop();
  };
});

const soon = { everyMs: 2 };
const lease = (): Lease | undefined => server.all(leases).find(({ metadata }) => metadata.name === 'node-1');
const owners = (): readonly (string | undefined)[] => (lease()?.metadata.ownerReferences ?? []).map(({ uid }) => uid);

/** Keeps the Lease until `work` is done; `beat` waits for one more renewal. */
async function kept(
  given: { readonly ownerUid: () => string | undefined; readonly patch?: KubeClient['patch'] },
  work: (beat: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const clock = manualClock();
  const end = new AbortController();
  let renewals = 0;
  const running = keepNodeLease(
    {
      client: {
        create: (...rest) => client.create(...rest),
        patch: given.patch ?? ((...rest) => client.patch(...rest)),
      },
      nodeName: 'node-1',
      namespace: 'esb-system',
      ownerUid: given.ownerUid,
      clock,
      logger: silentLogger(),
      onRenewal: (ok) => {
        renewals += ok ? 1 : 0;
      },
    },
    end.signal,
  );
  await waitFor('the first renewal', () => renewals > 0, soon);
  await work(async () => {
    const before = renewals;
    await waitFor(
      'one more renewal',
      async () => {
        await clock.advance(2_000);
        return renewals > before;
      },
      soon,
    );
  });
  end.abort();
  await expect(running).rejects.toMatchObject({ code: 'Aborted' });
}

it('the LambdaNode owns the Lease once it is known, and the next one of the name after it', async () => {
  let uid: string | undefined;
  await kept({ ownerUid: () => uid }, async (beat) => {
    expect(owners()).toEqual([]);
    uid = 'first';
    await beat();
    await waitFor('the owner', () => owners().join() === 'first', soon);
    expect(lease()?.metadata.ownerReferences?.[0]).toEqual({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaNode',
      name: 'node-1',
      uid: 'first',
    });
    uid = 'second';
    await beat();
    await waitFor('the next owner', () => owners().join() === 'second', soon);
  });
});

it('a cluster that refuses the owner takes the renewals all the same, and is asked once', async () => {
  let asked = 0;
  const patch: KubeClient['patch'] = async (type, key, body, options) => {
    if (JSON.stringify(body).includes('ownerReferences')) {
      asked += 1;
      throw new ApiError('cannot set an ownerRef on a resource you cannot delete', { code: 'Forbidden', status: 403 });
    }
    return await client.patch(type, key, body, options);
  };
  await kept({ ownerUid: () => 'one', patch }, async (beat) => {
    await beat();
    await beat();
    expect(asked).toBe(1);
    expect(owners()).toEqual([]);
  });
});
