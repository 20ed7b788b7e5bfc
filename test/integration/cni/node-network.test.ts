import { chmod, copyFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { namespacePrefix } from '../../../src/cni/attachments/attachment-store.ts';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import { readRefusals } from '../../../src/cni/host/nftables.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { systemCommandRunner } from '../../../src/common/exec/command-runner.ts';
import { run } from '../../support/command.ts';
import { entries, namespaces, ports, readySlots, reservations } from '../../support/network-footprint.ts';
import { createNetworkLab, type NetworkLab } from '../../support/network-lab.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

/** A folder with the real plugins, where tests may put others in place of them. */
async function ownPlugins(lab: NetworkLab): Promise<string> {
  const folder = join(lab.stateDir, 'plugins');
  await mkdir(folder);
  for (const name of ['bridge', 'host-local', 'loopback']) {
    await copyFile(join(toolsFolder(), name), join(folder, name));
  }
  return folder;
}

async function putScript(folder: string, name: string, text: string): Promise<void> {
  const path = join(folder, name);
  await rm(path, { force: true });
  await writeFile(path, text);
  await chmod(path, 0o755);
}

async function started(lab: NetworkLab, slots = 0): Promise<NodeNetwork> {
  const network = lab.network({ slots });
  await network.start();
  return network;
}

describe('a worker on the network of its node', () => {
  it('reaches the outside as the node, and is reached by the node alone', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab);
    const worker = await network.attach('one');
    expect(worker.ip).toMatch(/^10\.234\.0\.\d+$/);
    await lab.listen(worker.netnsPath, 8080);
    await lab.listen(lab.outsidePath, 443);

    expect(await lab.connect(lab.netnsPath, worker.ip, 8080), 'the agent').toEqual({
      connected: true,
      seenAs: '10.234.0.1',
    });
    expect(await lab.connect(worker.netnsPath, '127.0.0.1', 8080), 'itself').toMatchObject({
      connected: true,
    });
    expect(await lab.connect(worker.netnsPath, lab.outsideAddress, 443), 'the outside').toEqual({
      connected: true,
      seenAs: lab.nodeAddress,
    });
    await run('ip', [
      '-n',
      lab.outsidePath.split('/').at(-1) ?? '',
      'route',
      'add',
      '10.234.0.0/16',
      'via',
      lab.nodeAddress,
    ]);
    expect(await lab.connect(lab.outsidePath, worker.ip, 8080), 'from outside').toMatchObject({
      connected: false,
    });
  });

  it('reaches neither the node, nor the metadata service, nor denied ranges, nor another worker', {
    tags: ['P23'],
  }, async () => {
    const lab = await createNetworkLab();
    const network = lab.network({ slots: 0, deniedRanges: ['203.0.113.0/24'] });
    await network.start();
    const worker = await network.attach('one');
    const other = await network.attach('two');
    expect(other.ip).not.toBe(worker.ip);
    for (const { netnsPath } of [worker, other]) {
      const { stdout } = await run('nsenter', [`--net=${netnsPath}`, 'ip', '-j', 'link', 'show', 'dev', 'lo']);
      expect(stdout, 'the loopback').toContain('"LOWER_UP"');
    }
    await lab.listen(other.netnsPath, 8080);
    await lab.listen(lab.netnsPath, 9000);
    await lab.listen(lab.outsidePath, 80);
    const reach = async (host: string, port: number): Promise<boolean> =>
      (await lab.connect(worker.netnsPath, host, port)).connected;

    expect(await reach('10.234.0.1', 9000), 'the node by the bridge').toBe(false);
    expect(await reach(lab.nodeAddress, 9000), 'the node by another address').toBe(false);
    expect(await reach(other.ip, 8080), 'another worker').toBe(false);
    expect(await reach(lab.metadataAddress, 80), 'metadata').toBe(false);
    expect(await reach(lab.extraAddress, 80), 'a denied range').toBe(false);
    expect(await reach(lab.outsideAddress, 80), 'anything else').toBe(true);

    // Also where a route leads around the bridge's isolation, by the gateway.
    await run('nsenter', [`--net=${worker.netnsPath}`, 'ip', 'route', 'add', `${other.ip}/32`, 'via', '10.234.0.1']);
    expect(await reach(other.ip, 8080), 'another worker by the gateway').toBe(false);
  });

  it('reaches no node behind a cable that is denied, though the way to the outside leads over one', async () => {
    const lab = await createNetworkLab();
    const outside = lab.outsidePath.split('/').at(-1) ?? '';
    // As in a local instance: the host's end of the cable to this node, and another node behind the host.
    const [host, other] = ['10.235.2.1', '10.235.3.2'];
    for (const address of [`${host}/30`, `${other}/32`]) {
      await run('ip', ['-n', outside, 'address', 'add', address, 'dev', 'lo']);
    }
    const network = lab.network({ slots: 0 });
    await network.start();
    const worker = await network.attach('one');
    for (const port of [53, 9443]) {
      await lab.listen(lab.outsidePath, port);
    }
    const reach = async (address: string, port: number): Promise<boolean> =>
      (await lab.connect(worker.netnsPath, address, port)).connected;
    expect(await reach(host, 9443), 'the host, not denied').toBe(true);
    expect(await reach(other, 9443), 'another node, not denied').toBe(true);
    await network.stop();

    const resolvConfPath = join(lab.stateDir, 'resolv.conf');
    await writeFile(resolvConfPath, `nameserver ${host}\n`);
    const denying = lab.network({ slots: 0, deniedRanges: ['10.235.0.0/16'], resolvConfPath });
    await denying.start();
    expect(await reach(host, 9443), 'the host').toBe(false);
    expect(await reach(other, 9443), 'another node').toBe(false);
    expect(await reach(host, 53), 'a name server of the host').toBe(true);
    expect(await reach(lab.outsideAddress, 9443), 'the outside').toBe(true);
  });

  it('reaches what is allowed of a denied range, and what it was refused is counted', async () => {
    const lab = await createNetworkLab();
    const network = lab.network({
      slots: 0,
      deniedRanges: ['0.0.0.0/0'],
      allowedRanges: ['203.0.113.0/24', lab.metadataAddress, lab.nodeAddress, '10.234.0.0/16'],
    });
    await network.start();
    const worker = await network.attach('one');
    await lab.listen(lab.outsidePath, 80);
    await lab.listen(lab.netnsPath, 9000);
    const runner = lab.networkOptions.runner ?? systemCommandRunner;
    let known = await readRefusals(runner);
    expect(known).toEqual({ node: 0, metadata: 0, worker: 0, range: 0, source: 0, egress: 0 });
    /** Whether a connection comes about, and by what it was refused. */
    const reach = async (host: string, port: number): Promise<[boolean, readonly string[]]> => {
      const before = known;
      const { connected } = await lab.connect(worker.netnsPath, host, port);
      known = await readRefusals(runner);
      // How often does not matter: the first refusal may come while the kernel still has the socket locked, which then
      // tries again.
      const risen = Object.entries(known).filter(([what, count]) => count > before[what as keyof typeof before]);
      return [connected, risen.map(([what]) => what)];
    };

    expect(await reach(lab.extraAddress, 80), 'the allowed part of a denied range').toEqual([true, []]);
    expect(await reach(lab.outsideAddress, 80), 'the rest of it').toEqual([false, ['range']]);
    expect(await reach(lab.metadataAddress, 80), 'metadata, allowed or not').toEqual([false, []]);
    expect(await reach('169.254.7.7', 80), 'another link-local address').toEqual([false, ['metadata']]);
    expect(await reach(lab.nodeAddress, 9000), 'the node, allowed or not').toEqual([false, ['node']]);
    expect(await reach('10.234.0.1', 9000), 'the node by the bridge, allowed or not').toEqual([false, ['node']]);
  });

  it('reaches its name servers wherever they are, and asks nobody else where it may not call', async () => {
    const lab = await createNetworkLab();
    const resolvConfPath = join(lab.stateDir, 'resolv.conf');
    await writeFile(resolvConfPath, `nameserver 10.234.0.1\nnameserver ${lab.extraAddress}\n`);
    const network = lab.network({
      slots: 0,
      deniedRanges: ['203.0.113.0/24', '198.51.100.0/24'],
      resolvConfPath,
    });
    await network.start();
    const worker = await network.attach('one');
    await lab.listen(lab.netnsPath, 53);
    await lab.listen(lab.outsidePath, 53);
    expect(await lab.connect(worker.netnsPath, '10.234.0.1', 53)).toMatchObject({ connected: true });
    expect(await lab.connect(worker.netnsPath, lab.extraAddress, 53)).toMatchObject({ connected: true });
    for (const other of [lab.outsideAddress, lab.nodeAddress, lab.metadataAddress]) {
      expect(await lab.connect(worker.netnsPath, other, 53), other).toMatchObject({ connected: false });
    }
  });

  it('has no way to a metadata service while the rules of the node are gone', async () => {
    const lab = await createNetworkLab();
    const network = lab.network({ slots: 0 });
    await network.start();
    const worker = await network.attach('one');
    await lab.listen(lab.outsidePath, 80);
    await lab.onNode('nft', ['flush', 'ruleset']);
    // With nothing in between, and with a sender that finds its way back.
    await lab.onNode('nft', [
      'add table ip elsewhere; add chain ip elsewhere post { type nat hook postrouting priority srcnat; }; add rule ip elsewhere post masquerade',
    ]);
    expect(await lab.connect(worker.netnsPath, lab.outsideAddress, 80)).toMatchObject({ connected: true });
    expect(await lab.connect(worker.netnsPath, lab.metadataAddress, 80)).toMatchObject({ connected: false });
  });
});

