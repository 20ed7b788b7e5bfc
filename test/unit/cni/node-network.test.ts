import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { namespacePrefix } from '../../../src/cni/attachments/attachment-store.ts';
import type { NodeNetwork } from '../../../src/cni/contract.ts';
import { nodeRules } from '../../../src/cni/host/nftables.ts';
import { shapeOf } from '../../../src/cni/host/table-check.ts';
import { createNodeNetwork, type NodeNetworkOptions } from '../../../src/cni/node-network.ts';
import type { CommandRequest, CommandResult } from '../../../src/common/exec/command-runner.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { parseIpRange } from '../../../src/common/net/ip-range.ts';
import { type ManualClock, manualClock } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

const ROUTES = 'Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n';

/** A node whose every program is played: namespaces are a set, addresses are counted up. */
class FakeNode {
  readonly folder: string;
  readonly commands: string[] = [];
  readonly pinned = new Set<string>();
  /** Addresses inside of namespaces. */
  readonly inside = new Map<string, string>();
  /** Addresses that each namespace has no way to. */
  readonly closed = new Map<string, readonly string[]>();
  forwarding = '0';
  routes = ROUTES;
  rules = false;
  /** A chain of the table whose rules another program took away, or a set whose elements. */
  taken: string | undefined;
  /** Answer of nft to an element. */
  elements: CommandResult = { code: 0, stdout: '', stderr: '' };
  /** Texts that were given to nft. */
  readonly written: string[] = [];
  tableFails = false;
  /** Decides what a plugin answers instead of success. */
  plugin: (command: string, type: string) => Promise<CommandResult | undefined> | CommandResult | undefined = () =>
    undefined;
  #address = 1;
  #now = 0;

  constructor(folder: string) {
    this.folder = folder;
  }

  network(options: Partial<NodeNetworkOptions> = {}): NodeNetwork {
    const network = createNodeNetwork({
      stateDir: join(this.folder, 'state'),
      configFile: resolve(import.meta.dirname, '../../../cni/10-esb.conflist'),
      pluginFolder: join(this.folder, 'plugins'),
      procFolder: join(this.folder, 'proc'),
      subnet: '10.234.0.0/16',
      slots: 0,
      logger: silentLogger(),
      runner: { run: (request) => this.#run(request) },
      clock: {
        now: () => this.#now,
        monotonic: () => this.#now,
        setTimer: (callback, delayMs) => {
          const handle = setTimeout(callback, Math.min(delayMs, 5));
          return { cancel: () => clearTimeout(handle) };
        },
      },
      ipForward: () => ({
        read: () => Promise.resolve(this.forwarding),
        write: (value) => {
          this.forwarding = value;
          return Promise.resolve();
        },
      }),
      namespaces: {
        create: (name, closed) => {
          this.pinned.add(name);
          this.closed.set(name, closed);
          return Promise.resolve(`/ns/${name}`);
        },
        remove: (name) => {
          this.pinned.delete(name);
          return Promise.resolve();
        },
        closeWays: (name, addresses) => {
          this.closed.set(name, addresses);
          return Promise.resolve();
        },
        path: (name) => `/ns/${name}`,
        isPinned: (path) => Promise.resolve(this.pinned.has(path.slice('/ns/'.length))),
        names: () => Promise.resolve([...this.pinned]),
      },
      ...options,
    });
    onTestFinished(() => network.stop());
    return network;
  }

  async writeProc(): Promise<void> {
    await mkdir(join(this.folder, 'proc/net'), { recursive: true });
    await writeFile(join(this.folder, 'proc/net/route'), this.routes);
    await writeFile(join(this.folder, 'proc/net/dev'), 'a\nb\n  lo: 0\n  esb0: 0\n');
  }

  pass(ms: number): void {
    this.#now += ms;
  }

  async #run(request: CommandRequest): Promise<CommandResult> {
    const type = request.program.split('/').at(-1) ?? '';
    const command = request.env?.CNI_COMMAND;
    this.commands.push(command === undefined ? `${type} ${request.args.join(' ')}` : `${type} ${command}`);
    const success = { code: 0, stdout: '', stderr: '' };
    if (type === 'nft' && request.input !== undefined) {
      this.written.push(request.input);
      if (request.input.includes(' element ')) {
        return this.elements;
      }
      if (this.tableFails) {
        return { code: 1, stdout: '', stderr: 'no' };
      }
    }
    switch (command) {
      case undefined:
        return { ...success, stdout: this.#system(type, request.args) };
      case 'VERSION':
        return { ...success, stdout: '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}' };
      case 'ADD': {
        const given = await this.plugin(command, type);
        this.#address += type === 'bridge' ? 1 : 0;
        const result = { cniVersion: '1.1.0', ips: [{ address: `10.234.0.${this.#address}/16` }] };
        return given ?? { ...success, stdout: JSON.stringify(result) };
      }
      default:
        return (await this.plugin(command, type)) ?? success;
    }
  }

  /** Our table, as `nft -j` lists what was written last, less what others took away since. */
  #listed(): readonly object[] {
    const { rules, filled } = shapeOf(this.written.findLast((text) => text.startsWith('table')) ?? '');
    const of = { family: 'inet', table: 'esb' };
    return [
      ...[...rules].map(([name]) => ({ chain: { ...of, name } })),
      ...[...rules].flatMap(([chain, count]) =>
        this.taken === chain ? [] : Array.from({ length: count }, () => ({ rule: { ...of, chain } })),
      ),
      ...[...filled].map((name) => ({ set: { ...of, name, ...(this.taken === name ? {} : { elem: [name] }) } })),
    ];
  }

