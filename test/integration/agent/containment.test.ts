import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { testImage } from '../../support/test-image.ts';
import { createUplink, type Uplink, uplinkAddresses } from '../../support/uplink.ts';
import { waitFor } from '../../support/wait-for.ts';

const metadata = '169.254.169.254';
/** Of the range that workers are denied: one address that they are allowed, one that they are not. */
const denied = { range: '203.0.113.0/24', allowed: '203.0.113.5', refused: '203.0.113.9' } as const;
/** Outside of every range. */
const elsewhere = '192.0.2.80';
const gateway = '10.234.0.1';
const ports = { agent: 9443, apiServer: 6443, ssh: 22, web: 80 } as const;
const flags = [
  ...['--listen', `0.0.0.0:${ports.agent}`],
  ...['--deny-cidr', denied.range],
  ...['--allow-cidr', `${denied.allowed}/32`],
];
const pids = 40;
const memoryMiB = 64;
const tmpMiB = 16;

/** Error of the kernel for each kind of refusal. */
const notPermitted = 'operation not permitted';

let lab: AgentLab;
let uplink: Uplink;

beforeAll(async () => {
  // Builds the worker where it is missing, outside of the time of a test.
  await testImage();
  lab = await startAgentLab();
  uplink = await createUplink(lab.lab, [metadata, denied.allowed, denied.refused, elsewhere]);
  await lab.startAgent(flags);
  await lab.untilServing();
  await useOwnNameServer();
  await Promise.all([
    uplink.listen(uplink.outsidePath, ports.web),
    uplink.listen(lab.lab.netnsPath, ports.apiServer),
    uplink.listen(lab.lab.netnsPath, ports.ssh),
    uplink.nameServer(uplink.outsidePath, denied.allowed),
  ]);
  for (const name of ['attacker', 'neighbour']) {
    await lab.apply(name, {
      resources: { limits: { memory: `${memoryMiB}Mi` }, pids },
      ephemeralStorage: `${tmpMiB}Mi`,
      timeoutSeconds: 60,
      // One listens on its address, and may call nothing.
      ...(name === 'neighbour' ? { runtimeInterface: 'Emulator', network: { mode: 'Bridge', egress: 'None' } } : {}),
    });
  }
  await Promise.all(['attacker', 'neighbour'].map((name) => lab.waitForPhase(name, 'Running')));
});
afterAll(async () => {
  await uplink?.close();
  await lab?.close();
});

/**
 * The machine's own name servers are not there, the lab's is. The next check of the node's network writes the rules
 * again for it, and with them all counters: no test may begin before that.
 */
async function useOwnNameServer(): Promise<void> {
  await writeFile(join(lab.stateDir, 'resolv.conf'), `nameserver ${uplinkAddresses.outside}\n`);
  await waitFor('the rules to have the name server', async () => {
    const known = await lab.onNode('nft', 'list', 'set', 'inet', 'esb', 'name_servers');
    return known.includes(uplinkAddresses.outside);
  });
}

/** Results of attempts from inside of a worker. */
async function tried(worker: LambdaWorker, lines: readonly string[]): Promise<Record<string, string>> {
  const answer = await lab.invoke(worker, { payload: { try: lines }, deadlineMs: 60_000 });
  expect(answer).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
  return (JSON.parse(answer.body) as { tried: Record<string, string> }).tried;
}

async function attack(...lines: readonly string[]): Promise<Record<string, string>> {
  return await tried(await lab.worker('attacker'), lines);
}

/** Expects the same end of every attempt. */
function each(lines: readonly string[], end: unknown): Record<string, unknown> {
  return Object.fromEntries(lines.map((line) => [line, end]));
}

/** The value of a metric of the agent. */
async function metric(name: string): Promise<number> {
  const page = await lab.health('/metrics');
  const line = page.split('\n').find((text) => text.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? Number.NaN);
}

/** Expects that the other worker answers, and is the same that it was. */
async function expectNeighbourUnhurt(): Promise<void> {
  const worker = await lab.worker('neighbour');
  expect(worker.status?.restartCount ?? 0).toBe(0);
  expect(await tried(worker, ['create /tmp/fine'])).toEqual({ 'create /tmp/fine': 'ok' });
  const now = await lab.worker('neighbour');
  expect(now.status?.conditions?.map(({ type }) => type)).not.toContain('LimitsReached');
}

