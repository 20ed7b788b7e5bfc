import { randomBytes } from 'node:crypto';
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { linuxPlatform } from '../../../src/oci/image-config.ts';
import { buildRuntimeSpec } from '../../../src/oci/runtime-spec.ts';
import type { SpecShape } from '../../../src/oci/spec-shape.ts';
import type { UserIds } from '../../../src/oci/spec-user.ts';
import { type CommandResult, run } from '../../support/command.ts';
import { toolsFolder } from '../../support/tools.ts';

/** Folders of this machine that make up the root file system of the container: enough for a shell. */
const SHARED = ['/usr', '/bin', '/sbin', '/lib', '/lib64'];

/** Runs a shell script in a container by runc, as the process of a worker. */
async function inContainer(
  script: string,
  shape: Partial<SpecShape> = {},
  user = '',
  userIds?: UserIds,
): Promise<CommandResult> {
  const id = `esb-t-${randomBytes(3).toString('hex')}`;
  const folder = await mkdtemp(join(tmpdir(), 'esb-spec-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await run('ip', ['netns', 'add', id]);
  onTestFinished(async () => {
    await run('ip', ['netns', 'delete', id]);
  });
  // A user that is not root outside has to reach the root of the container.
  await chmod(folder, 0o711);
  await mkdir(join(folder, 'rootfs'));
  await chown(join(folder, 'rootfs'), userIds?.first ?? 0, userIds?.first ?? 0);
  await writeFile(join(folder, 'resolv.conf'), 'nameserver 192.0.2.53\n');
  const spec = buildRuntimeSpec({
    containerId: id,
    functionName: 'hello',
    architecture: linuxPlatform(process.arch).architecture,
    netnsPath: `/run/netns/${id}`,
    cgroupsPath: `/${id}`,
    etcFiles: { resolvConf: join(folder, 'resolv.conf') },
    oomScoreAdj: 500,
    ...(userIds === undefined ? {} : { userIds }),
    shape: {
      command: ['/bin/sh', '-c'],
      args: [script],
      env: [],
      memoryMiB: 64,
      milliCpu: 500,
      pids: 12,
      ephemeralStorageMiB: 16,
      readOnlyRootFilesystem: true,
      timeoutSeconds: 3,
      ...shape,
    },
    image: {
      env: [],
      user,
      workingDir: '',
      entrypoint: [],
      cmd: [],
      diffIds: [],
      platform: linuxPlatform(process.arch),
    },
  });
  const shared = SHARED.map((path) => ({
    destination: path,
    type: 'bind',
    source: path,
    options: ['rbind', 'ro'],
  }));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...spec, mounts: [...shared, ...spec.mounts] }));
  const root = join(folder, 'state');
  return await run(join(toolsFolder(), 'runc'), ['--root', root, 'run', '--bundle', folder, id], {
    mayFail: true,
    timeoutMs: 60_000,
  });
}

/** Far from what anybody on the machine has. */
const someIds: UserIds = { first: 700_000_000, count: 65_536 };

