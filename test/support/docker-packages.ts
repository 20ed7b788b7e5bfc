import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type UnpackedPackages, unpacked } from './unpacked-packages.ts';

/** Debian's Docker engine in a folder of its own. */
export interface DockerPackages {
  /** With the engine's own programs first. */
  readonly env: NodeJS.ProcessEnv;
}

/** An installation would start an engine, which changes how the whole machine forwards packets. */
export const dockerEngine: UnpackedPackages = {
  name: 'docker',
  what: 'the Docker engine',
  debianPackage: 'docker.io',
  // The engine with what it runs, and libraries that not every machine has.
  wanted:
    /^(docker\.io|containerd|runc|tini|iptables|lib(devmapper|seccomp|systemd|ip4tc|ip6tc|xtables|nfnetlink|netfilter-conntrack|nftnl|mnl)[\d.t]*)$/,
  finish: async (root) => {
    // Packages leave the choice between two kinds of iptables to their installation.
    for (const name of ['iptables', 'ip6tables']) {
      await symlink('xtables-nft-multi', join(root, 'usr/sbin', name));
    }
  },
};

/**
 * How the engine's programs are run.
 *
 * @throws {Error} when they have not been unpacked yet; `npm test` does
 */
export function dockerPackages(): DockerPackages {
  const { libraries, root } = unpacked(dockerEngine);
  return {
    env: {
      ...process.env,
      PATH: `${join(root, 'usr/sbin')}:${join(root, 'usr/bin')}:${process.env.PATH ?? ''}`,
      LD_LIBRARY_PATH: libraries,
      XTABLES_LIBDIR: join(libraries, 'xtables'),
    },
  };
}
