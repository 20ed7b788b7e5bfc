import type { ImageRunConfig } from '../../local/image/image-layout.ts';

/** Where the program is in the image. */
export const PROGRAM_FOLDER = '/opt/esb';
/** Where the CNI plugins are in the image; what the agent takes without `--cni-bin-dir`. */
export const CNI_FOLDER = '/opt/cni/bin';
/** The init of workers in the image; what the agent takes without `--init-program`. */
export const INIT_FILE = '/usr/lib/esb/init';
/** Where the image says what it is made of. */
export const BILL_FILE = '/usr/share/esb/sbom.cdx.json';
/** Default user of the program. The agent has to be root, and its DaemonSet says so. */
export const USER_ID = 65532;

/** Debian packages that are asked for; what they need comes with them. */
export const debianRoots = [
  'base-files',
  'ca-certificates',
  'e2fsprogs',
  'iproute2',
  'libatomic1',
  'libstdc++6',
  'mount',
  'nftables',
  'util-linux',
] as const;

/**
 * The packages of their closure that are kept: those that hold a program or library that runs. The others only serve
 * packages while they are installed, which nothing ever is in the image.
 */
export const debianPackages =
  /^(base-files|ca-certificates|e2fsprogs|iproute2|mount|nftables|util-linux|gcc-\d+-base|libatomic1|libblkid1|libbpf1|libbsd0|libc6|libcap-ng0|libcap2|libcom-err2|libedit2|libelf1(t64)?|libext2fs2(t64)?|libgcc-s1|libgmp10|libjansson4|libmd0|libmnl0|libmount1|libnftables1|libnftnl11|libpcre2-8-0|libselinux1|libss2|libstdc\+\+6|libtinfo6|libuuid1|libxtables12|libzstd1|zlib1g)$/;

/** Programs of these packages that are kept: what the agent runs and what one looks around on a node with. */
export const systemPrograms = [
  'debugfs',
  'fallocate',
  'ip',
  'mke2fs',
  'mount',
  'nft',
  'nsenter',
  'setpriv',
  'umount',
  'unshare',
] as const;

/** Paths of the packages that are left out beside their other programs; relative to the root. */
export const debianLeftOut = [
  'etc/cron.d',
  'etc/default',
  'etc/e2scrub.conf',
  'etc/mke2fs.conf',
  'etc/init.d',
  'etc/issue',
  'etc/issue.net',
  'etc/pam.d',
  'etc/profile.d',
  'etc/skel',
  'etc/update-motd.d',
  'etc/motd',
  'usr/games',
  'usr/include',
  'usr/lib/mime',
  'usr/lib/systemd',
  'usr/share/bash-completion',
  'usr/share/bug',
  'usr/share/gcc',
  'usr/share/gdb',
  'usr/share/info',
  'usr/share/initramfs-tools',
  'usr/share/libc-bin',
  'usr/share/lintian',
  'usr/share/locale',
  'usr/share/man',
  'usr/share/nftables',
  'usr/share/util-linux',
  'usr/src',
] as const;

/**
 * Folders of libraries without a use here: character sets beside UTF-8, modules of the linker and of `tc`.
 */
export const leftOutLibraryFolders = ['gconv', 'audit', 'tc'] as const;

/** Files and folders of the repository that are the program. */
export const programFiles = ['LICENSE', 'package.json', 'cni', 'crds', 'proto', 'src'] as const;

/** How `npm ci` is called for the packages of the program, also where there is a Docker engine. */
export const npmArguments = [
  'ci',
  '--omit=dev',
  '--omit=optional',
  '--ignore-scripts',
  '--prefer-offline',
  '--no-audit',
  '--no-fund',
] as const;

/** Whether a file of an npm package is of no use to the program. `path` is relative to `node_modules`. */
export function isLeftOutOfModules(path: string): boolean {
  return (
    /\.(d\.[cm]?ts|[cm]?ts|map|md|markdown)$/.test(path) ||
    /(^|\/)(\.package-lock\.json|\.bin|\.github|\.husky|\.circleci)$/.test(path) ||
    /^@types$/.test(path) ||
    /^(@[^/]+\/)?[^/@.][^/]*\/(test|tests|__tests__|example|examples|benchmark|benchmarks)$/.test(path) ||
    // Native parts for another runtime than Node.js: no package of the program depends on the processor.
    /\/prebuilds$/.test(path)
  );
}

/** Entrypoint: `esb` with the name of a role or command and its options as arguments. */
export const runConfig: ImageRunConfig = {
  Entrypoint: ['/usr/local/bin/esb'],
  Cmd: ['--help'],
  Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'NODE_ENV=production'],
  WorkingDir: '/',
  User: `${USER_ID}:${USER_ID}`,
};

/**
 * The command `esb` of the image. The kernel passes one argument to the program of such a line, and there is no `env`.
 */
export const launcher = `#!/usr/local/bin/node --disable-warning=ExperimentalWarning
import '${PROGRAM_FOLDER}/src/main.js';
`;

/** Files that no package brings. */
export const systemFiles: Readonly<Record<string, string>> = {
  'etc/passwd': `root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
esb:x:${USER_ID}:${USER_ID}:esb:/nonexistent:/sbin/nologin
`,
  'etc/group': `root:x:0:\nnogroup:x:65534:\nesb:x:${USER_ID}:\n`,
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n',
};