describe('attaching and detaching', () => {
  it('may be repeated, and leave nothing behind', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab);
    const first = await network.attach('one');
    expect(await network.attach('one')).toEqual(first);
    expect(await network.get('one')).toEqual(first);
    expect(await network.list()).toEqual([first]);
    await network.detach('one');
    await network.detach('one');
    expect(await network.get('one')).toBeUndefined();
    expect(await reservations(lab)).toEqual([]);
    expect(await namespaces(lab)).toEqual([]);
    await waitFor('the interface to go', async () => (await ports(lab)).length === 0);
    expect(await entries(join(lab.stateDir, 'cni/results'))).toEqual([]);
    expect(await entries(join(lab.stateDir, 'cni/attachments'))).toEqual([]);
  });

  it('leave nothing behind after a hundred times, many at once', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab, 2);
    const names = Array.from({ length: 100 }, (_, index) => `worker-${index}`);
    for (let from = 0; from < names.length; from += 10) {
      const batch = names.slice(from, from + 10);
      const attached = await Promise.all(batch.map((name) => network.attach(name)));
      expect(new Set(attached.map(({ ip }) => ip)).size).toBe(batch.length);
      await Promise.all(batch.map((name) => network.detach(name)));
    }
    await waitFor('the slots to be filled', async () => (await readySlots(lab.stateDir)).length === 2);
    expect((await reservations(lab)).length).toBe(2);
    expect((await namespaces(lab)).length).toBe(2);
    await network.stop();
    expect(await lab.remove()).toEqual([]);
    expect(await namespaces(lab)).toEqual([]);
    expect((await lab.onNode('nft', ['list', 'ruleset'])).stdout).toBe('');
    const links = await lab.onNode('ip', ['-br', 'link']);
    expect(links.stdout.split('\n').filter((line) => /veth|esb0/.test(line))).toEqual([]);
  });

  it('work when the namespace has vanished', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab);
    const first = await network.attach('one');
    await network.attach('two');
    for (const { netnsPath } of await network.list()) {
      await run('ip', ['netns', 'delete', netnsPath.split('/').at(-1) ?? '']);
    }
    await network.detach('two');
    const again = await network.attach('one');
    expect(again.netnsPath).not.toBe(first.netnsPath);
    await lab.listen(again.netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, again.ip, 8080)).toMatchObject({ connected: true });
    await waitFor('the old address to be given back', async () => (await reservations(lab)).length === 1);
  });

  it('are undone when the caller gives up', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab);
    const caller = new AbortController();
    const attaching = network.attach('one', { signal: caller.signal });
    setTimeout(() => caller.abort(), 15);
    await expect(attaching).rejects.toMatchObject({ code: 'Aborted' });
    await waitFor('it to be undone', async () => (await namespaces(lab)).length === 0);
    expect(await network.list()).toEqual([]);
    expect(await reservations(lab)).toEqual([]);
    await network.attach('one');
  });

  it('tell when there is no address left, and go on once there is', async () => {
    const lab = await createNetworkLab({ subnet: '10.234.0.0/29' });
    const network = await started(lab);
    for (let index = 0; index < 5; index += 1) {
      await network.attach(`worker-${index}`);
    }
    await expect(network.attach('too-many')).rejects.toMatchObject({ code: 'AddressesExhausted' });
    expect(await network.health()).toMatchObject({ ok: false, reason: 'AddressesExhausted' });
    await network.detach('worker-3');
    expect(await network.health()).toEqual({ ok: true });
    await network.attach('too-many');
  });
});

