import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { lockProgram } from '../../local/common/program-lock.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from '../../local/image/debian-root.ts';
import { cacheFolder } from '../../local/tools/tool-cache.ts';
import type { Progress } from '../../src/cli/progress.ts';

/** Debian's Docker engine in a folder of its own. */
export interface DockerPackages {
  /** With the engine's own programs first. */
  readonly env: NodeJS.ProcessEnv;
}

const ENGINE = 'docker.io';
/**
 * The engine with what it runs, and libraries that not every machine has. The C library is the machine's own.
 */
const WANTED =
  /^(docker\.io|containerd|runc|tini|iptables|lib(devmapper|seccomp|systemd|ip4tc|ip6tc|xtables|nfnetlink|netfilter-conntrack|nftnl|mnl)[\d.t]*)$/;
const LIBRARIES: Readonly<Record<string, string>> = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/**
 * Unpacks Debian's `docker.io` into the user cache, once. An installation would start an engine, which changes how the
 * whole machine forwards packets.
 *
 * @throws {EsbError} `PackagesMissing`
 */
export async function ensureDockerPackages(progress: Progress): Promise<void> {
  const folder = dockerFolder();
  if (existsSync(folder)) {
    return;
  }
  await progress.step('unpacking the Docker engine of Debian', async (step) => {
    await mkdir(join(cacheFolder(), 'docker'), { recursive: true });
    const lock = await lockProgram(join(cacheFolder(), 'docker', 'lock'), {
      onWait: () => step.note('waiting for another process that unpacks it'),
    });
    try {
      if (existsSync(folder)) {
        return;
      }
      const staging = `${folder}.unfinished`;
      await rm(staging, { recursive: true, force: true });
      await ensurePackageLists(ENGINE, step);
      await unpackDebianPackages(await debianClosure([ENGINE], WANTED), staging, step);
      // Packages leave the choice between two kinds of iptables to their installation.
      for (const name of ['iptables', 'ip6tables']) {
        await symlink('xtables-nft-multi', join(staging, 'usr/sbin', name));
      }
      await rename(staging, folder);
    } finally {
      await lock.release();
    }
  });
}

/**
 * How the engine's programs are run.
 *
 * @throws {Error} when they have not been unpacked yet; `npm test` does
 */
export function dockerPackages(): DockerPackages {
  const root = dockerFolder();
  if (!existsSync(root)) {
    throw new Error('the Docker engine has not been unpacked; run: npm test -- programs');
  }
  const libraries = join(root, 'usr/lib', LIBRARIES[process.arch] ?? '');
  return {
    env: {
      ...process.env,
      PATH: `${join(root, 'usr/sbin')}:${join(root, 'usr/bin')}:${process.env.PATH ?? ''}`,
      LD_LIBRARY_PATH: libraries,
      XTABLES_LIBDIR: join(libraries, 'xtables'),
    },
  };
}

function dockerFolder(): string {
  const key = createHash('sha256').update(`${WANTED} ${process.arch}`).digest('hex').slice(0, 16);
  return join(cacheFolder(), 'docker', `root-${key}`);
}