describe('from inside a worker, the network', () => {
  it('has no way to another worker', { tags: ['T23'] }, async () => {
    const sibling = (await lab.worker('neighbour')).status?.address;
    const target = `connect ${sibling?.ip}:${sibling?.port}`;
    expect(await uplink.reach(lab.lab.netnsPath, sibling?.ip ?? '', sibling?.port ?? 0)).toBe(true);
    expect(await attack(target)).toEqual({ [target]: expect.stringMatching(/timeout|unreachable|no route/) });
  });

  it('has no way to what listens on the node, on any of its addresses', {
    tags: ['P23', 'T24'],
  }, async () => {
    const before = await metric('esb_agent_refused_packets_total{destination="node"}');
    const lines: string[] = [];
    for (const host of [gateway, uplinkAddresses.node]) {
      for (const port of [ports.agent, ports.apiServer, ports.ssh]) {
        expect(await uplink.reach(lab.lab.netnsPath, host, port), `${host}:${port} from the node`).toBe(true);
        lines.push(`connect ${host}:${port}`);
      }
    }
    expect(await attack(...lines)).toEqual(
      each(lines, expect.stringMatching(/refused|unreachable|prohibited|no route/)),
    );
    // Listeners on the node's loopback are not on the worker's.
    const own = `connect 127.0.0.1:${ports.agent}`;
    expect(await attack(own)).toEqual({ [own]: expect.stringContaining('refused') });
    const after = await metric('esb_agent_refused_packets_total{destination="node"}');
    expect(after - before).toBeGreaterThanOrEqual(lines.length);
  });

  it('has no way to the metadata address', { tags: ['T22'] }, async () => {
    expect(await uplink.reach(lab.lab.netnsPath, metadata, ports.web), 'from the node').toBe(true);
    const target = `connect ${metadata}:${ports.web}`;
    const linkLocal = `connect 169.254.7.7:${ports.web}`;
    const refused = expect.stringMatching(/refused|unreachable|prohibited|no route/i);
    expect(await attack(target, linkLocal)).toEqual({ [target]: refused, [linkLocal]: refused });
    expect(await metric('esb_agent_refused_packets_total{destination="metadata"}')).toBeGreaterThan(0);
  });

  it('leads where the operator allows it, and names are resolved', async () => {
    expect(await uplink.reach(lab.lab.netnsPath, denied.refused, ports.web), 'from the node').toBe(true);
    const to = (host: string): string => `connect ${host}:${ports.web}`;
    expect(
      await attack(
        'resolve service.example',
        to('service.example'),
        to(denied.allowed),
        to(elsewhere),
        to(denied.refused),
      ),
    ).toEqual({
      'resolve service.example': `ok ${denied.allowed}`,
      [to('service.example')]: 'ok',
      [to(denied.allowed)]: 'ok',
      [to(elsewhere)]: 'ok',
      [to(denied.refused)]: expect.stringMatching(/refused|unreachable|prohibited|no route/),
    });
    expect(await metric('esb_agent_refused_packets_total{destination="range"}')).toBeGreaterThan(0);
  });

  it('leads nowhere for a worker whose class says so, name servers included, and calls are answered', {
    tags: ['T34'],
  }, async () => {
    const lines = [
      'resolve service.example',
      `connect ${elsewhere}:${ports.web}`,
      `connect ${denied.allowed}:${ports.web}`,
    ];
    const found = await tried(await lab.worker('neighbour'), lines);
    expect(Object.values(found).filter((end) => end.startsWith('ok'))).toEqual([]);
    expect(await metric('esb_agent_refused_packets_total{destination="egress"}')).toBeGreaterThan(0);
  });

  it('is not the node’s, raw or by another family of sockets', async () => {
    const lines = ['raw', 'packet', 'vsock', 'cryptography', 'tipc-pair'];
    expect(await attack(...lines)).toEqual(each(lines, notPermitted));
    expect((await attack('list /sys/class/net'))['list /sys/class/net']).toBe('ok eth0 lo');
  });
});