describe('prepared slots', () => {
  it('are given away at once and filled again', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab, 3);
    const before = await waitFor('three slots', async () => {
      const ready = await readySlots(lab.stateDir);
      return ready.length === 3 ? ready : undefined;
    });
    const { netnsPath } = await network.attach('one');
    expect(before).toContain(netnsPath.split('/').at(-1));
    await waitFor('three slots again', async () => (await readySlots(lab.stateDir)).length === 3);
    expect((await reservations(lab)).length).toBe(4);
  });

  it('and attachments are taken over by the next run', async () => {
    const lab = await createNetworkLab();
    const earlier = await started(lab, 2);
    const attached = await earlier.attach('one');
    await waitFor('two slots', async () => (await readySlots(lab.stateDir)).length === 2);
    await earlier.stop();
    const slots = await readySlots(lab.stateDir);

    const later = await started(lab, 2);
    expect(await later.list()).toEqual([attached]);
    expect(await later.attach('one')).toEqual(attached);
    const { netnsPath } = await later.attach('two');
    expect(slots).toContain(netnsPath.split('/').at(-1));
    await waitFor('two slots', async () => (await readySlots(lab.stateDir)).length === 2);
    await later.detach('one');
    expect((await reservations(lab)).length).toBe(3);
  });

  it('that no longer work are replaced by the next run', async () => {
    const lab = await createNetworkLab();
    const earlier = await started(lab, 3);
    await waitFor('three slots', async () => (await readySlots(lab.stateDir)).length === 3);
    await earlier.stop();
    const [broken = '', gone = '', moved = ''] = await readySlots(lab.stateDir);
    await run('ip', ['-n', broken, 'link', 'delete', 'eth0']);
    await run('ip', ['netns', 'delete', gone]);
    await run('ip', ['-n', moved, 'address', 'flush', 'dev', 'eth0']);
    await run('ip', ['-n', moved, 'address', 'add', '10.234.3.3/21', 'dev', 'eth0']);

    const later = await started(lab, 2);
    const { netnsPath, ip } = await later.attach('one');
    expect([broken, gone, moved]).not.toContain(netnsPath.split('/').at(-1));
    await lab.listen(netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, ip, 8080)).toMatchObject({ connected: true });
    await waitFor('what was broken to go', async () => {
      const names = await namespaces(lab);
      return names.length === 3 && !names.includes(broken) && (await reservations(lab)).length === 3;
    });
  });
});

