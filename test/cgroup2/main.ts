// Runs the tests of freezing, thawing, limits and OOM under a kernel whose control groups are version 2 and nothing else: in a
// virtual machine emulated in software (qemu), which sees this machine's files and changes none of them.
//   npm run test:cgroup2 [-- FILE ...]
import { type ChildProcess, spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { runCommand } from '../../src/cli/command.ts';
import { ensureNeeds } from '../../src/cli/debian-packages.ts';
import { ensurePackageLists } from '../../src/cli/debian-root.ts';
import { createProgress, type Progress, type Step } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import { cacheFolder, repositoryRoot } from '../../src/cli/tool-cache.ts';
import { systemClock } from '../../src/common/clock.ts';
import { sleep } from '../../src/common/deadline.ts';
import { EsbError } from '../../src/common/errors.ts';
import { workerProgram } from '../support/test-image.ts';
import { earlyModules, firstProgram, type GuestLayout, resultMark, secondProgram } from './guest.ts';

const usualTests = [
  'test/integration/runtime/lifecycle.test.ts',
  'test/integration/runtime/thaw.test.ts',
  'test/integration/runtime/exits.test.ts',
];
const kernelPackage = 'linux-image-cloud-amd64';
const virtiofsd = '/usr/lib/qemu/virtiofsd';
const guestMemory = '6G';
/** Milliseconds for everything that happens in the guest. */
const guestDeadlineMs = 15 * 60_000;

const needs = [
  { program: 'qemu-system-x86_64', debianPackage: 'qemu-system-x86', purpose: 'the virtual machine' },
  { file: virtiofsd, debianPackage: 'qemu-system-common', purpose: 'files for the virtual machine' },
  { program: 'busybox', debianPackage: 'busybox-static', purpose: 'starting the virtual machine' },
] as const;

/** A kernel of Debian's, unpacked: `boot/vmlinuz-<release>` and `lib/modules/<release>`. */
async function unpackedKernel(step: Step): Promise<string> {
  await ensurePackageLists(kernelPackage, step);
  const { stdout } = await runCommand('apt-cache', ['depends', kernelPackage]);
  const name = /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
  if (name === undefined) {
    throw new EsbError(`apt knows no kernel behind ${kernelPackage}`, { code: 'PackagesMissing' });
  }
  const folder = join(cacheFolder(), 'cgroup2', name);
  if ((await readdir(folder).catch(() => [])).length > 0) {
    return folder;
  }
  const fresh = `${folder}.${process.pid}`;
  await mkdir(fresh, { recursive: true });
  try {
    step.note(`apt-get download ${name}`);
    await retry(() =>
      runCommand('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', name], {
        cwd: fresh,
        deadlineMs: 300_000,
      }),
    );
    for (const file of (await readdir(fresh)).filter((each) => each.endsWith('.deb'))) {
      await runCommand('dpkg-deb', ['-x', join(fresh, file), fresh], { deadlineMs: 120_000 });
      await rm(join(fresh, file));
    }
    const [release = ''] = await readdir(join(fresh, 'lib/modules'));
    await runCommand('busybox', ['depmod', '-b', fresh, release]);
    await rename(fresh, folder);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  return folder;
}

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
  await runCommand('bash', [
    '-c',
    'cd "$1" && find . | busybox cpio -o -H newc > "$2"',
    'pack',
    root,
    archive,
  ]);
  return archive;
}

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly total: number;
}

/** Runs the guest to its end and tells what its tests said. */
async function runGuest(folder: string, archive: string, layout: GuestLayout): Promise<Outcome | undefined> {
  const socket = join(folder, 'files.sock');
  const files = spawn(virtiofsd, [
    `--socket-path=${socket}`,
    ...['-o', 'source=/', '-o', 'sandbox=chroot', '-o', 'cache=always', '--thread-pool-size=2'],
  ]);
  let guest: ChildProcess | undefined;
  try {
    await retry(() => runCommand('test', ['-S', socket]), { attempts: 6, firstDelayMs: 100 });
    const memory = `memory-backend-memfd,id=memory,size=${guestMemory},share=on`;
    guest = spawn(
      'qemu-system-x86_64',
      [
        ...['-nodefaults', '-nographic', '-no-reboot', '-machine', 'q35,memory-backend=memory'],
        ...['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', '2', '-m', guestMemory, '-object', memory],
        ...['-kernel', join(layout.modules, 'boot', `vmlinuz-${layout.kernelRelease}`), '-initrd', archive],
        ...['-append', 'console=ttyS0 quiet panic=-1 no_timer_check', '-serial', 'stdio'],
        ...['-chardev', `socket,id=files,path=${socket}`],
        ...['-device', 'vhost-user-fs-pci,queue-size=1024,chardev=files,tag=host'],
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let outcome: Outcome | undefined;
    const lines = createInterface({ input: guest.stdout ?? process.stdin });
    const ended = new Promise<void>((resolve) => guest?.once('exit', () => resolve()));
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
    await Promise.race([ended, sleep(systemClock, guestDeadlineMs, late.signal).catch(() => undefined)]);
    late.abort();
    return outcome;
  } finally {
    guest?.kill('SIGKILL');
    files.kill('SIGKILL');
  }
}

async function main(tests: readonly string[], progress: Progress): Promise<number> {
  await ensureNeeds(needs, progress);
  const modules = await progress.step('kernel of the virtual machine', unpackedKernel);
  await progress.step('test worker', () => workerProgram());
  const [kernelRelease = ''] = await readdir(join(modules, 'lib/modules'));
  const repository = repositoryRoot();
  const layout: GuestLayout = {
    kernelRelease,
    modules,
    repository,
    path: [
      join(repository, 'node_modules/.bin'),
      ...(process.env.PATH ?? '').split(delimiter),
      '/usr/sbin',
      '/usr/bin',
    ],
    home: homedir(),
    kept: ['esb-test-worker'],
    tests,
  };
  const folder = await mkdtemp(join(tmpdir(), 'esb-cgroup2-'));
  try {
    const began = performance.now();
    const archive = await initialFiles(folder, layout);
    const outcome = await runGuest(folder, archive, layout);
    const seconds = Math.round((performance.now() - began) / 1000);
    if (outcome === undefined) {
      console.log(`the virtual machine ended after ${seconds} s without a result`);
      return 1;
    }
    const { passed, failed, total } = outcome;
    console.log(`control groups version 2: ${passed} of ${total} passed, ${failed} failed, ${seconds} s`);
    return passed > 0 && passed === total ? 0 : 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const given = process.argv.slice(2);
const progress = createProgress({ write: (text) => process.stdout.write(text) });
process.exitCode = await main(given.length === 0 ? usualTests : given, progress);
