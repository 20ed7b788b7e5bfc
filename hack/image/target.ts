import { access, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../local/common/command.ts';
import { builtProgram, ensureInitProgram, initSource } from '../../local/tools/built-program.ts';
import { ensureNeeds } from '../../local/tools/debian-packages.ts';
import type { Progress } from '../../src/cli/progress.ts';
import { EsbError } from '../../src/common/errors.ts';

/** Facts of a processor that an image can be made for, in the words of those who name it. */
const processors = {
  amd64: { node: 'x64', compiler: 'x86_64-linux-gnu', packages: 'x86-64-linux-gnu' },
  arm64: { node: 'arm64', compiler: 'aarch64-linux-gnu', packages: 'aarch64-linux-gnu' },
} as const;

/** A processor in the words of Go, Debian and images. */
export type Architecture = keyof typeof processors;

export const architectures = Object.keys(processors) as readonly Architecture[];

/** Programs and settings to make an image for one processor, without running anything of the image. */
export interface ImageTarget {
  readonly architecture: Architecture;
  /** Environment of apt and Go. */
  readonly env: NodeJS.ProcessEnv;
  readonly strip: string;
  /** Program of Node.js for the target. */
  readonly node: string;
  /** The init of workers for the target. */
  readonly initProgram: string;
  /** Folder of programs of Go for the target; undefined for the user cache. */
  readonly toolCache: string | undefined;
}

const PACK_DEADLINE_MS = 5 * 60_000;

/** The processor of this machine. */
export function ownArchitecture(): Architecture {
  const found = architectures.find((each) => processors[each].node === process.arch);
  if (found === undefined) {
    throw new EsbError(`images are made for ${architectures.join(' and ')}, and not for ${process.arch}`, {
      code: 'InvalidArgument',
    });
  }
  return found;
}

/**
 * Architectures of a list such as `linux/amd64,linux/arm64`.
 *
 * @throws {EsbError} `InvalidArgument` for any other text
 */
export function parsePlatforms(text: string): readonly Architecture[] {
  const found = text.split(',').map((each) => architectures.find((architecture) => each === `linux/${architecture}`));
  const known = found.filter((each) => each !== undefined);
  if (known.length !== found.length || new Set(known).size !== known.length) {
    const wanted = architectures.map((each) => `linux/${each}`).join(',');
    throw new EsbError(`${text} is no list of platforms such as ${wanted}`, { code: 'InvalidArgument' });
  }
  return known;
}

/**
 * Gets ready to make an image. For another processor than that of this machine: the package lists of Debian for it, in
 * a folder of their own, Node.js from npm, and the init by a cross compiler.
 *
 * @throws {EsbError} `PackagesMissing` without the cross compiler, with what to install
 */
export async function prepareTarget(
  architecture: Architecture,
  cache: string,
  { progress, signal }: { readonly progress: Progress; readonly signal?: AbortSignal | undefined },
): Promise<ImageTarget> {
  if (architecture === ownArchitecture()) {
    const initProgram = await ensureInitProgram({ progress, signal });
    const { env, execPath: node } = process;
    return { architecture, env, strip: 'strip', node, initProgram, toolCache: undefined };
  }
  const { compiler, packages } = processors[architecture];
  const purpose = `making an image for ${architecture}`;
  await ensureNeeds(
    [
      { program: 'make', debianPackage: 'make', purpose },
      { program: `${compiler}-strip`, debianPackage: `binutils-${packages}`, purpose },
      { program: `${compiler}-gcc`, debianPackage: `gcc-${packages}`, purpose },
      { file: `/usr/${compiler}/include/stdlib.h`, debianPackage: `libc6-dev-${architecture}-cross`, purpose },
    ],
    progress,
    signal,
  );
  const folder = join(cache, architecture);
  const initProgram = await builtProgram(`init-${architecture}`, initSource, (program) =>
    runCommand('make', [`PROGRAM=${program}`, `CC=${compiler}-gcc`], { cwd: initSource, signal }),
  );
  return {
    architecture,
    env: { ...process.env, APT_CONFIG: await writeAptConfig(join(folder, 'apt'), architecture), GOARCH: architecture },
    strip: `${compiler}-strip`,
    node: await nodeFromNpm(architecture, folder, { progress, signal }),
    initProgram,
    toolCache: folder,
  };
}

/** Configuration of apt (apt.conf(5), `APT_CONFIG`) for another processor; the lists of this machine stay as they are. */
async function writeAptConfig(folder: string, architecture: Architecture): Promise<string> {
  await mkdir(join(folder, 'state/lists/partial'), { recursive: true });
  await mkdir(join(folder, 'cache/archives/partial'), { recursive: true });
  await writeFile(join(folder, 'status'), '');
  const file = join(folder, 'apt.conf');
  await writeFile(
    file,
    [
      `APT::Architecture "${architecture}";`,
      `APT::Architectures { "${architecture}"; };`,
      `APT::Sandbox::User "root";`,
      `Dir::State "${join(folder, 'state')}";`,
      `Dir::State::status "${join(folder, 'status')}";`,
      `Dir::Cache "${join(folder, 'cache')}";`,
      '',
    ].join('\n'),
  );
  return file;
}

/** Node.js of the version that runs this, from the package of npm that the project's own is from. */
async function nodeFromNpm(
  architecture: Architecture,
  folder: string,
  { progress, signal }: { readonly progress: Progress; readonly signal?: AbortSignal | undefined },
): Promise<string> {
  const name = `node-linux-${processors[architecture].node}@${process.versions.node}`;
  return await builtFile(join(folder, `node-${process.versions.node}`), async (into) => {
    await progress.step(`fetching ${name}`, async () => {
      await runCommand('npm', ['pack', '--silent', '--pack-destination', into, name], {
        signal,
        deadlineMs: PACK_DEADLINE_MS,
      });
      await runCommand('bash', ['-c', 'tar -xzf "$1"/*.tgz -C "$1" package/bin/node', 'unpack', into], { signal });
    });
    return join(into, 'package/bin/node');
  });
}

async function builtFile(path: string, make: (folder: string) => Promise<string>): Promise<string> {
  try {
    await access(path);
    return path;
  } catch {
    const staging = await mkdtemp(`${path}-`);
    try {
      await rename(await make(staging), path);
      return path;
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }
}