describe('repair', () => {
  it('removes what nobody claims and nothing else', async () => {
    const lab = await createNetworkLab();
    const network = await started(lab);
    const kept = await network.attach('kept');
    const lost = await network.attach('lost');
    const ipam = join(lab.stateDir, 'cni/ipam/esb');
    await writeFile(join(ipam, '10.234.0.77'), 'of-nobody\r\neth0');
    await writeFile(join(ipam, '10.234.0.78'), '');
    const stray = `${namespacePrefix(lab.stateDir)}stray`;
    const foreign = `esb-slot-000000-${namespacePrefix(lab.stateDir).slice(-7)}x`;
    for (const name of [stray, foreign]) {
      await run('ip', ['netns', 'add', name]);
    }
    onTestFinished(async () => {
      await run('ip', ['netns', 'delete', foreign]);
    });

    // An attachment that was not looked at yet is not to be removed, with any in use.
    const early = await network.repair(new Set(), { unclaimed: new Set() });
    expect(early).not.toContain('lost');
    expect((await network.list()).map(({ containerId }) => containerId).toSorted()).toEqual(['kept', 'lost']);
    const removed = [...early, ...(await network.repair(new Set(['kept'])))];
    expect(removed.toSorted()).toEqual(['10.234.0.77', '10.234.0.78', stray, 'lost'].toSorted());
    expect(await network.list()).toEqual([kept]);
    expect(await namespaces(lab)).toEqual([kept.netnsPath.split('/').at(-1)]);
    expect(await reservations(lab)).toEqual([kept.ip]);
    expect(await entries('/run/netns')).toContain(foreign);
    expect(await entries('/run/netns')).not.toContain(lost.netnsPath.split('/').at(-1));
    expect(await network.repair(new Set(['kept']))).toEqual([]);
  });

  it('finds what a machine that lost power left', async () => {
    const lab = await createNetworkLab();
    const earlier = await started(lab, 1);
    await earlier.attach('one');
    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
    await earlier.stop();
    for (const name of await namespaces(lab)) {
      await run('ip', ['netns', 'delete', name]);
    }
    await lab.onNode('ip', ['link', 'delete', 'esb0']);
    await lab.onNode('nft', ['flush', 'ruleset']);

    const later = await started(lab, 1);
    await waitFor('the attachment to go', async () => (await later.list()).length === 0);
    await waitFor('only a new slot to be left', async () => {
      const [names, addresses] = [await namespaces(lab), await reservations(lab)];
      return names.length === 1 && addresses.length === 1 && (await readySlots(lab.stateDir)).length === 1;
    });
    const { ip, netnsPath } = await later.attach('one');
    await lab.listen(netnsPath, 8080);
    expect(await lab.connect(lab.netnsPath, ip, 8080)).toMatchObject({ connected: true });
  });
});

