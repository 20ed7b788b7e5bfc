import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './program.ts';

/**
 * Tests on real parts of a folder, for `npm test -- --changed`: those that show most in a minute or so. The longest
 * prefix counts.
 */
export const testsOfFolder: Readonly<Record<string, readonly string[]>> = {
  charts: ['integration/chart/chart', 'integration/chart/rendered'],
  crds: ['integration/crd-validation'],
  cni: ['integration/cni/bridges'],
  'hack/image': ['integration/image'],
  hack: ['integration/hack'],
  local: ['integration/local', 'e2e/02-'],
  manifests: ['integration/chart/rendered'],
  proto: ['integration/gateway/gateway', 'integration/agent/life'],
  src: ['integration/agent/life'],
  'src/agent': ['integration/agent/life', 'integration/agent/garbage', 'integration/agent/memory'],
  'src/agent/node': ['integration/agent/life', 'integration/agent/retire'],
  'src/api': ['integration/crd-validation'],
  'src/cli': ['integration/cli'],
  'src/cni': ['integration/cni/bridges', 'integration/cni/reservations', 'integration/cni/node-network'],
  'src/common': ['integration/kube/machinery', 'integration/runtime/lifecycle'],
  'src/containerd': ['integration/runtime/lifecycle', 'integration/runtime/exits'],
  'src/controller': ['integration/controller/controller'],
  'src/docker': ['integration/runtime/docker-engine'],
  'src/gateway': ['integration/gateway/gateway', 'integration/gateway/conformance/limits'],
  'src/gateway/access': ['integration/gateway/conformance/authentication'],
  'src/gateway/url': ['integration/gateway/browser'],
  'src/gateway/events': ['integration/gateway/event-store'],
  'src/kube': ['integration/kube'],
  'src/oci': ['integration/oci', 'integration/runtime/lifecycle'],
  'src/runtime': ['integration/runtime/lifecycle', 'integration/runtime/exits', 'integration/runtime/restarts'],
  'src/runtime/docker': ['integration/runtime/docker-engine'],
  'src/runtime/images': ['integration/runtime/image-pulls'],
  'src/runtime/logs': ['integration/runtime/logs'],
  init: ['integration/init'],
  'test/images': ['integration/init/images'],
  'test/support': ['integration/runtime/lifecycle', 'integration/agent/life', 'integration/gateway/gateway'],
};

/** Files that differ from a Git reference, in commits, in the work tree or as new files. */
export function changedFiles(ref: string): readonly string[] {
  const git = (...args: readonly string[]): readonly string[] =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8' })
      .split('\n')
      .filter((line) => line !== '');
  const base = git('merge-base', ref, 'HEAD')[0] ?? ref;
  return [
    ...git('diff', '--name-only', '--diff-filter=d', base),
    ...git('ls-files', '--others', '--exclude-standard'),
  ].toSorted();
}

/** Test files on real parts that a change of these files calls for: the changed ones, and those of the folders. */
export function affectedBy(files: readonly string[], all: readonly string[]): readonly string[] {
  const beginnings = files.flatMap((file) => testsOfFolder[folderOf(file)] ?? []);
  const real = all.filter((file) => !file.startsWith('test/unit/'));
  return real.filter(
    (test) => files.includes(test) || beginnings.some((beginning) => test.startsWith(`test/${beginning}`)),
  );
}

/** Unit tests that read the source or the pages as text. */
const readers = ['test/unit/imports.test.ts', 'test/unit/conformance.test.ts', 'test/unit/documentation.test.ts'];

/**
 * Unit tests that a change of these files calls for: the changed ones, those of the folder of the same name, those that
 * import a changed file themselves, and those that read the source as text.
 *
 * @param textOf the source of a test
 */
export function unitTestsOf(
  files: readonly string[],
  all: readonly string[],
  textOf = (test: string): string => readFileSync(join(root, test), 'utf8'),
): readonly string[] {
  const folders = files.flatMap((file) => {
    const [top = '', room = ''] = file.split('/');
    return file.startsWith('test/unit/') ? [] : [`test/unit/${top === 'src' || top === 'test' ? room : top}/`];
  });
  const names = new Set(files);
  const imports = (test: string): boolean =>
    [...textOf(test).matchAll(/from '(\.[^']+)'/g)].some(([, path = '']) => names.has(join(test, '..', path)));
  return all.filter(
    (test) =>
      names.has(test) || readers.includes(test) || folders.some((folder) => test.startsWith(folder)) || imports(test),
  );
}

/** The longest prefix of the file's path in the table. */
function folderOf(file: string): string {
  const fitting = Object.keys(testsOfFolder).filter((folder) => file.startsWith(`${folder}/`));
  return fitting.toSorted((one, other) => other.length - one.length)[0] ?? '';
}
