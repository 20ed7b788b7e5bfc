import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Which folders of src a folder may import from, beside itself (design, section 7). */
const allowed: Readonly<Record<string, readonly string[]>> = {
  api: [],
  common: [],
  kube: ['api', 'common'],
  containerd: ['api', 'common'],
  oci: ['api', 'common'],
  cni: ['api', 'common'],
  runtime: ['api', 'common', 'containerd', 'oci', 'cni'],
  agent: ['api', 'common', 'kube', 'containerd', 'oci', 'cni', 'runtime'],
  controller: ['api', 'common', 'kube'],
  gateway: ['api', 'common', 'kube'],
  cli: ['api', 'common', 'kube', 'containerd', 'oci', 'cni', 'runtime', 'agent', 'controller', 'gateway'],
};

const root = resolve(import.meta.dirname, '../../src');

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] ?? '');
}

/** The imports of `text`, as if it stood at `file`, that the table above does not allow. */
function forbiddenImports(file: string, text: string): string[] {
  const folder = relative(root, file).split('/')[0] ?? '';
  return importsOf(text)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => relative(root, resolve(dirname(file), specifier)))
    .filter((target) => {
      const targetFolder = target.split('/')[0] ?? '';
      return targetFolder !== folder && !(allowed[folder] ?? []).includes(targetFolder);
    });
}

describe('imports', () => {
  const folders = readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);

  it('has a rule for every folder', () => {
    expect(folders.toSorted()).toEqual(Object.keys(allowed).toSorted());
  });

  it.each(folders)('of src/%s go one way', (folder) => {
    const broken = filesBelow(join(root, folder)).flatMap((file) =>
      forbiddenImports(file, readFileSync(file, 'utf8')).map(
        (target) => `${relative(root, file)} -> ${target}`,
      ),
    );
    expect(broken).toEqual([]);
  });

  it('are found where they break the rule', () => {
    const text = "import { plan } from '../agent/plan.ts';\nconst later = await import('../cli/up.ts');";
    expect(forbiddenImports(join(root, 'gateway/example.ts'), text)).toEqual(['agent/plan.ts', 'cli/up.ts']);
  });

  it('of the entry point reach the roles lazily', () => {
    const text = readFileSync(join(root, 'main.ts'), 'utf8');
    const eager = [...text.matchAll(/^import (?!type)[^;]*from '(\.[^']+)'/gm)].map((match) => match[1]);
    expect(eager.filter((specifier) => !specifier?.startsWith('./common/'))).toEqual([]);
  });
});