  #system(program: string, args: readonly string[]): string {
    if (program === 'nft' && args[0] === '-f') {
      this.rules = true;
      this.taken = undefined;
    }
    if (program === 'nft' && (args.includes('chains') || args.includes('table'))) {
      return JSON.stringify({ nftables: this.rules ? this.#listed() : [] });
    }
    if (program === 'ip' && args[0] === '-n' && args.includes('address')) {
      const local = this.inside.get(args[1] ?? '');
      const address = { local, prefixlen: 21, scope: 'global' };
      return JSON.stringify([{ ifname: 'eth0', addr_info: local === undefined ? [] : [address] }]);
    }
    return program === 'ip' && args.includes('link') ? '[{"address":"02:00:00:00:00:01"}]' : '';
  }
}

async function fakeNode(): Promise<FakeNode> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-node-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const node = new FakeNode(folder);
  await mkdir(join(folder, 'plugins'));
  for (const name of ['bridge', 'host-local', 'loopback']) {
    await writeFile(join(folder, 'plugins', name), '');
    await chmod(join(folder, 'plugins', name), 0o755);
  }
  await node.writeProc();
  return node;
}

/** Waits until a count has not grown for a while, with the clock standing. */
async function settled(count: () => number, clock: ManualClock): Promise<void> {
  let before = -1;
  await waitFor(
    'the count to rest',
    async () => {
      await clock.advance(0);
      const rests = count() === before;
      before = count();
      return rests;
    },
    { everyMs: 20 },
  );
}

