import type { ClusterLab } from './cluster-lab.ts';
import { systemNamespace } from './esb-cluster.ts';

/** But for those that every node of this lab gives. */
const warnings = 'type=Warning,reason!=MissingClusterDNS,reason!=CgroupV1';
const KEPT_CHARACTERS = 12_000;

/** Report of the cluster about itself, for a check that failed. */
export async function diagnosis({ kubectlAs, controlPlane }: ClusterLab): Promise<string> {
  const ask = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await kubectlAs(controlPlane.adminKubeconfig, args);
    return `$ kubectl ${args.join(' ')}\n${stdout}${stderr}`;
  };
  const texts = [
    await ask('get', 'nodes,pods', '-A', '-o', 'wide'),
    await ask('get', 'lambdanodes,lambdaworkers', '-A', '-o', 'wide'),
    await ask('get', 'events', '-A', `--field-selector=${warnings}`, '--sort-by=.lastTimestamp'),
  ];
  for (const component of ['controller', 'gateway', 'events', 'agent', 'retire', 'hold']) {
    const label = `app.kubernetes.io/component=${component}`;
    texts.push(await ask('logs', '-n', systemNamespace, '-l', label, '--tail=15', '--prefix'));
  }
  return texts.map((text) => text.slice(-KEPT_CHARACTERS)).join('\n');
}