describe('an agent that is killed at any moment', () => {
  it('leaves nothing that the next one does not take over or remove', async () => {
    const lab = await createNetworkLab();
    const script = `
      const { createNodeNetwork } = await import(${JSON.stringify(resolve(import.meta.dirname, '../../../src/cni/node-network.ts'))});
      const { silentLogger } = await import(${JSON.stringify(resolve(import.meta.dirname, '../../../src/common/logger.ts'))});
      const network = createNodeNetwork({ ...JSON.parse(process.argv[1]), logger: silentLogger() });
      await network.start();
      console.log('started');
      for (let i = 0; ; i += 1) {
        await Promise.all([0, 1, 2].map((n) => network.attach('w-' + i + '-' + n)));
        await Promise.all([0, 1].map((n) => network.detach('w-' + i + '-' + n)));
      }`;
    const { stateDir, configFile, pluginFolder, subnet } = lab.networkOptions;
    const options = JSON.stringify({ stateDir, configFile, pluginFolder, subnet, slots: 2 });
    for (const aliveMs of [5, 40, 90, 150, 260]) {
      const agent = await startOwnedProcess({
        program: 'nsenter',
        args: [`--net=${lab.netnsPath}`, '--', process.execPath, '--input-type=module', '-e', script, options],
        logFile: join(lab.stateDir, `agent-${aliveMs}.log`),
      });
      onTestFinished(() => agent.kill());
      await waitFor('the agent to start', () => agent.output().includes('started'), { everyMs: 5 });
      // Faults and calls come at any moment.
      await delay(aliveMs);
      await agent.kill();
    }
    const network = await started(lab, 2);
    const attached = await network.list();
    for (const { containerId } of attached) {
      const { ip, netnsPath } = await network.attach(containerId);
      const inside = await run('nsenter', [`--net=${netnsPath}`, 'ip', '-4', '-o', 'address', 'show', 'eth0']);
      expect(inside.stdout).toContain(` ${ip}/21 `);
    }
    const kept = attached.slice(0, 1).map(({ containerId }) => containerId);
    await waitFor('the rest to be removed', async () => {
      await network.repair(new Set(kept));
      const expected = 2 + kept.length;
      return (
        (await readySlots(lab.stateDir)).length === 2 &&
        (await namespaces(lab)).length === expected &&
        (await reservations(lab)).length === expected &&
        (await ports(lab)).length === expected
      );
    });
    expect((await network.list()).map(({ containerId }) => containerId)).toEqual(kept);
  });
});