describe('from inside a worker, the file system', () => {
  it('is that of its image and nothing of the host', { tags: ['P34'] }, async () => {
    // There on the host, world-readable.
    expect(await readFile(join(lab.lab.folder, 'config.toml'), 'utf8')).toContain('version');
    const lines = [
      `read ${join(lab.lab.folder, 'config.toml')}`,
      `read ${lab.lab.socketPath}`,
      'read /etc/hostname',
      'list /root',
      'list /var/lib',
      'read /dev/sda',
      'read /dev/mem',
      'read /dev/kmsg',
    ];
    expect(await attack(...lines)).toEqual(each(lines, expect.stringContaining('no such file or directory')));
    expect(await attack('list /', 'list /run', 'list /run/esb')).toEqual({
      'list /': 'ok dev etc proc run sys tmp usr',
      'list /run': 'ok esb',
      'list /run/esb': 'ok agent init',
    });
    expect(await attack('mknod /tmp/disk')).toEqual({ 'mknod /tmp/disk': notPermitted });
  });

  it('can be written in /tmp alone', async () => {
    const lines = [
      ...['create /x', 'create /etc/x', 'write /etc/resolv.conf', 'create /usr/local/bin/x', 'create /sys/x'],
      ...['create /run/x', 'create /run/esb/agent/x', 'write /run/esb/init'],
    ];
    expect(await attack('create /tmp/x', ...lines)).toEqual({
      ...each(lines, expect.stringMatching(/read-only file system|permission denied/)),
      'create /tmp/x': 'ok',
    });
  });

  it('shows of the kernel what is the worker’s and lets nothing be set', async () => {
    const settings = [
      'write /proc/sys/kernel/core_pattern',
      'write /proc/sys/kernel/hostname',
      'write /proc/sys/vm/overcommit_memory',
      'write /proc/sys/net/ipv4/ip_forward',
      'write /proc/sysrq-trigger',
      'write /proc/irq/default_smp_affinity',
      'write /sys/kernel/mm/transparent_hugepage/enabled',
      // Below 0 it would be spared before what is the node's own.
      'write /proc/1/oom_score_adj -1',
    ];
    expect(await attack(...settings)).toEqual(
      each(settings, expect.stringMatching(/read-only file system|permission denied|no such file/)),
    );
    // Masked: what is there is nothing.
    const masked = [
      'read /proc/kcore',
      'read /proc/keys',
      'read /proc/timer_list',
      'list /proc/acpi',
      'list /sys/firmware',
    ];
    for (const [line, answer] of Object.entries(await attack(...masked))) {
      expect(answer, line).toMatch(/^(ok|ok empty|.*(no such file or directory|permission denied))$/);
    }
    // No process but its own: the init and the runtime.
    const processes = (await attack('list /proc'))['list /proc']?.split(' ').filter((name) => /^\d+$/.test(name));
    expect(processes).toEqual(['1', expect.stringMatching(/^\d+$/)]);
  });

  it('cannot be mounted, unmounted or left', async () => {
    const lines = [
      'mount',
      'remount /',
      'umount /proc/kcore',
      'chroot',
      'open-tree',
      'unshare 0x10000000',
      'unshare 0x20000',
      'unshare 0x40000000',
      'setns /proc/self/ns/net',
    ];
    expect(await attack(...lines)).toEqual(each(lines, notPermitted));
    const clone = (await attack('clone-user'))['clone-user'];
    expect(clone).toContain(notPermitted);
  });
});

describe('from inside a worker, other processes and the kernel', () => {
  it('cannot be traced, read or robbed, its own included', async () => {
    const lines = ['trace 1', 'trace-child', 'read-child', 'steal-descriptor'];
    expect(await attack(...lines)).toEqual(each(lines, notPermitted));
    const agent = lab.agent.pid;
    // A process of the host has no number there.
    expect(await attack(`kill ${agent}`)).toEqual({ [`kill ${agent}`]: 'no such process' });
  });

  it.each([
    { user: '', uid: 993 },
    { user: '1234', uid: 1234 },
    { user: '0', uid: 0 },
  ])('cannot be read or written where they are the init, by user $uid', async ({ user, uid }) => {
    const name = `user-${uid}`;
    const image = lab.lab.registry.put(`${name}:1`, await testImage({ user }));
    await lab.apply(name, { image, resources: { limits: { memory: `${memoryMiB}Mi` }, pids }, timeoutSeconds: 60 });
    const worker = await lab.waitForPhase(name, 'Running');
    const lines = [
      ...['mem', 'maps', 'environ', 'auxv', 'exe', 'root/etc/passwd'].map((file) => `read /proc/1/${file}`),
      ...Array.from({ length: 10 }, (_, fd) => `read /proc/1/fd/${fd}`),
      ...['write /proc/1/mem', 'write /proc/1/fd/1', 'list /proc/1/map_files', 'trace 1'],
      // Root may count them.
      ...(uid === 0 ? [] : ['list /proc/1/fd']),
    ];
    const ends = await tried(worker, [...lines, 'read /proc/self/status', 'read /proc/self/environ']);
    expect(ends).toEqual({
      ...each(lines, expect.stringMatching(/permission denied|operation not permitted/)),
      // The runtime is as open to itself as ever.
      'read /proc/self/status': expect.stringMatching(new RegExp(`Uid:\\s${uid}\\s`)),
      'read /proc/self/environ': expect.stringContaining('AWS_LAMBDA_RUNTIME_API'),
    });
    await lab.remove(name);
  });

  it('cannot be asked for what acts on the whole machine', async () => {
    const lines = [
      'bpf',
      'keyctl',
      'perf',
      'userfaultfd',
      'io-uring',
      'host-name',
      'clock',
      'kernel-log',
      'module',
      'swap',
      'reboot',
      'setuid 0',
    ];
    expect(await attack(...lines)).toEqual(each(lines, notPermitted));
  });

  it('cannot be reached by new privileges', async () => {
    const status = (await attack('read /proc/self/status'))['read /proc/self/status'];
    expect(status).toMatch(/NoNewPrivs:\s1/);
    expect(status).toMatch(/Seccomp:\s2/);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      expect(status).toMatch(new RegExp(`${set}:\\s0{16}`));
    }
    expect(status).toMatch(/Uid:\s993\s993\s993\s993/);
  });
});