describe('the network of a node', () => {
  it('attaches once for callers at the same time', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    const [first, second] = await Promise.all([network.attach('one'), network.attach('one')]);
    expect(second).toEqual(first);
    expect(node.commands.filter((command) => command === 'bridge ADD')).toHaveLength(1);
  });

  it('does what is asked of one container in order', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    await Promise.all([network.attach('one'), network.detach('one'), network.attach('one'), network.detach('one')]);
    expect(await network.list()).toEqual([]);
    expect(node.pinned.size).toBe(0);
  });

  it('makes no more than a few namespaces at once', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    let [running, most] = [0, 0];
    node.plugin = async (command, type) => {
      if (command === 'ADD' && type === 'bridge') {
        running += 1;
        most = Math.max(most, running);
        // Until as many as may have come; then one more would have time to come as well.
        do {
          // The part that the test plays takes as long.
          await new Promise((done) => setTimeout(done, 2));
        } while (most < 4);
        running -= 1;
      }
      return undefined;
    };
    const attached = await Promise.all(Array.from({ length: 20 }, (_, index) => network.attach(`w-${index}`)));
    expect(new Set(attached.map(({ netnsPath }) => netnsPath)).size).toBe(20);
    expect(most).toBe(4);
  });

  it('gives a namespace whose container gave up to the next one', async () => {
    const node = await fakeNode();
    const network = node.network({ slots: 1 });
    const gate = Promise.withResolvers<undefined>();
    node.plugin = (command) => (command === 'ADD' ? gate.promise : undefined);
    await network.start();
    const caller = new AbortController();
    const attaching = network.attach('one', { signal: caller.signal });
    caller.abort();
    await expect(attaching).rejects.toMatchObject({ code: 'Aborted' });
    gate.resolve(undefined);
    const { netnsPath } = await network.attach('two');
    expect(await network.list()).toMatchObject([{ containerId: 'two', netnsPath }]);
  });

  it('fills its slots one at a time, and waits longer and longer while that fails', async () => {
    const node = await fakeNode();
    const waits: number[] = [];
    let [running, most] = [0, 0];
    const network = node.network({
      slots: 4,
      clock: {
        now: () => 0,
        monotonic: () => 0,
        setTimer: (callback, delayMs) => {
          // The time of a plugin is no wait.
          const isDeadline = delayMs === 20_000;
          if (!isDeadline) {
            waits.push(delayMs);
          }
          const handle = setTimeout(callback, isDeadline ? delayMs : 1);
          return { cancel: () => clearTimeout(handle) };
        },
      },
    });
    node.plugin = async (command, type) => {
      if (command !== 'ADD' || type !== 'bridge') {
        return undefined;
      }
      running += 1;
      most = Math.max(most, running);
      // The part that the test plays takes as long.
      await new Promise((done) => setTimeout(done, 1));
      running -= 1;
      return { code: 1, stdout: '{"code":100,"msg":"no"}', stderr: '' };
    };
    await network.start();
    await waitFor('the longest wait', () => waits.filter((wait) => wait === 30_000).length > 1, {
      everyMs: 2,
    });
    expect(waits.filter((wait) => wait >= 1000).slice(0, 6)).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000]);
    expect(most).toBe(1);
    expect(await network.health()).toMatchObject({ ok: false, reason: 'AttachFailed' });
    node.plugin = () => undefined;
    await waitFor('every slot', () => network.slots.ready === 4, { everyMs: 2 });
    expect(await network.health()).toEqual({ ok: true });
    expect(node.pinned.size).toBe(4);
  });

  it('counts no slot as a shortage of addresses', async () => {
    const node = await fakeNode();
    const network = node.network({ slots: 4, subnet: '10.234.0.0/27' });
    await network.start();
    await Promise.all(Array.from({ length: 24 }, (_, index) => network.attach(`w-${index}`)));
    await waitFor('every slot', () => network.slots.ready === 4, { everyMs: 2 });
    // Nine tenths of 29 addresses have no room left beside the slots.
    expect(node.pinned.size).toBe(28);
    expect(await network.health()).toEqual({ ok: true });
  });

  it('fills its slots again where another program took the namespaces of all of them', async () => {
    const node = await fakeNode();
    const network = node.network({ slots: 3 });
    await network.start();
    await waitFor('every slot', () => network.slots.ready === 3, { everyMs: 2 });
    node.pinned.clear();
    await network.attach('one');
    await waitFor('every slot again', () => network.slots.ready === 3, { everyMs: 2, timeoutMs: 5_000 });
  });

  it('waits after a slot could not be made, also while prepared ones are taken', async () => {
    const node = await fakeNode();
    const clock = manualClock();
    const network = node.network({ slots: 8, clock });
    await network.start();
    await waitFor('every slot', () => clock.advance(0).then(() => network.slots.ready === 8), { everyMs: 2 });
    node.plugin = (command) =>
      command === 'ADD' ? { code: 1, stdout: '{"code":100,"msg":"no"}', stderr: '' } : undefined;
    node.commands.length = 0;
    const failures = () => node.commands.filter((command) => command === 'bridge ADD').length;
    for (let each = 0; each < 8; each += 1) {
      await network.attach(`x-${each}`);
      await clock.advance(2_000);
      await settled(failures, clock);
    }
    // Within 16 seconds: the first, and ones 1, 2, 4 and 8 seconds later at least.
    expect(failures()).toBeGreaterThan(1);
    expect(failures()).toBeLessThanOrEqual(5);
    const before = failures();
    await expect(network.attach('none is left')).rejects.toMatchObject({ code: 'NetworkFailed' });
    await clock.advance(999);
    await settled(failures, clock);
    expect(failures()).toBe(before + 1);
  });

  it('fills no slots, and attaches none, where a stop has begun before the end of the first check', async () => {
    const node = await fakeNode();
    const clock = manualClock();
    const network = node.network({ slots: 2, clock });
    const gate = Promise.withResolvers<undefined>();
    node.plugin = (command) => (command === 'STATUS' ? gate.promise : undefined);
    const attaching = network.attach('one').catch((error: unknown) => error);
    await waitFor('the check', () => node.commands.some((command) => command.endsWith(' STATUS')), { everyMs: 2 });
    const stopped = network.stop();
    gate.resolve(undefined);
    await stopped;
    await clock.advance(1_000);
    await settled(() => node.commands.length, clock);
    expect(node.commands).not.toContain('bridge ADD');
    expect(await attaching).toMatchObject({ code: 'Aborted' });
  });

  it('knows the attachment that works from one that a crash left beside it', async () => {
    const node = await fakeNode();
    const earlier = node.network();
    await earlier.start();
    const { netnsPath } = await earlier.attach('one');
    await earlier.stop();
    const folder = join(node.folder, 'state/cni/attachments');
    const id = netnsPath.slice('/ns/'.length);
    const text = await readFile(join(folder, `${id}.json`), 'utf8');
    for (const other of [`${id}0`, `${id}z`]) {
      await writeFile(join(folder, `${other}.json`), text.replaceAll(id, other));
    }
    const later = node.network();
    await later.start();
    expect((await later.attach('one')).netnsPath).toBe(netnsPath);
    await waitFor('the others to go', async () => (await readdir(folder)).length === 1, { everyMs: 5 });
    expect(await later.list()).toHaveLength(1);
    await later.detach('one');
    expect([await later.list(), node.pinned.size]).toEqual([[], 0]);
  });

  it.each([
    ['is lost', undefined],
    ['names a namespace that is gone', 'of-nobody'],
  ])('keeps the address of a namespace without a record from others where its reservation %s', async (_, holder) => {
    const node = await fakeNode();
    const ipam = join(node.folder, 'state/cni/ipam/esb');
    await mkdir(ipam, { recursive: true });
    const stray = `${namespacePrefix(join(node.folder, 'state'))}stray`;
    node.pinned.add(stray);
    node.inside.set(stray, '10.234.0.9');
    if (holder !== undefined) {
      await writeFile(join(ipam, '10.234.0.9'), `${holder}\r\neth0`);
    }
    await node.network().start();
    expect(await readFile(join(ipam, '10.234.0.9'), 'utf8')).toBe(`${stray}\r\neth0`);
  });

  it('runs one program to tell its health, every 5 seconds', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    node.commands.length = 0;
    for (let seconds = 0; seconds < 50; seconds += 1) {
      expect(await network.health()).toEqual({ ok: true });
      node.pass(1000);
    }
    expect(node.commands).toEqual(Array.from({ length: 9 }, () => 'nft -j list table inet esb'));
    node.commands.length = 0;
    node.pass(20_000);
    await network.health();
    expect(node.commands).toEqual(['nft -j list table inet esb']);
  });

  it.each(['from_worker', 'input', 'postrouting', 'dns', 'metadata', 'private'])(
    'writes the rules again where another program has flushed %s and left the table',
    async (name) => {
      const node = await fakeNode();
      const network = node.network();
      await network.start();
      node.taken = name;
      node.commands.length = 0;
      node.pass(5_000);
      expect(await network.health()).toEqual({ ok: true });
      expect(node.commands).toContain('nft -f -');
      expect(node.taken).toBeUndefined();
      node.commands.length = 0;
      node.pass(5_000);
      await network.health();
      expect(node.commands).toEqual(['nft -j list table inet esb']);
    },
  );

  it('writes rules that were flushed again within 5 seconds, and switches forwarding on again', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    expect(node.forwarding).toBe('1');
    node.rules = false;
    node.forwarding = '0';
    node.pass(5_000);
    expect(await network.health()).toEqual({ ok: true });
    expect([node.rules, node.forwarding]).toEqual([true, '1']);
    const kept = await readFile(join(node.folder, 'state/cni/ip-forward-before'), 'utf8');
    expect(kept).toBe('0');
  });

  it('tells of rules that could not be written without a program for 2 seconds, and then writes them', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    node.rules = false;
    node.tableFails = true;
    node.pass(5_000);
    expect(await network.health()).toMatchObject({ ok: false, reason: 'NftFailed' });
    node.tableFails = false;
    node.commands.length = 0;
    node.pass(1_999);
    expect(await network.health()).toMatchObject({ ok: false, reason: 'NftFailed' });
    expect(node.commands).toEqual([]);
    node.pass(1);
    expect(await network.health()).toEqual({ ok: true });
    expect(node.commands).toContain('nft -f -');
  });

  it('closes the ways to metadata services in each namespace, but for one that is a name server', async () => {
    const node = await fakeNode();
    const resolvConfPath = join(node.folder, 'resolv.conf');
    await writeFile(resolvConfPath, 'nameserver 10.96.0.10\nnameserver 169.254.169.254\n');
    const network = node.network({ resolvConfPath });
    await network.start();
    node.commands.length = 0;
    await network.attach('one');
    // One program makes the namespace without one way of those. The last one removes neighbour entries of the address.
    expect(node.commands).toEqual(['bridge ADD', 'ip -batch -']);
    const [closed] = node.closed.values();
    expect(closed).toEqual(['169.254.170.2', '169.254.170.23', '168.63.129.16', '100.100.100.200']);
  });

  it('writes the rules again when the name servers of the workers change', async () => {
    const node = await fakeNode();
    const resolvConfPath = join(node.folder, 'resolv.conf');
    await writeFile(resolvConfPath, 'nameserver 10.96.0.10\n');
    const network = node.network({ resolvConfPath });
    await network.start();
    node.commands.length = 0;
    expect(await network.health()).toEqual({ ok: true });
    expect(node.commands).toEqual([]);
    await writeFile(resolvConfPath, 'nameserver 10.96.0.11\n');
    expect(await network.health()).toEqual({ ok: true });
    expect(node.commands).toContain('nft -f -');
  });

  it('refuses a subnet that a route of the node touches, and not a route of its own bridge', async () => {
    const node = await fakeNode();
    node.routes = `${ROUTES}esb0 0000EA0A 0 1 0 0 0 0000FFFF 0 0 0\n`;
    await node.writeProc();
    const network = node.network();
    await network.start();
    node.routes = `${ROUTES}eth1 0003EA0A 0 1 0 0 0 00FFFFFF 0 0 0\n`;
    await node.writeProc();
    expect(await network.health()).toEqual({
      ok: false,
      reason: 'SubnetCollision',
      message: expect.stringContaining('10.234.3.0/24 of this node by eth1'),
    });
    // Workers with a network keep it, and new ones get one: a route alone harms no worker yet.
    await network.attach('one');
  });

  it('tells which plugin is missing', async () => {
    const node = await fakeNode();
    await rm(join(node.folder, 'plugins/host-local'));
    const network = node.network();
    await expect(network.start()).rejects.toMatchObject({ code: 'PluginMissing' });
    expect(await network.health()).toMatchObject({ ok: false, reason: 'PluginMissing' });
    expect(await network.list()).toEqual([]);
  });

  it('keeps what could not be removed and tries again', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    await network.attach('one');
    node.plugin = (command) =>
      command === 'DEL' ? { code: 1, stdout: '{"code":100,"msg":"no"}', stderr: '' } : undefined;
    await expect(network.detach('one')).rejects.toMatchObject({ code: 'NetworkFailed', retryable: true });
    expect(await network.list()).toHaveLength(1);
    node.plugin = () => undefined;
    await network.detach('one');
    expect(await network.list()).toEqual([]);
  });

  it('does not give a container back what its removal has begun with', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    const first = await network.attach('one');
    node.plugin = (command) =>
      command === 'DEL' ? { code: 1, stdout: '{"code":100,"msg":"no"}', stderr: '' } : undefined;
    await expect(network.detach('one')).rejects.toMatchObject({ code: 'NetworkFailed' });
    node.plugin = () => undefined;
    const again = await network.attach('one');
    expect(again.netnsPath).not.toBe(first.netnsPath);
    await waitFor('the first one to go', () => node.pinned.size === 1, { everyMs: 5 });
    expect(await network.list()).toEqual([again]);
  });

  it('removes what a failed attempt left, once that is possible', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    node.plugin = (_, type) =>
      type === 'bridge' ? { code: 1, stdout: '{"code":100,"msg":"no"}', stderr: '' } : undefined;
    await expect(network.attach('one')).rejects.toMatchObject({ code: 'NetworkFailed' });
    expect(node.pinned.size).toBe(1);
    expect(await network.health()).toMatchObject({ ok: false, reason: 'AttachFailed' });
    node.plugin = () => undefined;
    await waitFor('it to be removed', () => node.pinned.size === 0, { everyMs: 5 });
    await waitFor(
      'the record to go',
      async () => {
        return (await readdir(join(node.folder, 'state/cni/attachments'))).length === 0;
      },
      { everyMs: 5 },
    );
    expect(await network.health()).toEqual({ ok: true });
  });
});