describe('a fault of the network', () => {
  it('of a plugin that is missing names plugin and folder, and passes', async () => {
    const lab = await createNetworkLab();
    const pluginFolder = await ownPlugins(lab);
    await rename(join(pluginFolder, 'bridge'), join(pluginFolder, 'away'));
    const network = lab.network({ slots: 1, pluginFolder });
    await expect(network.start()).rejects.toMatchObject({ code: 'PluginMissing' });
    expect(await network.health()).toEqual({
      ok: false,
      reason: 'PluginMissing',
      message: expect.stringContaining(`CNI plugin bridge is missing in ${pluginFolder}`),
    });
    await expect(network.attach('one')).rejects.toMatchObject({
      code: 'NetworkFailed',
      retryable: true,
      message: expect.stringContaining('bridge is missing'),
    });
    await rename(join(pluginFolder, 'away'), join(pluginFolder, 'bridge'));
    expect(await network.health()).toEqual({ ok: true });
    await network.attach('one');
    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
  });

  it('of a plugin that fails tells its words, leaves nothing, and passes', async () => {
    const lab = await createNetworkLab();
    const pluginFolder = await ownPlugins(lab);
    const network = lab.network({ slots: 0, pluginFolder });
    await network.start();
    await rename(join(pluginFolder, 'bridge'), join(pluginFolder, 'away'));
    // The fault is reported until its leftovers are gone, and these go only once they were looked at.
    const looked = join(lab.stateDir, 'looked');
    const failing = (body: string): Promise<void> =>
      putScript(
        pluginFolder,
        'bridge',
        `#!/bin/sh
if [ "$CNI_COMMAND" != ADD ]; then until [ -e ${looked} ]; do sleep 0.05; done; exec ${pluginFolder}/away; fi
${body}
`,
      );

    await failing(`echo '{"code": 120, "msg": "no luck", "details": "today"}'; exit 1`);
    await expect(network.attach('one')).rejects.toMatchObject({
      message: expect.stringContaining('no luck; today'),
    });
    await failing('echo garbage');
    await expect(network.attach('one')).rejects.toMatchObject({
      message: expect.stringContaining('garbage'),
    });
    expect(await network.health()).toMatchObject({ ok: false, reason: 'AttachFailed' });
    await writeFile(looked, '');
    await failing('echo oh dear >&2; exit 3');
    await expect(network.attach('one')).rejects.toMatchObject({
      message: expect.stringContaining('oh dear'),
    });

    await rename(join(pluginFolder, 'away'), join(pluginFolder, 'bridge'));
    await waitFor('what was begun to be undone', async () => (await namespaces(lab)).length === 0);
    await network.attach('one');
    expect(await network.health()).toEqual({ ok: true });
    expect((await reservations(lab)).length).toBe(1);
  });

  it('of a plugin that hangs ends with the caller, and what hung is killed', async () => {
    const lab = await createNetworkLab();
    const pluginFolder = await ownPlugins(lab);
    const network = lab.network({ slots: 0, pluginFolder, makeDeadlineMs: 1500 });
    await network.start();
    await rename(join(pluginFolder, 'bridge'), join(pluginFolder, 'away'));
    const mark = `31${Date.now() % 100_000}`;
    await putScript(
      pluginFolder,
      'bridge',
      `#!/bin/sh\n[ "$CNI_COMMAND" = ADD ] || exec ${pluginFolder}/away\nsleep ${mark}\n`,
    );
    await expect(network.attach('one', { deadlineMs: 300 })).rejects.toMatchObject({
      code: 'DeadlineExceeded',
    });
    await waitFor('the plugin to be killed and the rest undone', async () => {
      const left = await run('pgrep', ['-f', `sleep ${mark}`], { mayFail: true });
      return left.stdout.trim() === '' && (await namespaces(lab)).length === 0;
    });
    await rename(join(pluginFolder, 'away'), join(pluginFolder, 'bridge'));
    await network.attach('one');
  });

  it('of a plugin that is busy is waited for', async () => {
    const lab = await createNetworkLab();
    const pluginFolder = await ownPlugins(lab);
    const network = lab.network({ slots: 0, pluginFolder });
    await network.start();
    await rename(join(pluginFolder, 'bridge'), join(pluginFolder, 'away'));
    await putScript(
      pluginFolder,
      'bridge',
      `#!/bin/sh
if [ "$CNI_COMMAND" = ADD ] && [ ! -e ${lab.stateDir}/asked-twice ]; then
  [ -e ${lab.stateDir}/asked ] && touch ${lab.stateDir}/asked-twice; touch ${lab.stateDir}/asked
  echo '{"code": 11, "msg": "try again later"}'; exit 1
fi
exec ${pluginFolder}/away
`,
    );
    await network.attach('one');
    expect(await entries(lab.stateDir)).toContain('asked-twice');
  });

  it('of a subnet that collides stops the start, and passes', async () => {
    const lab = await createNetworkLab();
    await lab.onNode('ip', ['address', 'add', '10.234.5.1/24', 'dev', 'up0']);
    let others = [{ cidr: '10.96.0.0/12', what: 'service CIDR' }];
    const network = lab.network({ slots: 0, otherRanges: () => others });
    await expect(network.start()).rejects.toMatchObject({ code: 'SubnetCollision' });
    expect(await network.health()).toEqual({
      ok: false,
      reason: 'SubnetCollision',
      message: expect.stringMatching(/10\.234\.0\.0\/16.*10\.234\.5\.0\/24.*up0.*--subnet/),
    });
    await expect(network.attach('one')).rejects.toMatchObject({ code: 'NetworkFailed' });
    await lab.onNode('ip', ['address', 'delete', '10.234.5.1/24', 'dev', 'up0']);
    others = [...others, { cidr: '10.234.128.0/24', what: 'pod CIDR of node-b' }];
    expect(await network.health()).toMatchObject({
      ok: false,
      message: expect.stringContaining('pod CIDR of node-b'),
    });
    others = [];
    expect(await network.health()).toEqual({ ok: true });
    await network.attach('one');
  });

  it('of rules, forwarding or a bridge that somebody took away is mended', async () => {
    const lab = await createNetworkLab();
    let now = 0;
    const network = lab.network({
      slots: 0,
      clock: {
        now: () => now,
        monotonic: () => now,
        setTimer: (callback, delayMs) => {
          const handle = setTimeout(callback, delayMs);
          return { cancel: () => clearTimeout(handle) };
        },
      },
    });
    await network.start();
    const worker = await network.attach('one');
    await lab.listen(worker.netnsPath, 8080);
    await lab.listen(lab.netnsPath, 9000);
    await lab.onNode('nft', ['flush', 'ruleset']);
    await lab.onNode('sh', ['-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward']);
    await lab.onNode('ip', ['link', 'delete', 'esb0']);
    now += 5_000;
    expect(await network.health()).toEqual({ ok: true });
    expect(await lab.connect(lab.netnsPath, worker.ip, 8080)).toMatchObject({ connected: true });
    expect(await lab.connect(worker.netnsPath, '10.234.0.1', 9000)).toMatchObject({ connected: false });
    const isolated = await lab.onNode('bridge', ['-d', 'link']);
    expect(isolated.stdout).toContain('isolated on');
    expect((await lab.onNode('cat', ['/proc/sys/net/ipv4/ip_forward'])).stdout.trim()).toBe('1');
  });

  it.each([
    ['flush', 'table', 'inet', 'esb'],
    ['flush', 'chain', 'inet', 'esb', 'from_worker'],
    ['flush', 'set', 'inet', 'esb', 'metadata'],
    ['flush', 'set', 'inet', 'esb', 'private'],
  ])('puts right what nft %s %s %s %s leaves of the table', async (...command) => {
    const lab = await createNetworkLab();
    let now = 0;
    const network = lab.network({
      slots: 0,
      clock: { ...systemClock, monotonic: () => now },
    });
    await network.start();
    const listed = async (): Promise<string> => (await lab.onNode('nft', ['list', 'table', 'inet', 'esb'])).stdout;
    const before = await listed();
    await lab.onNode('nft', command);
    expect(await listed()).not.toBe(before);
    now += 5_000;
    expect(await network.health()).toEqual({ ok: true });
    expect(await listed()).toBe(before);
    // The whole table is as the check expects: nothing is written again.
    const handles = async (): Promise<string> =>
      (await lab.onNode('nft', ['-a', 'list', 'table', 'inet', 'esb'])).stdout;
    const written = await handles();
    now += 5_000;
    await network.health();
    expect(await handles()).toBe(written);
  });
});