describe('a bomb in a worker', () => {
  it('of processes is held to their number, and told', { tags: ['T25'] }, async () => {
    const answer = (await attack('fork 5000'))['fork 5000'];
    expect(answer).toMatch(/^resource temporarily unavailable after \d+ processes$/);
    expect(Number(/(\d+) processes/.exec(answer ?? '')?.[1])).toBeLessThan(pids);
    // While they are there.
    await expectNeighbourUnhurt();
    const worker = await lab.waitForWorker('attacker', 'to tell it', ({ status }) =>
      (status?.conditions ?? []).some(({ type }) => type === 'LimitsReached'),
    );
    expect(worker.status?.conditions?.find(({ type }) => type === 'LimitsReached')).toMatchObject({
      status: 'True',
      reason: 'ProcessLimit',
      message: expect.stringContaining(`spec.resources.pids is ${pids}`),
    });
    expect(await metric('esb_agent_limit_hits_total{limit="processes"}')).toBeGreaterThan(0);
    expect((await attack('reap')).reap).toMatch(/^ok \d+$/);
    expect(worker.status?.restartCount ?? 0).toBe(0);
  });

  it('of memory in a process of the function ends that process, and is told', async () => {
    expect(await attack('allocate 500')).toEqual({ 'allocate 500': 'signal: killed' });
    const worker = await lab.waitForWorker('attacker', 'to tell it', ({ status }) =>
      (status?.conditions ?? []).some(({ reason }) => reason === 'OutOfMemory'),
    );
    expect(worker.status?.conditions?.find(({ type }) => type === 'LimitsReached')).toMatchObject({
      message: expect.stringContaining(`${memoryMiB}Mi`),
    });
    expect(await metric('esb_agent_limit_hits_total{limit="memory"}')).toBeGreaterThan(0);
    await expectNeighbourUnhurt();
  });

  it('of files in /tmp is held to its size, and takes nothing of the function’s memory', {
    tags: ['T27'],
  }, async () => {
    expect(await attack('fill /tmp/bomb 1000')).toEqual({
      'fill /tmp/bomb 1000': expect.stringMatching(/^write \/tmp\/bomb: no space left on device after 1[567] MiB$/),
    });
    // With /tmp full the function still has nearly all of its own.
    const worker = await lab.worker('attacker');
    const answer = await lab.invoke(worker, { payload: { allocate: memoryMiB - 24 } });
    expect(answer.outcome).toBe('OUTCOME_ANSWERED');
    expect(await attack('remove /tmp/bomb')).toEqual({ 'remove /tmp/bomb': 'ok' });
    await expectNeighbourUnhurt();
  });

  it('of memory in the function itself ends its runtime alone, and is told', { tags: ['T26'] }, async () => {
    const before = await lab.worker('attacker');
    const answer = await lab.invoke(before, { payload: { allocate: 500 } });
    expect(answer.body).toContain('signal: killed');
    expect(await attack('create /tmp/after')).toEqual({ 'create /tmp/after': 'ok' });
    const { status } = await lab.worker('attacker');
    expect(status).toMatchObject({ containerID: before.status?.containerID, restartCount: 0 });
    await expectNeighbourUnhurt();
  });

  it('of memory in a worker with an emulator ends it alone, and is told', { tags: ['T26'] }, async () => {
    await lab.apply('emulated', {
      resources: { limits: { memory: `${memoryMiB}Mi` }, pids },
      runtimeInterface: 'Emulator',
    });
    const worker = await lab.waitForPhase('emulated', 'Running');
    const answer = await lab.invoke(worker, { payload: { allocate: 500 } });
    expect(answer).toMatchObject({ outcome: 'OUTCOME_UNKNOWN' });
    const after = await lab.waitForWorker(
      'emulated',
      'to run again',
      ({ status }) => status?.phase === 'Running' && (status.restartCount ?? 0) === 1,
    );
    expect(after.status?.lastTermination).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
    // A new container has run into nothing.
    await waitFor('the condition to go', async () => {
      const { status } = await lab.worker('emulated');
      return (status?.conditions ?? []).every(({ type }) => type !== 'LimitsReached');
    });
    await expectNeighbourUnhurt();
    await lab.remove('emulated');
  });
});

