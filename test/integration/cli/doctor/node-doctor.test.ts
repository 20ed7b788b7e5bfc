import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Finding } from '../../../../src/cli/doctor/finding.ts';
import { run } from '../../../support/command.ts';
import { initProgram } from '../../../support/init-lab.ts';
import { type Lab, startLab } from '../../../support/lab.ts';
import { toolsFolder } from '../../../support/tools.ts';

const main = resolve(import.meta.dirname, '../../../../src/main.ts');

describe('the doctor of a node', () => {
  const tools = toolsFolder();
  const netns = `esb-t-${randomBytes(4).toString('hex')}`;
  let lab: Lab;

  beforeAll(async () => {
    lab = await startLab();
    await run('ip', ['netns', 'add', netns]);
    await run('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
  });
  afterAll(async () => {
    await run('ip', ['netns', 'delete', netns], { mayFail: true });
    await lab?.close();
  });

  interface Diagnosis {
    readonly code: number;
    of(what: string): readonly Finding[];
  }

  /** Runs the command line in the namespace of this test, behind other programs where a test wants some. */
  async function diagnose(flags: readonly string[] = [], before: readonly string[] = []): Promise<Diagnosis> {
    const { code, stdout, stderr } = await run(
      'nsenter',
      [
        `--net=/run/netns/${netns}`,
        ...before,
        process.execPath,
        main,
        'doctor',
        'node',
        '--json',
        ...['--containerd-socket', lab.socketPath],
        ...['--cni-bin-dir', tools],
        ...['--run-dir', '/dev/shm/esb'],
        ...['--init-program', await initProgram()],
        ...flags,
      ],
      { mayFail: true, env: { ...process.env, PATH: `${tools}:${process.env.PATH ?? ''}` } },
    );
    let findings: readonly Finding[];
    try {
      findings = JSON.parse(stdout) as readonly Finding[];
    } catch (error) {
      throw new Error(`not JSON: ${stdout} ${stderr}`, { cause: error });
    }
    return { code, of: (what) => findings.filter((each) => each.what.startsWith(what)) };
  }

  const levels = (findings: readonly Finding[]): string[] => findings.map(({ level }) => level);
  const inside = (program: string, ...args: readonly string[]): Promise<unknown> =>
    run('nsenter', [`--net=/run/netns/${netns}`, program, ...args]);

  it('finds nothing wrong with parts that are right, and has no problem to tell', async () => {
    const { code, of } = await diagnose();
    expect(of('containerd ').map(({ what }) => what)).toEqual([
      'containerd plugin overlayfs',
      'containerd plugin task',
      'containerd plugin local',
    ]);
    for (const what of [
      'kernel',
      'containerd',
      'runc',
      'shim',
      'init of workers',
      'CNI plugin',
      'network configuration',
      'nftables',
      'forwarding',
      'subnet',
      'disk',
    ]) {
      const found = of(what).filter((each) => each.what !== 'forwarding of IPv4');
      expect(found.length).toBeGreaterThan(0);
      expect([what, ...levels(found).filter((level) => level !== 'ok')]).toEqual([what]);
    }
    expect(of('CNI plugin bridge')[0]?.message).toMatch(/^\d+\.\d+\.\d+$/);
    expect(of('containerd')[0]?.message).toMatch(/^v?2\./);
    expect(code).toBe(0);
  });

  it('finds a chain that drops what is forwarded, and its advice mends it', async () => {
    await inside('nft', 'add table inet other');
    await inside('nft', 'add chain inet other transit { type filter hook forward priority 0; policy drop; }');
    const before = await diagnose();
    expect(before.code).toBe(1);
    const [dropping] = before.of('forwarding').filter(({ what }) => what === 'forwarding');
    expect(dropping).toMatchObject({
      level: 'problem',
      message: expect.stringContaining('chain transit of the table inet other'),
    });
    await inside('sh', '-ec', dropping?.mend ?? 'false');
    const after = await diagnose();
    expect(levels(after.of('forwarding').filter(({ what }) => what === 'forwarding'))).toEqual(['ok']);
    await inside('nft', 'delete table inet other');
  });

  it('finds a subnet that a route has already', async () => {
    await run('ip', ['-n', netns, 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1']);
    await run('ip', ['-n', netns, 'addr', 'add', '10.234.7.1/24', 'dev', 'up0']);
    await run('ip', ['-n', netns, 'link', 'set', 'up0', 'up']);
    await run('ip', ['-n', netns, 'link', 'set', 'up1', 'up']);
    const { of } = await diagnose();
    expect(of('subnet')).toMatchObject([
      { level: 'problem', message: '10.234.0.0/16 collides with the route 10.234.7.0/24 by up0' },
    ]);
    expect(levels((await diagnose(['--subnet', '10.235.0.0/16'])).of('subnet'))).toEqual(['ok']);
    expect(
      levels((await diagnose(['--subnet', '10.235.0.0/16', '--service-cidr', '10.235.0.0/20'])).of('subnet')),
    ).toEqual(['problem']);
    await run('ip', ['-n', netns, 'link', 'delete', 'up0']);
  });

  it('finds a packet filter that may not be written', async () => {
    const { of } = await diagnose([], ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin']);
    expect(of('nftables')).toMatchObject([{ level: 'problem', mend: expect.stringContaining('root') }]);
  });

  it('finds mounts that nobody else would see', async () => {
    const propagation = async (kind: string): Promise<string[]> =>
      levels((await diagnose([], ['unshare', '--mount', '--propagation', kind])).of('mount propagation'));
    expect(await propagation('private')).toEqual(['warning', 'warning']);
    expect(await propagation('shared')).toEqual(['ok', 'ok']);
  });

  it('finds a run folder that is on a disk', async () => {
    const { of } = await diagnose(['--run-dir', join(lab.folder, 'run')]);
    expect(levels(of('run folder'))).toEqual(['warning']);
    expect(levels((await diagnose()).of('run folder'))).toEqual(['ok']);
  });

  it('finds plugins that are missing', async () => {
    const { of } = await diagnose(['--cni-bin-dir', lab.folder]);
    expect(levels(of('CNI plugin'))).toEqual(['problem', 'problem']);
  });

  it('finds a containerd that is gone, and one that was never there', async () => {
    await lab.killContainerd();
    const gone = await diagnose();
    expect(gone.of('containerd')).toMatchObject([
      {
        level: 'problem',
        message: expect.stringContaining('does not answer'),
        mend: expect.stringContaining('restart'),
      },
    ]);
    const never = await diagnose(['--containerd-socket', join(lab.folder, 'none.sock')]);
    expect(never.of('containerd')).toMatchObject([
      { level: 'problem', message: expect.stringContaining('there is no') },
    ]);
    await lab.startContainerd();
    expect(levels((await diagnose()).of('containerd'))).toEqual(['ok', 'ok', 'ok', 'ok']);
  });

  it('says for people what it says for programs', async () => {
    const { stdout, code } = await run(
      process.execPath,
      [main, 'doctor', 'node', '--containerd-socket', join(lab.folder, 'none.sock')],
      { mayFail: true },
    );
    expect(code).toBe(1);
    expect(stdout).toContain(`✗ containerd: there is no ${lab.folder}/none.sock\n    `);
  });
});
