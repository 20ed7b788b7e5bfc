import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import type { NodeNetworkOptions } from '../../../src/cni/node-network.ts';
import { chainedPlugins } from '../../support/chained-plugins.ts';
import { run } from '../../support/command.ts';
import { namespaces, ports, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

interface SpiedRequest {
  readonly command: string;
  readonly plugin: string;
  readonly request: {
    readonly type: string;
    readonly name: string;
    readonly cniVersion: string;
    readonly capabilities?: object;
    readonly prevResult?: { readonly ips?: readonly { readonly address: string }[] };
  };
}

const bandwidth = { type: 'bandwidth', ingressRate: 8_000_000, ingressBurst: 800_000 };
const tuning = { type: 'tuning', sysctl: { 'net.core.somaxconn': '511' }, mtu: 1400 };
const portmap = { type: 'portmap', snat: true, capabilities: { portMappings: true } };

/** A node whose configuration list has more plugins behind the bridge. */
async function chained(
  lab: NetworkLab,
  plugins: readonly object[],
): Promise<{
  readonly network: NodeNetwork;
  readonly options: Partial<NodeNetworkOptions>;
  readonly folder: string;
  readonly requests: () => Promise<readonly SpiedRequest[]>;
}> {
  const folder = await chainedPlugins(join(lab.stateDir, 'plugins'));
  const shipped = JSON.parse(await readFile(lab.networkOptions.configFile, 'utf8')) as { plugins: object[] };
  const configFile = join(lab.stateDir, 'chained.conflist');
  await writeFile(configFile, JSON.stringify({ ...shipped, plugins: [...shipped.plugins, ...plugins] }));
  const options = { slots: 1, configFile, pluginFolder: folder };
  return {
    network: lab.network(options),
    options,
    folder,
    requests: async () =>
      (await readFile(join(folder, 'requests'), 'utf8'))
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as SpiedRequest),
  };
}

describe('plugins behind the bridge', () => {
  it('do their work on every attachment, and leave nothing', async () => {
    const lab = await createNetworkLab();
    const { network } = await chained(lab, [bandwidth, portmap, tuning]);
    await network.start();
    const { ip, netnsPath } = await network.attach('one');
    const inside = async (...command: string[]): Promise<string> =>
      (await run('nsenter', [`--net=${netnsPath}`, ...command])).stdout;
    expect(await inside('cat', '/proc/sys/net/core/somaxconn')).toBe('511\n');
    expect(await inside('ip', 'link', 'show', 'eth0')).toContain('mtu 1400');
    const limits = await lab.onNode('tc', ['qdisc', 'show']);
    expect(limits.stdout).toMatch(/qdisc tbf .* rate 8Mbit/);
    await lab.listen(netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, ip, 8080)).toMatchObject({ connected: true });

    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
    await network.stop();
    // Plugin bandwidth removes its own things in the node's network, which takes the DEL of each.
    expect(await lab.remove()).toEqual([]);
    expect(await namespaces(lab)).toEqual([]);
    expect((await lab.onNode('ip', ['-br', 'link'])).stdout).not.toMatch(/veth|esb|bwp/);
    expect((await lab.onNode('tc', ['qdisc', 'show'])).stdout).not.toContain('tbf');
  });

  it('are asked in order with the result of the one before, and for the removal in reverse', async () => {
    const lab = await createNetworkLab();
    const { network, options, requests } = await chained(lab, [{ type: 'spy-1' }, portmap, { type: 'spy-2' }]);
    await network.start();
    const { ip } = await network.attach('one');
    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
    const added = (await requests()).filter(({ command }) => command === 'ADD');
    expect(added.slice(0, 2).map(({ plugin }) => plugin)).toEqual(['spy-1', 'spy-2']);
    for (const { request } of added.slice(0, 2)) {
      expect(request).toMatchObject({ name: 'esb', cniVersion: '1.1.0' });
      expect(request.prevResult?.ips?.[0]?.address).toMatch(/^10\.234\.0\.\d+\/21$/);
    }
    await network.detach('one');
    const removed = (await requests()).filter(({ command }) => command === 'DEL');
    expect(removed.map(({ plugin }) => plugin)).toEqual(['spy-2', 'spy-1']);
    for (const { request } of removed) {
      expect(request.prevResult?.ips?.[0]?.address).toBe(`${ip}/21`);
    }
    expect((await requests()).map(({ request }) => request.capabilities)).not.toContainEqual(expect.anything());
    await network.stop();

    // The next run checks the slot that it takes over, with every plugin in order.
    const later = lab.network(options);
    await later.start();
    const checked = (await requests()).filter(({ command }) => command === 'CHECK');
    expect(checked.map(({ plugin }) => plugin)).toEqual(['spy-1', 'spy-2']);
    expect(checked[0]?.request.prevResult?.ips).toHaveLength(1);
    const asked = (await requests()).map(({ command }) => command);
    expect(asked).toContain('STATUS');
    await later.repair(new Set());
    expect((await requests()).map(({ command }) => command)).toContain('GC');
  });

  it('that fail have those before them undone', async () => {
    const lab = await createNetworkLab();
    const { network, folder, requests } = await chained(lab, [{ type: 'spy-1' }, { type: 'last' }]);
    const last = join(folder, 'last');
    await writeFile(
      last,
      `#!/bin/sh
case $CNI_COMMAND in
  VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}';;
  ADD) echo '{"code":100,"msg":"not today"}'; exit 1;;
esac
`,
    );
    await chmod(last, 0o755);
    await network.start();
    await expect(network.attach('one')).rejects.toMatchObject({
      code: 'NetworkFailed',
      message: expect.stringContaining('CNI plugin last'),
    });
    await network.stop();
    await lab.remove();
    expect(await reservations(lab)).toEqual([]);
    expect(await ports(lab)).toEqual([]);
    expect(await namespaces(lab)).toEqual([]);
    const seen = (await requests()).map(({ command }) => command);
    expect(seen.filter((command) => command === 'DEL').length).toBeGreaterThanOrEqual(
      seen.filter((command) => command === 'ADD').length,
    );
  });
});