describe('the class of a worker', () => {
  const element = '02:00:00:00:00:01 : goto egress_internet';
  const refused = { code: 1, stdout: '', stderr: 'Could not process rule: File exists' };

  it('is one element, before the attachment is given and until its removal, and no program for other workers', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    node.commands.length = 0;
    node.written.length = 0;
    await network.attach('plain');
    expect(node.commands.filter((command) => command.startsWith('nft'))).toEqual([]);
    await network.attach('one', { egress: 'Internet' });
    expect(node.written).toEqual([expect.stringContaining(`add element inet esb egress { ${element} }`)]);
    await network.detach('one');
    expect(node.written.at(-1)).toContain(`delete element inet esb egress { ${element} }`);
  });

  it('is written with the whole table where the element cannot be added, and refuses the attachment where that fails', async () => {
    const node = await fakeNode();
    const network = node.network();
    await network.start();
    node.elements = refused;
    await network.attach('one', { egress: 'Internet' });
    expect(node.written.at(-1)).toContain(element);
    expect(node.written.at(-1)).toContain('delete table inet esb');
    node.tableFails = true;
    await expect(network.attach('one', { egress: 'Internet' })).rejects.toMatchObject({ code: 'NetworkFailed' });
    await expect(network.attach('two', { egress: 'None' })).rejects.toMatchObject({ code: 'NetworkFailed' });
    // Nothing can be given what was attached without its class.
    await waitFor('the second one to go', async () => (await network.list()).length === 1, { everyMs: 5 });
    node.tableFails = false;
    expect(node.pinned.size).toBe(1);
    expect(await network.list()).toMatchObject([{ containerId: 'one' }]);
  });

  it('of a later release is held as None by the next agent, and cluster ranges that come are written', async () => {
    const node = await fakeNode();
    const earlier = node.network();
    await earlier.start();
    const { netnsPath } = await earlier.attach('one', { egress: 'Internet' });
    await earlier.stop();
    const file = join(node.folder, 'state/cni/attachments', `${netnsPath.slice('/ns/'.length)}.json`);
    await writeFile(file, (await readFile(file, 'utf8')).replace('"Internet"', '"Moon"'));
    let cluster: readonly string[] = [];
    const later = node.network({ otherRanges: () => cluster.map((cidr) => ({ cidr, what: 'a range' })) });
    await later.start();
    expect(node.written.at(-1)).toContain('02:00:00:00:00:01 : goto egress_none');
    cluster = ['203.0.113.0/24'];
    await later.health();
    expect(node.written.at(-1)).toMatch(/set cluster \{[^}]*elements = \{ 203\.0\.113\.0\/24 \}/);
  });
});

