import { createHash } from 'node:crypto';
import { runCommand } from '../../local/common/command.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import type { DebianPackage } from './base-root.ts';
import type { Architecture } from './target.ts';

/** One thing that the image is made of, as CycloneDX tells of it. */
interface Component {
  readonly 'bom-ref': string;
  readonly type: string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
}

/** Output of `npm sbom`, as far as it is read here. */
interface NpmBill {
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly [key: string]: unknown;
}

export interface BillOptions extends Pick<CallOptions, 'signal'> {
  /** Folder of the repository. */
  readonly repository: string;
  readonly architecture: Architecture;
  readonly debianPackages: readonly DebianPackage[];
  /** Release of Debian that the packages are of, such as `12`. */
  readonly debianRelease: string;
  /** Programs that were built from Go modules. */
  readonly goPrograms: readonly string[];
}

/**
 * Bill of materials of the image, as CycloneDX in JSON: npm packages of the lock file, Debian packages, Go modules of
 * the CNI plugins, and Node.js. The same parts give the same text.
 *
 * @throws {EsbError} `CommandFailed` with what npm or Go said
 */
export async function writeBill(options: BillOptions): Promise<string> {
  const npm = await npmBill(options);
  const components: Component[] = [
    ...npm.components,
    component('application', 'node', process.versions.node, `pkg:generic/node@${process.versions.node}`),
    ...options.debianPackages.map(({ name, version, architecture: own }) =>
      component(
        'library',
        name,
        version,
        `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${own}&distro=debian-${options.debianRelease}`,
      ),
    ),
    ...(await goModules(options)),
  ];
  const bill = {
    ...npm,
    metadata: {
      // When and by which version of npm it was written would make two bills of the same image differ.
      component: { ...npm.metadata.component, name: 'esb', type: 'container' },
      properties: [{ name: 'esb:architecture', value: options.architecture }],
    },
    components,
  };
  const text = (serialNumber: string): string => `${JSON.stringify({ ...bill, serialNumber }, undefined, 1)}\n`;
  return text(`urn:uuid:${uuidOf(text(''))}`);
}

async function npmBill(options: BillOptions): Promise<NpmBill> {
  const args = ['sbom', '--sbom-format=cyclonedx', '--package-lock-only', '--omit=dev', '--omit=optional'];
  const { stdout } = await runCommand('npm', args, { cwd: options.repository, signal: options.signal });
  return JSON.parse(stdout) as NpmBill;
}

/** Go writes into each program what it was built from. */
async function goModules(options: BillOptions): Promise<Component[]> {
  if (options.goPrograms.length === 0) {
    return [];
  }
  const { stdout } = await runCommand('go', ['version', '-m', ...options.goPrograms], {
    signal: options.signal,
  });
  const found = new Map<string, Component>();
  for (const [, name = '', version = ''] of stdout.matchAll(/^\t(?:dep|mod|=>)\t(\S+)\t(v\S+)/gm)) {
    found.set(`${name}@${version}`, component('library', name, version, `pkg:golang/${name}@${version}`));
  }
  const go = /: go(\d\S*)/.exec(stdout)?.[1] ?? '';
  found.set('stdlib', component('library', 'stdlib', go, `pkg:golang/stdlib@${go}`));
  return [...found.keys()].sort().flatMap((key) => found.get(key) ?? []);
}

function component(type: string, name: string, version: string, purl: string): Component {
  return { 'bom-ref': purl, type, name, version, purl };
}

/** A name-based UUID (RFC 9562, version 8: of our own making) of a text. */
function uuidOf(text: string): string {
  const hex = createHash('sha256').update(text).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
