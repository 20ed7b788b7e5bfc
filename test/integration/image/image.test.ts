import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BuiltImage, buildImage } from '../../../hack/image/build-image.ts';
import { programFiles, systemPrograms } from '../../../hack/image/image-content.ts';
import { repositoryRoot } from '../../../local/common/repository.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { run } from '../../support/command.ts';
import { downloadError } from '../../support/download-error.ts';
import { type Lab, startLab } from '../../support/lab.ts';

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
}

interface Bill {
  readonly components: readonly { readonly name: string; readonly purl: string }[];
}

interface Manifest {
  readonly config: { readonly digest: string };
  readonly layers: readonly { readonly digest: string; readonly size: number }[];
}

const BUILD_MS = 10 * 60_000;
const progress = createProgress({ write: () => undefined });

async function blobOf(image: BuiltImage, digest: string): Promise<Buffer> {
  return readFile(join(image.layout, 'blobs/sha256', digest.slice('sha256:'.length)));
}

async function manifestOf(image: BuiltImage): Promise<Manifest> {
  return JSON.parse((await blobOf(image, image.digest)).toString('utf8')) as Manifest;
}

/** Names of everything in the image. */
async function filesOf(image: BuiltImage): Promise<readonly string[]> {
  const { layers } = await manifestOf(image);
  const lists = await Promise.all(
    layers.map(({ digest }) =>
      run('tar', ['-tzf', join(image.layout, 'blobs/sha256', digest.slice('sha256:'.length))]),
    ),
  );
  return lists.flatMap(({ stdout }) => stdout.split('\n'));
}