describe('removal', () => {
  it('puts forwarding back as it was before the first start', async () => {
    const lab = await createNetworkLab();
    const forwarding = async (): Promise<string> =>
      (await lab.onNode('cat', ['/proc/sys/net/ipv4/ip_forward'])).stdout.trim();
    const before = await forwarding();
    const network = await started(lab, 1);
    await network.attach('one');
    await waitFor('a slot', async () => (await readySlots(lab.stateDir)).length === 1);
    expect(await forwarding()).toBe('1');
    await network.stop();
    // A second run finds what the first one left, not what was before.
    await (await started(lab, 1)).stop();

    expect(await lab.remove()).toEqual([]);
    expect(await forwarding()).toBe(before);
    expect(await namespaces(lab)).toEqual([]);
    expect((await lab.onNode('nft', ['list', 'ruleset'])).stdout).toBe('');
    expect((await lab.onNode('ip', ['-br', 'link'])).stdout).not.toMatch(/veth|esb0/);
    expect(await entries(join(lab.stateDir, 'cni'))).toEqual([]);
    expect(await lab.remove()).toEqual([]);
  });

  it('leaves forwarding on where others on the node may rely on it by now', async () => {
    const lab = await createNetworkLab();
    await (await started(lab, 0)).stop();
    await lab.onNode('ip', ['link', 'add', 'pods0', 'type', 'bridge']);
    await lab.onNode('ip', ['link', 'set', 'pods0', 'up']);
    expect(await lab.remove()).toEqual([]);
    expect((await lab.onNode('cat', ['/proc/sys/net/ipv4/ip_forward'])).stdout.trim()).toBe('1');
  });
});
