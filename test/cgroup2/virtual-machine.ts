import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { runCommand } from '../../local/common/command.ts';
import { retry } from '../../src/cli/retry.ts';
import { systemClock } from '../../src/common/clock.ts';
import { sleep } from '../../src/common/deadline.ts';
import { untilAborted } from '../support/held-apart.ts';
import {
  earlyModules,
  firstProgram,
  type GuestLayout,
  guestContainerdPort,
  resultMark,
  secondProgram,
} from './guest.ts';
import type { Tally } from './tally.ts';

export const virtiofsd = '/usr/lib/qemu/virtiofsd';
const guestMemory = '8G';
const kernelOptions = [
  ...['console=ttyS0', 'quiet', 'panic=-1', 'no_timer_check'],
  // The default costs an exit from the emulation each time a program asks for the time.
  ...['clocksource=tsc', 'tsc=reliable'],
  // Nothing in the guest is to be kept from anything else in it.
  'mitigations=off',
] as const;
/** Milliseconds for everything that happens in the guest. */
const guestDeadlineMs = 60 * 60_000;

/** Puts the guest's first files into an archive, and gives its path. */
async function initialFiles(folder: string, layout: GuestLayout): Promise<string> {
  const root = join(folder, 'first');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'host', 'layer', 'root']) {
    await mkdir(join(root, name), { recursive: true });
  }
  const { stdout } = await runCommand('bash', ['-c', 'command -v busybox']);
  await cp(stdout.trim(), join(root, 'bin/busybox'), { dereference: true });
  const modules = join('lib/modules', layout.kernelRelease);
  const dependencies = await readFile(join(layout.modules, modules, 'modules.dep'), 'utf8');
  for (const module of earlyModules) {
    const line = dependencies.split('\n').find((each) => each.split(':')[0]?.endsWith(`/${module}.ko`));
    for (const file of line
      ?.replace(':', '')
      .split(' ')
      .filter((each) => each !== '') ?? []) {
      await mkdir(dirname(join(root, modules, file)), { recursive: true });
      await cp(join(layout.modules, modules, file), join(root, modules, file));
    }
  }
  await runCommand('busybox', ['depmod', '-b', root, layout.kernelRelease]);
  await writeFile(join(root, 'init'), firstProgram(layout), { mode: 0o755 });
  await writeFile(join(root, 'second'), secondProgram(layout));
  const archive = join(folder, 'first.cpio');
  await runCommand('bash', ['-c', 'cd "$1" && find . | busybox cpio -o -H newc > "$2"', 'pack', root, archive]);
  return archive;
}

/** The guest reaches this machine's loopback; one port there leads to the guest's containerd. */
function network({ containerdPort }: GuestLayout): string {
  return `user,id=network,hostfwd=tcp:127.0.0.1:${containerdPort}-:${guestContainerdPort}`;
}

/**
 * Runs a guest to its end and tells what its tests said; undefined when it ends without a word, or takes too long.
 *
 * @throws the reason of `signal`, with the guest ended, when that aborts
 */
export async function runGuest(folder: string, layout: GuestLayout, signal: AbortSignal): Promise<Tally | undefined> {
  const archive = await initialFiles(folder, layout);
  const socket = join(folder, 'files.sock');
  const files = spawn(virtiofsd, [
    `--socket-path=${socket}`,
    ...['-o', 'source=/', '-o', 'sandbox=chroot', '-o', 'cache=always', '--thread-pool-size=2'],
  ]);
  const ended = Promise.withResolvers<void>();
  files.once('error', ended.reject);
  // Awaited once the guest runs.
  ended.promise.catch(() => undefined);
  let guest: ChildProcess | undefined;
  try {
    await retry(() => runCommand('test', ['-S', socket]), { attempts: 6, firstDelayMs: 100 });
    const memory = `memory-backend-memfd,id=memory,size=${guestMemory},share=on`;
    guest = spawn(
      'qemu-system-x86_64',
      [
        ...['-nodefaults', '-nographic', '-no-reboot', '-machine', 'q35,memory-backend=memory'],
        ...['-accel', 'tcg,thread=multi', '-cpu', 'max,la57=off', '-smp', '2'],
        ...['-m', guestMemory, '-object', memory],
        ...['-kernel', join(layout.modules, 'boot', `vmlinuz-${layout.kernelRelease}`), '-initrd', archive],
        ...['-append', kernelOptions.join(' '), '-serial', 'stdio'],
        ...['-chardev', `socket,id=files,path=${socket}`],
        ...['-device', 'vhost-user-fs-pci,queue-size=1024,chardev=files,tag=host'],
        ...['-netdev', network(layout), '-device', 'virtio-net-pci,netdev=network'],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let outcome: Tally | undefined;
    const lines = createInterface({ input: guest.stdout ?? process.stdin });
    guest.once('error', ended.reject);
    guest.once('exit', () => ended.resolve());
    lines.on('line', (line) => {
      const said = line.indexOf(resultMark);
      if (said === -1) {
        console.log(`| ${line}`);
      } else {
        const [passed = 0, failed = 0, total = 0] = line
          .slice(said + resultMark.length)
          .trim()
          .split(' ')
          .map(Number);
        outcome = { passed, failed, total };
      }
    });
    const late = new AbortController();
    const tooLong = sleep(systemClock, guestDeadlineMs, late.signal).catch(() => undefined);
    await Promise.race([ended.promise, tooLong, untilAborted(signal)]).finally(() => late.abort());
    return outcome;
  } finally {
    guest?.kill('SIGKILL');
    files.kill('SIGKILL');
  }
}