describe('a worker under runc', () => {
  it('runs with its environment, host name and files', async () => {
    const { stdout } = await inContainer('hostname; cat /etc/resolv.conf; echo $AWS_LAMBDA_FUNCTION_NAME; pwd');
    expect(stdout).toMatch(/^esb-t-.*\nnameserver 192\.0\.2\.53\nhello\n\/\n$/);
  });

  it('is no root, has no capabilities, gets none, and is filtered', async () => {
    const { stdout } = await inContainer('id -u; cat /proc/self/status; cat /proc/self/oom_score_adj');
    expect(stdout).toMatch(/^993\n/);
    expect(stdout).toMatch(/CapEff:\s0+\n/);
    expect(stdout).toMatch(/CapBnd:\s0+\n/);
    expect(stdout).toMatch(/NoNewPrivs:\s1\n/);
    expect(stdout).toMatch(/Seccomp:\s2\n/);
    expect(stdout).toMatch(/\n500\n$/);
    expect((await inContainer('id -u; id -g', {}, '1234:5')).stdout).toBe('1234\n5\n');
  });

  it('cannot make namespaces or mounts', async () => {
    const { stdout } = await inContainer(
      'unshare --user true 2>/dev/null; echo $?; mount -t tmpfs x /tmp 2>/dev/null; echo $?',
    );
    expect(stdout).toMatch(/^[1-9]\d*\n[1-9]\d*\n$/);
  });

  it('writes to /tmp up to its size and nowhere else', async () => {
    const { stdout } = await inContainer(
      [
        'touch /x 2>/dev/null; echo root $?',
        'touch /proc/sys/kernel/hostname 2>/dev/null; echo proc $?',
        'head -c 8M /dev/zero > /tmp/a; echo small $?',
        'head -c 32M /dev/zero > /tmp/b 2>/dev/null; echo large $?',
        'stat -c %a /tmp',
      ].join('\n'),
    );
    expect(stdout).toBe('root 1\nproc 1\nsmall 0\nlarge 1\n1777\n');
  });

  it('may write its root where it is told to', async () => {
    const { stdout } = await inContainer('touch /x; echo $?', { readOnlyRootFilesystem: false });
    expect(stdout).toBe('0\n');
  });

  it('may listen on a low port', async () => {
    const { stdout } = await inContainer('cat /proc/sys/net/ipv4/ip_unprivileged_port_start');
    expect(stdout).toBe('0\n');
  });

  it('is held to its number of processes', async () => {
    const { stderr } = await inContainer('for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 1 & done; wait');
    expect(stderr).toMatch(/fork/i);
  });

  it('calls nothing of the kernel that RuntimeDefault does not have', async () => {
    const { stdout } = await inContainer(
      [
        'python3 - <<END',
        'import ctypes, socket',
        'libc = ctypes.CDLL(None, use_errno=True)',
        'def call(name, *args):',
        '    ctypes.set_errno(0)',
        '    libc.syscall(*args)',
        '    print(name, ctypes.get_errno())',
        "call('keyctl', 250, 0, 0)",
        "call('bpf', 321, 0, 0, 0)",
        "call('io_uring_setup', 425, 1, 0)",
        "call('clone3', 435, 0, 0)",
        "call('newer than the list', 999)",
        "call('chroot', 161, b'/tmp')",
        "call('32 bit sync_file_range', 277, -1, 0, 0, 0)",
        'for family in (1, 2, 10, 16, 17, 29, 38, 40):',
        '    try:',
        '        socket.socket(family, socket.SOCK_DGRAM if family != 16 else socket.SOCK_RAW).close()',
        "        print('family', family, 0)",
        '    except OSError as error:',
        "        print('family', family, error.errno)",
        'END',
      ].join('\n'),
    );
    expect(stdout.trim().split('\n')).toEqual([
      'keyctl 1',
      'bpf 1',
      'io_uring_setup 1',
      'clone3 38',
      'newer than the list 38',
      'chroot 1',
      '32 bit sync_file_range 9',
      'family 1 0',
      'family 2 0',
      'family 10 0',
      'family 16 0',
      'family 17 1',
      'family 29 1',
      'family 38 1',
      'family 40 1',
    ]);
  });

  it('dumps no memory when it crashes', async () => {
    const { stdout } = await inContainer('ulimit -c; grep core /proc/self/limits');
    expect(stdout).toMatch(/core file size\s+1\s+1\s+bytes/);
  });
});

describe('a worker with a user namespace under runc', () => {
  it('is another user outside than it is inside, root included', async () => {
    const script = 'id -u; cat /proc/self/uid_map; cat /proc/self/gid_map; grep CapEff /proc/self/status';
    const { stdout, stderr } = await inContainer(script, {}, '0:0', someIds);
    expect(stderr).toBe('');
    expect(stdout).toMatch(/^0\n\s+0\s+700000000\s+65536\n\s+0\s+700000000\s+65536\nCapEff:\s0+\n$/);
    expect((await inContainer('id -u', {}, '', someIds)).stdout).toBe('993\n');
  });

  it('sees the processors of the node and nothing else of its devices', async () => {
    const script = [
      'ls /sys /sys/devices/system; cat /sys/devices/system/cpu/possible',
      'touch /sys/x 2>/dev/null; echo $?; cat /etc/resolv.conf; hostname',
      'head -c 8M /dev/zero > /tmp/a; echo $?; echo > /dev/null; echo $?',
    ].join('\n');
    const { stdout } = await inContainer(script, {}, '', someIds);
    expect(stdout).toMatch(
      /^\/sys:\ndevices\n\n\/sys\/devices\/system:\ncpu\n[\d,-]+\n1\nnameserver 192\.0\.2\.53\nesb-t-\w+\n0\n0\n$/,
    );
  });
});
