/**
 * A process that competes for a Lease and, while it leads, writes as fast as it can. Arguments: kubeconfig, identity.
 * Prints `leading` and `following` as its terms begin and end.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { silentLogger } from '../../../../src/common/logger.ts';
import { configMaps } from '../../../../src/kube/api/resource-types.ts';
import { createKubeClient } from '../../../../src/kube/client/client.ts';
import { fencedClient } from '../../../../src/kube/client/fenced-client.ts';
import { createKubeConnectionSource } from '../../../../src/kube/client/kube-config.ts';
import { LeaderElector } from '../../../../src/kube/controller/leader-elector.ts';

const [, , kubeconfig, identity = ''] = process.argv;
const client = createKubeClient({
  source: createKubeConnectionSource({ kubeconfig }),
  userAgent: `writer-${identity}`,
});
const elector = new LeaderElector({
  client,
  lease: { namespace: 'kube-system', name: 'writers' },
  identity,
  logger: silentLogger(),
  leaseDurationMs: 4000,
  renewDeadlineMs: 3000,
  retryMs: 300,
  onChange: (leading) => process.stdout.write(leading ? 'leading\n' : 'following\n'),
});
const fenced = fencedClient(client, () => elector.isLeader());
const life = new AbortController();
process.on('SIGTERM', () => life.abort());
// No timer of ours keeps a process alive.
const alive = setInterval(() => undefined, 1000);

await elector.run(life.signal, async (signal) => {
  for (let number = 0; !signal.aborted; number++) {
    await fenced
      .patch(
        configMaps,
        { namespace: 'default', name: 'written' },
        { kind: 'merge', body: { data: { by: identity, number: String(number) } } },
        { deadlineMs: 2000 },
      )
      // Without a pause a loop that is refused by its fence would never let a timer run.
      .catch(() => delay(5));
  }
});
clearInterval(alive);
await client.close();
