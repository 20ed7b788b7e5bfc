import { join } from 'node:path';
import { bridgeNetwork, parseNetworkConfig } from '../../cni/spec/network-config.ts';
import { errnoOf, messageOf } from '../../common/errors.ts';
import type { ContainerdClient } from '../../containerd/containerd-client.ts';
import { versionFault } from '../../runtime/containerd/version.ts';
import { type Finding, problem, warning, well } from './finding.ts';
import { compareVersions, type NodeProbe } from './node-probe.ts';

/** Sockets of the containerds of distributions, for the advice. */
const OTHER_SOCKETS = [
  '/run/containerd/containerd.sock',
  '/run/k3s/containerd/containerd.sock',
  '/run/k0s/containerd.sock',
  '/var/snap/microk8s/common/run/containerd.sock',
  '/run/dockershim/containerd.sock',
  '/run/docker/containerd/containerd.sock',
] as const;
const CALL_DEADLINE_MS = 5_000;
/** Path of the rights of a Pod: only Pods have it. */
const POD_ACCOUNT_FOLDER = '/var/run/secrets/kubernetes.io/serviceaccount';
/** First runc without the escape by a leaked descriptor (CVE-2024-21626). */
const OLDEST_RUNC = '1.1.12';

/** Whether containerd answers, is new enough, and has the features that workers need. */
export async function checkContainerd(
  probe: NodeProbe,
  socketPath: string,
  connect: () => ContainerdClient,
): Promise<Finding[]> {
  if (!(await probe.exists(socketPath))) {
    const found = await Promise.all(OTHER_SOCKETS.map((path) => probe.exists(path)));
    const others = OTHER_SOCKETS.filter((path, index) => path !== socketPath && found[index]);
    const mend =
      others.length > 0
        ? `give the agent --containerd-socket ${others.join(' or ')}`
        : 'install containerd 2.0 or newer and start it: systemctl enable --now containerd';
    return [problem('containerd', `there is no ${socketPath}`, mend)];
  }
  const client = connect();
  try {
    const call = { deadlineMs: CALL_DEADLINE_MS };
    const { version } = await client.version.get(call);
    const fault = versionFault(version);
    if (fault !== undefined) {
      return [problem('containerd', fault, 'upgrade containerd')];
    }
    const findings = [well('containerd', `${version} at ${socketPath}`)];
    const plugins = await client.introspection.plugins([], call);
    for (const [type, id, mend] of [
      ['io.containerd.snapshotter.v1', 'overlayfs', 'its folder must be on ext4, or xfs with ftype=1'],
      ['io.containerd.runtime.v2', 'task', 'take it out of disabled_plugins in its configuration'],
      ['io.containerd.transfer.v1', 'local', 'take it out of disabled_plugins in its configuration'],
    ] as const) {
      const found = plugins.find((plugin) => plugin.type === type && plugin.id === id);
      findings.push(
        found !== undefined && found.error === undefined
          ? well(`containerd plugin ${id}`, type)
          : problem(`containerd plugin ${id}`, found?.error ?? `${type} is not loaded`, mend),
      );
    }
    return findings;
  } catch (error) {
    const why = messageOf(error);
    const mend =
      errnoOf(error) === 'EACCES' || /EACCES|permission denied/i.test(why)
        ? 'run this as root'
        : 'see what it says: journalctl -u containerd; restart it: systemctl restart containerd';
    return [problem('containerd', `${socketPath} does not answer: ${why}`, mend)];
  } finally {
    client.close();
  }
}

/** Programs that containerd runs, and looks for on its own PATH, most likely that of other services. */
export async function checkRunc(probe: NodeProbe): Promise<Finding[]> {
  const shim = await probe.find('containerd-shim-runc-v2');
  const mend = 'it comes with containerd; fine when it lies beside containerd itself, as k3s has it';
  return [
    await runcItself(probe),
    shim === undefined ? warning('shim', 'containerd-shim-runc-v2 is not on PATH', mend) : well('shim', shim),
  ];
}

