// Installs ESB into a real cluster on this machine (kube-apiserver, controller-manager, scheduler, and two nodes with
// kubelet, kube-proxy and containerd) and does to it what operators do: install, upgrade, drain, uninstall.
//   npm run test:cluster [-- --only NAME[,NAME...]] [--keep FOLDER] [--values FILE] [--cut-off-minutes MINUTES]
//     [--kubernetes 1.32]
// --keep copies the logs of a run that failed to a folder; --values adds to the values of the chart;
// --cut-off-minutes says how long a node is off the network in the scenario `gateways`, 2 by default;
// --kubernetes 1.32 takes the oldest Kubernetes that the chart is for, whose kubelets resize no Pod.
import { spawn } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { buildImage } from '../../hack/image/build-image.ts';
import { programOptions } from '../../hack/program-options.ts';
import { ensureSampleImage } from '../../local/image/sample-image.ts';
import { ensureNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { clusterFamilies, oldestClusterFamilies, toolFamilies } from '../../local/tools/tool-catalog.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { gatewayDefinitions } from '../support/operator-definitions.ts';
import { startPostgresServer } from '../support/postgres-server.ts';
import { pushImage } from './cluster-images.ts';
import { startClusterLab } from './cluster-lab.ts';
import { labAddress } from './cluster-network.ts';
import { diagnosis } from './diagnosis.ts';
import {
  chartFolder,
  type EsbCluster,
  earlierTag,
  eventSecret,
  imageTags,
  openEsbCluster,
  systemNamespace,
} from './esb-cluster.ts';
import { ensureFirstRelease } from './first-release.ts';
import { createReport, type Report } from './report.ts';
import { definitionsScenario } from './scenarios/definitions.ts';
import { gatewaysScenario } from './scenarios/gateways.ts';
import { helmWaitScenario } from './scenarios/helm-wait.ts';
import { howTosScenario } from './scenarios/how-tos.ts';
import { hpaScenario } from './scenarios/hpa.ts';
import { ingressScenario, routeKinds } from './scenarios/ingress.ts';
import { installScenario, upgradeScenario } from './scenarios/install.ts';
import { manifestsScenario } from './scenarios/manifests.ts';
import { newNodeScenario } from './scenarios/new-node.ts';
import { nodesScenario } from './scenarios/nodes.ts';
import { rebootScenario } from './scenarios/reboot.ts';
import { releaseScenario } from './scenarios/release.ts';
import { reservationScenario } from './scenarios/reservation.ts';
import { rightsScenario } from './scenarios/rights.ts';
import { allTraces, type Traces, uninstallScenario } from './scenarios/uninstall.ts';
import { traefikProgram } from './traefik-program.ts';

/** Layouts of the images, and name and chart of what is upgraded from, told to the process that runs apart. */
const ESB_LAYOUT = 'ESB_CLUSTER_IMAGE';
const SAMPLE_LAYOUT = 'ESB_CLUSTER_SAMPLE';
const EMULATED_LAYOUT = 'ESB_CLUSTER_EMULATED';
const EARLIER_LAYOUT = 'ESB_CLUSTER_EARLIER_IMAGE';
const EARLIER_CHART = 'ESB_CLUSTER_EARLIER_CHART';
const EARLIER_NAME = 'ESB_CLUSTER_EARLIER_NAME';
const scenarioNames = [
  'release',
  'gateways',
  'rights',
  'upgrade',
  'definitions',
  'helm-wait',
  'hpa',
  'ingress',
  'reboot',
  'reservation',
  'new-node',
  'nodes',
  'uninstall',
  'manifests',
  'how-tos',
] as const;

/** Scenarios that have a cluster each. */
const ownCluster: readonly string[] = ['release', 'gateways'];

/** Values of agents in these, one of which fills a node. */
const boundedAgent = { memoryMiB: 2048 };

const write = (text: string): void => void process.stdout.write(text);
const { values } = programOptions(import.meta.filename, {
  args: process.argv.slice(2),
  options: {
    only: { type: 'string' },
    keep: { type: 'string' },
    values: { type: 'string' },
    'cut-off-minutes': { type: 'string', default: '2' },
    kubernetes: { type: 'string' },
  },
});

/** Whether the cluster is of the oldest Kubernetes. */
function isOldest(): boolean {
  const { kubernetes } = values;
  if (kubernetes !== undefined && kubernetes !== '1.32') {
    throw new Error('--kubernetes takes 1.32; without it, the cluster is of the newest that is built');
  }
  return kubernetes !== undefined;
}

/** Milliseconds for which a node is cut off. */
function cutOffMs(): number {
  const given = Number(values['cut-off-minutes']);
  if (!(given >= 1)) {
    throw new Error('--cut-off-minutes takes a number of minutes, 1 or more');
  }
  return given * 60_000;
}

/** Set-up that is impossible inside, where no way leads out. */
async function prepare(wanted: (name: string) => boolean): Promise<Readonly<Record<string, string>>> {
  const progress = createProgress({ write, quietBelowMs: 300 });
  await ensureNeeds(
    [
      ...runningNeeds,
      { program: 'busybox', debianPackage: 'busybox-static', purpose: 'the sandboxes of Pods' },
      { program: 'sysctl', debianPackage: 'procps', purpose: 'the network of the nodes' },
    ],
    progress,
  );
  const tools = await ensureTools({ progress, families: isOldest() ? oldestClusterFamilies : toolFamilies });
  const cluster = isOldest() ? tools : await ensureTools({ progress, families: clusterFamilies });
  const sample = await ensureSampleImage('python-counter', { progress, tools: tools.folder });
  const emulated = await ensureSampleImage('python-emulator', { progress, tools: tools.folder });
  const image = await buildImage({ progress });
  if (wanted('ingress')) {
    await gatewayDefinitions(routeKinds);
    await progress.step('building traefik', () => traefikProgram());
  }
  const own = {
    ESB_TOOLS: tools.folder,
    ESB_CLUSTER_TOOLS: cluster.folder,
    [ESB_LAYOUT]: image.layout,
    [SAMPLE_LAYOUT]: sample.layout,
    [EMULATED_LAYOUT]: emulated.layout,
  };
  if (!wanted('release')) {
    return own;
  }
  const first = await ensureFirstRelease({ progress });
  const { layout, chart } = first ?? { layout: image.layout, chart: chartFolder };
  const name = first === undefined ? `this build as ${earlierTag}, for want of a release,` : '0.1.0';
  return { ...own, [EARLIER_LAYOUT]: layout, [EARLIER_CHART]: chart, [EARLIER_NAME]: name };
}

async function runApart(env: Readonly<Record<string, string>>): Promise<number> {
  const script = fileURLToPath(new URL('../support/apart.sh', import.meta.url));
  const child = spawn(script, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], {
    stdio: 'inherit',
    env: { ...process.env, ...env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` },
  });
  const ended = Promise.withResolvers<number>();
  child.once('error', ended.reject);
  child.once('exit', (code) => ended.resolve(code ?? 1));
  return ended.promise;
}

/** Runs scenarios in a cluster that has the images, and nothing of ESB yet. */
async function inCluster(
  report: Report,
  work: (esb: EsbCluster, before: Traces) => Promise<void>,
  agent: object = {},
): Promise<void> {
  const lab = await startClusterLab();
  const failedBefore = report.failed.length;
  const database = await startPostgresServer({ listen: labAddress }).catch(async (error: unknown) => {
    await lab.stop();
    throw error;
  });
  report.diagnose = () => diagnosis(lab);
  try {
    write(`a cluster of ${lab.nodes.map(({ name }) => name).join(' and ')} is there\n`);
    for (const tag of imageTags) {
      await pushImage(process.env[ESB_LAYOUT] ?? '', `esb:${tag}`);
    }
    await pushImage(process.env[SAMPLE_LAYOUT] ?? '', 'python-counter:latest');
    await pushImage(process.env[EMULATED_LAYOUT] ?? '', 'python-emulator:latest');
    await lab.kubectl(['create', 'namespace', systemNamespace]);
    const url = `postgres://esb@${labAddress}/postgres`;
    const secret = ['create', 'secret', 'generic', eventSecret, '-n', systemNamespace];
    await lab.kubectl([...secret, `--from-literal=url=${url}`]);
    const esb = await openEsbCluster(lab, values.values, agent);
    await work(esb, await allTraces(esb));
  } finally {
    if (values.keep !== undefined && report.failed.length > failedBefore) {
      await cp(lab.folder, values.keep, {
        recursive: true,
        filter: (path) => !/\/(var|etcd|registry)(\/|$)/.test(path),
      });
    }
    await database.stop();
    await lab.stop();
  }
}

/** Scenarios in an order in which each finds what the ones before left. */
async function runScenarios(report: Report, wanted: (name: string) => boolean): Promise<void> {
  if (wanted('release')) {
    await inCluster(
      report,
      async (esb, before) => {
        await pushImage(process.env[EARLIER_LAYOUT] ?? '', `esb:${earlierTag}`);
        const earlier = { name: process.env[EARLIER_NAME] ?? '', chart: process.env[EARLIER_CHART] ?? '' };
        await releaseScenario(esb, report, earlier, before);
      },
      boundedAgent,
    );
  }
  if (wanted('gateways')) {
    await inCluster(report, (esb) => gatewaysScenario(esb, report, cutOffMs()), boundedAgent);
  }
  if (scenarioNames.every((name) => ownCluster.includes(name) || !wanted(name))) {
    return;
  }
  await inCluster(report, async (esb, before) => {
    if (!(await installScenario(esb, report))) {
      return;
    }
    if (wanted('rights')) {
      await rightsScenario(esb, report);
    }
    if (wanted('upgrade')) {
      await upgradeScenario(esb, report);
    }
    if (wanted('definitions')) {
      await definitionsScenario(esb, report);
    }
    if (wanted('helm-wait')) {
      await helmWaitScenario(esb, report);
    }
    if (wanted('hpa')) {
      await hpaScenario(esb, report);
    }
    if (wanted('ingress')) {
      await ingressScenario(esb, report);
    }
    if (wanted('reboot')) {
      await rebootScenario(esb, report);
    }
    if (wanted('reservation')) {
      await reservationScenario(esb, report);
    }
    if (wanted('new-node')) {
      await newNodeScenario(esb, report);
    }
    if (wanted('nodes')) {
      await nodesScenario(esb, report);
    }
    if (wanted('uninstall')) {
      await uninstallScenario(esb, report, before);
    }
    if (wanted('manifests')) {
      await manifestsScenario(esb, report, before);
    }
    if (wanted('how-tos')) {
      await howTosScenario(esb, report);
    }
  });
}

async function main(): Promise<number> {
  const only = values.only?.split(',');
  const unknown = only?.filter((name) => !(scenarioNames as readonly string[]).includes(name)) ?? [];
  if (unknown.length > 0) {
    throw new Error(`there is no scenario ${unknown.join(', ')}; there are ${scenarioNames.join(', ')}`);
  }
  const wanted = (name: string): boolean => only?.includes(name) ?? true;
  cutOffMs();
  isOldest();
  if (process.env[ESB_LAYOUT] === undefined) {
    return runApart(await prepare(wanted));
  }
  const report = createReport(write);
  await runScenarios(report, wanted);
  const { passed, failed } = report;
  write(
    failed.length === 0
      ? `cluster passed: ${passed} checks\n`
      : `cluster FAILED: ${failed.length} of ${passed + failed.length} checks: ${failed.join('; ')}\n`,
  );
  return failed.length === 0 ? 0 : 1;
}

process.exitCode = await main();