describe('the rules of a node', () => {
  it('let DNS through to the name servers of the workers alone, by the address that was asked', () => {
    const text = nodeRules({
      bridges: ['esb0'],
      subnets: [parseIpRange('10.234.0.0/16'), parseIpRange('fd00:234::/64')],
      deniedRanges: [],
      nameServers: ['10.96.0.10', 'fd00:96::a'],
    });
    expect(text).toContain('elements = { 10.96.0.10 }');
    expect(text).toContain('elements = { fd00:96::a }');
    const dns = text.split('\n').filter((line) => line.includes('proto-dst 53'));
    expect(dns).toHaveLength(2);
    expect(dns.every((line) => /ct original ip6? daddr @name_servers6? /.test(line))).toBe(true);
  });

  it('are replaced in one transaction, and name what is denied', () => {
    const text = nodeRules({
      bridges: ['esb0'],
      subnets: [parseIpRange('10.234.0.0/16')],
      deniedRanges: ['203.0.113.0/24'],
    });
    expect(text.split('\n').slice(0, 3)).toEqual(['table inet esb', 'delete table inet esb', 'table inet esb {']);
    expect(text).toContain('elements = { 203.0.113.0/24 }');
  });

  it('name what is allowed behind the metadata address and before what is denied', () => {
    const text = nodeRules({
      bridges: ['esb0', 'esb1'],
      subnets: [parseIpRange('10.234.0.0/16')],
      deniedRanges: ['0.0.0.0/0'],
      allowedRanges: ['203.0.113.5/32'],
    });
    expect(text).toContain('elements = { 203.0.113.5/32 }');
    const order = [
      'oifname { "esb0", "esb1" } counter',
      'daddr @metadata',
      'daddr @allowed accept',
      'daddr @denied',
    ].map((rule) => text.indexOf(rule));
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(order).not.toContain(-1);
  });
});