async function runcItself(probe: NodeProbe): Promise<Finding> {
  const runc = await probe.find('runc');
  if (runc === undefined) {
    const mend = `on the node itself, runc --version has to tell ${OLDEST_RUNC} or newer, with libseccomp`;
    return (await probe.exists(POD_ACCOUNT_FOLDER))
      ? warning('runc', "not to be seen from this Pod; it is on containerd's own PATH", mend)
      : problem('runc', 'not found', `install runc ${OLDEST_RUNC} or newer on containerd's PATH`);
  }
  const text = (await probe.run(runc, ['--version']))?.stdout ?? '';
  const version = /runc version (\S+)/.exec(text)?.[1] ?? 'of an unknown version';
  if (compareVersions(version, OLDEST_RUNC) < 0) {
    return warning('runc', `${version} lets containers out (CVE-2024-21626)`, `upgrade to ${OLDEST_RUNC} or newer`);
  }
  if (!/^libseccomp:/m.test(text)) {
    const message = `${version} at ${runc} was built without seccomp: workers are not started without their filter`;
    return problem('runc', message, "install a distribution's or the project's own build");
  }
  return well('runc', `${version} at ${runc}`);
}

/** Whether the first process of workers with interface `Lambda` is there, and is a program for this node's processor. */
export async function checkInit(probe: NodeProbe, path: string): Promise<Finding[]> {
  const what = 'init of workers';
  const mend =
    'give the agent --init-program: the image has /usr/lib/esb/init, and `make -C init` makes one for the processor at hand';
  if (!(await probe.exists(path))) {
    return [problem(what, `there is no ${path}: no worker with runtimeInterface Lambda starts`, mend)];
  }
  try {
    // Without arguments it says how it is used.
    const said = (await probe.run(path, []))?.stderr ?? '';
    return said.startsWith('init: ') ? [well(what, path)] : [problem(what, `${path} is another program`, mend)];
  } catch (error) {
    return [problem(what, `${path} does not run here: ${messageOf(error)}`, mend)];
  }
}

/** Whether every plugin of the configuration exists and speaks its version of CNI. */
export async function checkPlugins(
  probe: NodeProbe,
  options: { readonly pluginFolder: string; readonly configFile: string },
): Promise<Finding[]> {
  const { pluginFolder, configFile } = options;
  const text = await probe.read(configFile);
  if (text === undefined) {
    return [
      problem('network configuration', `cannot read ${configFile}`, 'give the agent --cni-config, or leave it out'),
    ];
  }
  let network: ReturnType<typeof bridgeNetwork>;
  try {
    network = bridgeNetwork(parseNetworkConfig(text, configFile), configFile);
  } catch (error) {
    return [problem('network configuration', messageOf(error), `correct ${configFile}`)];
  }
  const findings = [well('network configuration', `${configFile}, CNI ${network.config.cniVersion}`)];
  for (const program of network.programs) {
    findings.push(await checkPlugin(probe, join(pluginFolder, program), network.config.cniVersion));
  }
  return findings;
}

async function checkPlugin(probe: NodeProbe, path: string, cniVersion: string): Promise<Finding> {
  const what = `CNI plugin ${path.split('/').at(-1) ?? path}`;
  const mend =
    'install the plugins 1.6 or newer (https://github.com/containernetworking/plugins/releases), or give the agent --cni-bin-dir';
  if (!(await probe.exists(path))) {
    return problem(what, `there is no ${path}`, mend);
  }
  try {
    const answer = await probe.run(path, [], {
      env: { CNI_COMMAND: 'VERSION' },
      input: JSON.stringify({ cniVersion }),
    });
    const { supportedVersions } = JSON.parse(answer?.stdout ?? '') as {
      readonly supportedVersions?: readonly string[];
    };
    if (supportedVersions?.includes(cniVersion) !== true) {
      return problem(what, `speaks CNI ${supportedVersions?.join(', ') ?? 'of no version'}, not ${cniVersion}`, mend);
    }
    // Without a command, a plugin prints its version and fails.
    const own = await probe.run(path, ['--version'], { env: {} });
    const version = /\bv?(\d+\.\d+\.\d+)/.exec(`${own?.stderr ?? ''} ${own?.stdout ?? ''}`)?.[1];
    return well(what, version ?? 'there');
  } catch (error) {
    return problem(what, `${path} does not answer: ${messageOf(error)}`, mend);
  }
}