describe('from inside a worker with users of its own', () => {
  const first = 700_000_000;

  beforeAll(async () => {
    await lab.stopAgent();
    await lab.startAgent([
      ...flags,
      ...['--user-namespaces', `${first}:${65_536 * 100}`],
      ...['--oom-score-adj', '900'],
    ]);
    await lab.untilServing();
    await useOwnNameServer();
    await lab.apply('mapped', {
      resources: { limits: { memory: `${memoryMiB}Mi` }, pids },
      ephemeralStorage: `${tmpMiB}Mi`,
      timeoutSeconds: 60,
    });
    await lab.waitForPhase('mapped', 'Running');
  });
  const attackMapped = async (...lines: readonly string[]): Promise<Record<string, string>> =>
    await tried(await lab.worker('mapped'), lines);

  it('everybody is a stranger to the node', async () => {
    expect(await attackMapped('read /proc/self/uid_map', 'read /proc/self/oom_score_adj')).toEqual({
      'read /proc/self/uid_map': expect.stringMatching(/^ok 0 +700000000 +65536$/),
      'read /proc/self/oom_score_adj': 'ok 900',
    });
    const { containerID } = (await lab.worker('mapped')).status ?? {};
    const line = (await lab.lab.ctr('tasks', 'list')).split('\n').find((each) => each.startsWith(`${containerID} `));
    const pid = line?.trim().split(/\s+/)[1];
    expect(await readFile(`/proc/${pid}/status`, 'utf8')).toMatch(new RegExp(`^Uid:(\\s${first + 993}){4}$`, 'm'));
  });

  it('nothing is possible that was not without', async () => {
    const lines = [
      'mount',
      'remount /',
      'umount /proc/kcore',
      'unshare 0x10000000',
      'setns /proc/self/ns/net',
      'trace 1',
      'raw',
      'packet',
      'bpf',
      'keyctl',
      'host-name',
      'mknod /tmp/disk',
    ];
    expect(await attackMapped(...lines)).toEqual(each(lines, notPermitted));
    const settings = [
      'write /proc/sys/kernel/core_pattern',
      'write /proc/irq/default_smp_affinity',
      'create /x',
      'create /sys/x',
    ];
    expect(await attackMapped(...settings)).toEqual(
      each(settings, expect.stringMatching(/read-only file system|permission denied/)),
    );
    expect(await attackMapped(`connect ${gateway}:${ports.agent}`, 'list /sys')).toEqual({
      [`connect ${gateway}:${ports.agent}`]: expect.stringMatching(/refused|unreachable|prohibited|no route/),
      'list /sys': 'ok devices',
    });
  });

  it('its init is closed to it, root or not', async () => {
    const image = lab.lab.registry.put('mapped-root:1', await testImage({ user: '0' }));
    await lab.apply('mapped-root', { image, resources: { limits: { memory: `${memoryMiB}Mi` }, pids } });
    const root = await lab.waitForPhase('mapped-root', 'Running');
    const lines = [
      'read /proc/1/mem',
      'write /proc/1/mem',
      'read /proc/1/maps',
      'read /proc/1/environ',
      'read /proc/1/fd/1',
    ];
    for (const worker of [root, await lab.worker('mapped')]) {
      expect(await tried(worker, lines)).toEqual(each(lines, expect.stringContaining('permission denied')));
    }
    await lab.remove('mapped-root');
  });

  it('all is possible that is meant to be', async () => {
    const to = `connect ${denied.allowed}:${ports.web}`;
    expect(await attackMapped('resolve service.example', to, 'create /tmp/x')).toEqual({
      'resolve service.example': `ok ${denied.allowed}`,
      [to]: 'ok',
      'create /tmp/x': 'ok',
    });
    expect(await attackMapped('fill /tmp/bomb 1000')).toEqual({
      'fill /tmp/bomb 1000': expect.stringMatching(/no space left on device after 1[567] MiB$/),
    });
    // Those that were there before the agent knew of users go on.
    await expectNeighbourUnhurt();
  });
});
