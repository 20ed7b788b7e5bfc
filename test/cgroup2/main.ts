// Runs tests under a kernel whose control groups are version 2 and nothing else, in a virtual machine emulated in
// software (qemu) that sees this machine's files and changes none of them: freezing, thawing, limits and OOM on a
// containerd of their own, then end-to-end tests on a local instance whose containerd, agent and gateway run there.
//   npm run test:cgroup2 [-- FILE ...]
import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { ensurePackageLists } from '../../local/image/debian-root.ts';
import { ensureSampleImage } from '../../local/image/sample-image.ts';
import { requireRootOnLinux } from '../../local/instance/machine.ts';
import { ensureInitProgram } from '../../local/tools/built-program.ts';
import { ensureNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress, type Step } from '../../src/cli/progress.ts';
import { retry } from '../../src/cli/retry.ts';
import { foreignCode } from '../../src/common/error-codes.ts';
import { EsbError } from '../../src/common/errors.ts';
import { runHeldApart } from '../support/held-apart.ts';
import { workerProgram } from '../support/test-image.ts';
import { virtiofsd } from './virtual-machine.ts';

const usualTests = [
  'test/integration/runtime/lifecycle.test.ts',
  'test/integration/runtime/thaw.test.ts',
  'test/integration/runtime/exits.test.ts',
  'test/e2e/04-invoke.test.ts',
  'test/e2e/05-pause.test.ts',
  'test/e2e/06-idle.test.ts',
  'test/e2e/11-agent-restart.test.ts',
];
const kernelPackage = 'linux-image-cloud-amd64';

const needs = [
  ...runningNeeds,
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
    throw new EsbError(`apt knows no kernel behind ${kernelPackage}`, {
      code: foreignCode('PackagesMissing'),
    });
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

/** Everything that comes from the network, which the rest does not have. Gives the folder of the kernel. */
async function prepare(): Promise<string> {
  const progress = createProgress({ write: (text) => process.stdout.write(text) });
  await ensureNeeds(needs, progress);
  if (!existsSync(virtiofsd)) {
    throw new EsbError(
      `there is no ${virtiofsd} on this machine: the package qemu-system-common has it up to Debian 12. ` +
        'Run the tests in Debian 12, or in a container of it that may do everything',
      { code: foreignCode('PackagesMissing') },
    );
  }
  const { folder } = await ensureTools({ progress });
  await ensureInitProgram({ progress });
  await ensureSampleImage('python-counter', { progress, tools: folder });
  await progress.step('test worker', () => workerProgram());
  return progress.step('kernel of the virtual machine', unpackedKernel);
}

/**
 * The files to run.
 *
 * @throws {EsbError} `InvalidArgument` for what is no file that the guest runs
 */
function chosenTests(given: readonly string[]): readonly string[] {
  for (const file of given) {
    const runs = /^test\/(integration|e2e)\/(?!01-).+\.test\.ts$/.test(file);
    if (!runs || !existsSync(join(repositoryRoot(), file))) {
      throw new EsbError(
        `${file} is no test that runs in the virtual machine. Name files of test/integration or test/e2e, ` +
          `from the root of the repository, such as ${usualTests[0]}; test/e2e/01-* brings up an instance of its own`,
        { code: 'InvalidArgument' },
      );
    }
  }
  return given.length === 0 ? usualTests : given;
}

/**
 * Programs that no package brings.
 *
 * @throws {EsbError} `Unsupported`, `NotRoot`
 */
function requireMachine(): void {
  requireRootOnLinux('test:cgroup2');
  if (process.arch !== 'x64') {
    throw new EsbError(
      `the virtual machine runs the programs of this machine on an x86-64 kernel, and this is ${process.arch}`,
      {
        code: foreignCode('Unsupported'),
      },
    );
  }
}

requireMachine();
const tests = chosenTests(process.argv.slice(2));
const modules = await prepare();
process.exitCode = await runHeldApart([
  '--disable-warning=ExperimentalWarning',
  join(import.meta.dirname, 'outside.ts'),
  modules,
  ...tests,
]);
