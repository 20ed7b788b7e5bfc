import { run } from '../../support/command.ts';
import { documentationRoot, textOf } from '../../support/documentation.ts';
import { shellBlocksOf } from '../../support/markdown-file.ts';
import { clusterToolsFolder, toolsFolder } from '../../support/tools.ts';
import { registryAddress } from '../cluster-network.ts';
import { type EsbCluster, systemNamespace } from '../esb-cluster.ts';
import type { Report } from '../report.ts';

/** A page of docs/how-to, and what doing what it says has to show. */
interface HowTo {
  readonly page: string;
  readonly shows: readonly (string | RegExp)[];
}

const howTos: readonly HowTo[] = [
  {
    page: 'install',
    shows: [
      /node-a +True[\s\S]*node-b +True/,
      '✓ mount propagation of /run/netns',
      /"message": "hello from hello", "counter": 1.*"echo": 1/,
      /Phase: +Succeeded/,
      `image: ${registryAddress}/esb:`,
    ],
  },
  { page: 'placement', shows: [/assigned to node node-[ab]/, /esb-hold-node-[ab] +1\/1 +Running/] },
  { page: 'metrics', shows: [/^esb_\w+/m] },
  { page: 'private-registry', shows: ['lambdaworker.esb.dev/private condition met'] },
  { page: 'gateways', shows: ['deployment "esb-gateway-shop" successfully rolled out'] },
  { page: 'upgrade', shows: ['successfully rolled out', 'Rollback was a success'] },
  {
    page: 'drain',
    shows: [
      /pod\/esb-hold-node-[ab] evicted/,
      /node\/node-[ab] drained/,
      /lambdanode.esb.dev\/node-[ab] condition met/,
    ],
  },
  { page: 'remove', shows: ['release "esb" uninstalled', `namespace "${systemNamespace}" deleted`] },
];

/** Where the lab is not the reader's cluster: its registry speaks plain HTTP, and it provisions no volumes. */
function inLab(block: string): string {
  return block
    .replace('REGISTRY=registry.example', `REGISTRY=${registryAddress}`)
    .replace('npm run image -- --push', 'node hack/build-image.ts --insecure --push')
    .replace(
      'image.repository=$REGISTRY/esb',
      'image.repository=$REGISTRY/esb,gateway.events.persistence.enabled=false,agent.memoryMiB=2048',
    );
}

/** Does what the pages for operators say, from an empty cluster to an empty cluster. */
export async function howTosScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  await lab.helm(['uninstall', 'esb', '-n', systemNamespace, '--ignore-not-found', '--wait']);
  await lab.kubectl(['delete', 'lambdaworkers', '--all', '--all-namespaces', '--ignore-not-found']);
  await lab.kubectl(['delete', 'namespace', systemNamespace, '--ignore-not-found']);
  await lab.kubectl(['delete', 'serviceaccount', 'caller', '--ignore-not-found']);
  for (const { page, shows } of howTos) {
    const done = await report.check(`docs/how-to/${page}.md`, async () => {
      const blocks = shellBlocksOf(textOf(`docs/how-to/${page}.md`)).map(inLab);
      const script = ['exec 2>&1', `export REGISTRY=${registryAddress}`, ...blocks].join('\n');
      const { stdout } = await run('bash', ['-e', '-c', script], {
        cwd: documentationRoot,
        timeoutMs: 15 * 60_000,
        env: {
          KUBECONFIG: lab.controlPlane.adminKubeconfig,
          PATH: `${toolsFolder()}:${clusterToolsFolder()}:${process.env.PATH ?? ''}`,
          TMPDIR: lab.folder,
          HELM_CACHE_HOME: `${lab.folder}/helm/cache`,
          HELM_CONFIG_HOME: `${lab.folder}/helm/config`,
          HELM_DATA_HOME: `${lab.folder}/helm/data`,
        },
      });
      const missing = shows.filter((text) => (typeof text === 'string' ? !stdout.includes(text) : !text.test(stdout)));
      if (blocks.length === 0 || missing.length > 0) {
        throw new Error(`it does not show ${missing.join(', ')}\n${stdout}`);
      }
      return `${blocks.length} blocks`;
    });
    if (!done && page === 'install') {
      return;
    }
  }
}