describe('the image of ESB', () => {
  let folder: string;
  let source: string;
  let image: BuiltImage;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-image-'));
    // A copy, since somebody may be working on the repository.
    source = join(folder, 'source');
    await mkdir(source);
    for (const name of [...programFiles, 'package-lock.json']) {
      await cp(join(repositoryRoot(), name), join(source, name), { recursive: true });
    }
    image = await buildImage({ progress, repository: source }).catch((error: unknown) => {
      const what = 'the image cannot be built, for which packages are downloaded';
      throw downloadError(what, error, ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'npm_config_registry']);
    });
  }, BUILD_MS);

  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('comes out the same, digest and all, when everything is built again from another folder by a user with another mask', {
    timeout: BUILD_MS,
  }, async () => {
    const repository = join(folder, 'elsewhere');
    await cp(source, repository, { recursive: true });
    await run('chmod', ['-R', 'go=', repository]);
    const again = await buildImage({ progress, repository, cache: join(folder, 'cache') });
    expect(again.layout).not.toBe(image.layout);
    expect(again.digest).toBe(image.digest);
  });

  it('is small enough to be pulled by every node: under 80 MB, of which a new version brings less than 2', async () => {
    const { layers } = await manifestOf(image);
    expect(layers.reduce((sum, { size }) => sum + size, 0)).toBeLessThan(80e6);
    expect(layers.at(-1)?.size).toBeLessThan(2e6);
  });

  it('has the packages of the lock file that are not for development, and no other', async () => {
    const lock = JSON.parse(await readFile(join(source, 'package-lock.json'), 'utf8')) as LockFile;
    const wanted = Object.entries(lock.packages)
      .filter(([path, entry]) => path !== '' && entry.dev !== true && entry.optional !== true)
      .map(([path]) => path)
      .filter((path) => !path.startsWith('node_modules/@types/'));
    const found = (await filesOf(image))
      .map((name) => /^opt\/esb\/(node_modules\/.*)\/package\.json$/.exec(name)?.[1] ?? '')
      .filter((path) => /(^|\/)node_modules\/(@[^/]+\/)?[^/]+$/.test(path));
    expect(found.toSorted()).toEqual(wanted.toSorted());
  });

  it('has no program but those that ESB runs: no shell, no package manager', async () => {
    const programs = (await filesOf(image)).flatMap((name) => /^usr\/s?bin\/(.+)$/.exec(name)?.[1] ?? []);
    expect([...new Set(programs)].toSorted()).toEqual([...systemPrograms].toSorted());
  });

  it('tells what it is made of: npm and Debian packages, Go modules of the plugins, Node.js', async () => {
    const { components } = JSON.parse(image.bill) as Bill;
    const named = (pattern: RegExp): number => components.filter(({ purl }) => pattern.test(purl)).length;
    for (const [name, purl] of [
      ['fastify', /^pkg:npm\/fastify@\d/],
      ['nftables', /^pkg:deb\/debian\/nftables@[^?]+\?arch=\w+&distro=debian-\d+$/],
      ['libc6', /^pkg:deb\/debian\/libc6@/],
      ['github.com/containernetworking/plugins', /^pkg:golang\/github\.com\/containernetworking\/plugins@v/],
      ['stdlib', /^pkg:golang\/stdlib@1\./],
      ['node', /^pkg:generic\/node@\d/],
    ] as const) {
      expect(components.find((each) => each.name === name)?.purl).toMatch(purl);
    }
    expect(named(/^pkg:npm\/(vitest|typescript|%40biomejs)/)).toBe(0);
    const records = (await filesOf(image)).filter((name) => /^var\/lib\/dpkg\/status\.d\/./.test(name));
    expect(records).toHaveLength(named(/^pkg:deb\//));
  });

  describe('under containerd', () => {
    let lab: Lab;

    beforeAll(async () => {
      lab = await startLab();
      const archive = join(folder, 'esb.tar');
      await run('tar', ['-cf', archive, '-C', image.layout, '.']);
      await lab.ctr('images', 'import', '--index-name', 'esb.test/esb:1', archive);
    });

    afterAll(async () => {
      await lab.close();
    });

    /** Runs the image as `ctr` does, its root read-only. */
    const inImage = (name: string, flags: readonly string[], args: readonly string[]): Promise<string> =>
      lab.ctr('run', '--rm', '--read-only', ...flags, 'esb.test/esb:1', `image-${name}`, ...args);

    it('runs as a user without rights, with its root read-only', async () => {
      const version = await inImage('version', [], ['/usr/local/bin/esb', '--version']);
      expect(version).toMatch(/^\d+\.\d+\.\d+\n$/);
      const user = await inImage('user', [], ['/usr/local/bin/node', '--print', 'process.getuid()']);
      expect(user).toBe('65532\n');
    });

    it('has what every module of the program imports', async () => {
      const entries = /(main|-process|-thread)\.ts$/;
      const modules = (await readdir(join(source, 'src'), { recursive: true }))
        .filter((name) => name.endsWith('.ts') && !entries.test(name))
        .map((name) => `/opt/esb/src/${name.replace(/ts$/, 'js')}`);
      const script = `for (const each of ${JSON.stringify(modules)}) await import(each); console.log('all of them');`;
      const said = await inImage(
        'modules',
        [],
        ['/usr/local/bin/node', '--no-strip-types', '--input-type=module', '--eval', script],
      );
      expect(said).toBe('all of them\n');
    });

    it('has the programs of the agent, in working order: rules, links, namespaces, mounts, holes in files', async () => {
      const commands: readonly (readonly [string, readonly string[], string?])[] = [
        ['nft', ['-f', '-'], 'table inet esb_try { chain c { type filter hook input priority 0; counter accept; }; }'],
        ['nft', ['-j', 'list', 'chains']],
        ['ip', ['netns', 'add', 'one']],
        ['ip', ['link', 'add', 'esb-try', 'type', 'veth', 'peer', 'name', 'esb-peer', 'netns', 'one']],
        ['ip', ['-j', 'link', 'show', 'type', 'veth']],
        ['nsenter', ['--net=/run/netns/one', '--', 'ip', 'link', 'set', 'lo', 'up']],
        ['ip', ['netns', 'delete', 'one']],
        ['fallocate', ['--length', '1', '/run/netns/two']],
        [
          'unshare',
          ['--net=/run/netns/two', 'ip', '-batch', '-'],
          'link set lo up\nroute replace unreachable 192.0.2.1\n',
        ],
        ['nsenter', ['--net=/run/netns/two', '--', 'ip', 'route', 'del', 'unreachable', '192.0.2.1']],
        ['ip', ['netns', 'delete', 'two']],
        ['fallocate', ['--length', '65536', '/run/file']],
        ['fallocate', ['--punch-hole', '--offset', '0', '--length', '4096', '/run/file']],
        ['mke2fs', ['-q', '-t', 'ext4', '/run/disk', '2048k']],
        ['debugfs', ['-w', '-R', 'rmdir lost+found', '/run/disk']],
        ['mount', ['-t', 'tmpfs', 'try', '/run/netns']],
        ['umount', ['/run/netns']],
        ['setpriv', ['--bounding-set=-all,+net_admin', '--inh-caps=-all', '--no-new-privs', 'esb', '--version']],
      ];
      const script = `
        const { spawnSync } = require('node:child_process');
        for (const [program, args, input] of ${JSON.stringify(commands)}) {
          const { status, stderr, error } = spawnSync(program, args, { input, encoding: 'utf8' });
          console.log(program, status ?? error.message, status === 0 ? '' : stderr);
        }`;
      const said = await inImage(
        'programs',
        ['--privileged', '--user', '0:0', '--mount', 'type=tmpfs,src=tmpfs,dst=/run,options=rw'],
        ['/usr/local/bin/node', '--eval', script],
      );
      expect(said).toBe(commands.map(([program]) => `${program} 0 \n`).join(''));
      expect([...new Set(commands.map(([program]) => program))].toSorted()).toEqual(systemPrograms.toSorted());
    });

    it('has the CNI plugins where the agent looks for them', async () => {
      const script = `
        const { spawnSync } = require('node:child_process');
        for (const name of require('node:fs').readdirSync('/opt/cni/bin').sort()) {
          const input = JSON.stringify({ cniVersion: '1.1.0' });
          const answer = spawnSync('/opt/cni/bin/' + name, { input, encoding: 'utf8', env: { CNI_COMMAND: 'VERSION' } });
          console.log(name, JSON.parse(answer.stdout).supportedVersions.includes('1.1.0'));
        }`;
      const said = await inImage('plugins', [], ['/usr/local/bin/node', '--eval', script]);
      expect(said).toBe('bridge true\nhost-local true\nloopback true\n');
    });

    it('has the init of workers where the agent looks for it', async () => {
      const script = "console.log(require('node:child_process').spawnSync('/usr/lib/esb/init').stderr.toString())";
      const said = await inImage('init', [], ['/usr/local/bin/node', '--eval', script]);
      expect(said).toMatch(/^init: the socket or the program is missing\n/);
    });
  });
});
