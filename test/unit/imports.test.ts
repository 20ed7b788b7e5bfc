import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Which folders of src a folder may import from, beside itself (design, section 7). */
const allowed: Readonly<Record<string, readonly string[]>> = {
  api: [],
  common: [],
  kube: ['api', 'common'],
  containerd: ['api', 'common'],
  docker: ['api', 'common'],
  oci: ['api', 'common'],
  cni: ['api', 'common'],
  runtime: ['api', 'common', 'containerd', 'docker', 'oci', 'cni'],
  agent: ['api', 'common', 'kube', 'containerd', 'oci', 'cni', 'runtime'],
  controller: ['api', 'common', 'kube'],
  gateway: ['api', 'common', 'kube'],
  cli: ['api', 'common', 'kube', 'containerd', 'oci', 'cni', 'runtime', 'agent', 'controller', 'gateway'],
};

/** Which of its own folders, and files beside them, a folder of the gateway may import from. */
const allowedInGateway: Readonly<Record<string, readonly string[]>> = {
  call: [],
  access: ['call'],
  fleet: ['call'],
  admission: ['call', 'access', 'fleet'],
  observation: ['call', 'access', 'fleet'],
  events: ['call', 'fleet'],
  http: ['call', 'access', 'fleet', 'admission', 'observation', 'invoker.ts'],
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

/** The imports of `text`, as if it stood at `file`, that the table does not allow; both by their path below `top`. */
function forbiddenImports(
  file: string,
  text: string,
  table: Readonly<Record<string, readonly string[]>> = allowed,
  top = root,
): string[] {
  const folder = relative(top, file).split('/')[0] ?? '';
  return importsOf(text)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => relative(top, resolve(dirname(file), specifier)))
    .filter((target) => {
      const targetFolder = target.split('/')[0] ?? '';
      return (
        targetFolder !== folder && targetFolder !== '..' && !(table[folder] ?? []).includes(targetFolder)
      );
    });
}

function foldersOf(top: string): string[] {
  return readdirSync(top, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

describe('imports', () => {
  const folders = foldersOf(root);
  const gateway = join(root, 'gateway');

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

  it('has a rule for every folder of the gateway', () => {
    expect(foldersOf(gateway).toSorted()).toEqual(Object.keys(allowedInGateway).toSorted());
  });

  it.each(foldersOf(gateway))('of src/gateway/%s go one way', (folder) => {
    const broken = filesBelow(join(gateway, folder)).flatMap((file) =>
      forbiddenImports(file, readFileSync(file, 'utf8'), allowedInGateway, gateway).map(
        (target) => `${relative(gateway, file)} -> ${target}`,
      ),
    );
    expect(broken).toEqual([]);
  });

  it('are found where they break the rule', () => {
    const text = "import { plan } from '../agent/plan.ts';\nconst later = await import('../cli/up.ts');";
    expect(forbiddenImports(join(root, 'gateway/example.ts'), text)).toEqual(['agent/plan.ts', 'cli/up.ts']);
    const inside =
      "import { createLambdaApi } from '../http/lambda-api.ts';\nimport { place } from './room.ts';";
    expect(
      forbiddenImports(join(gateway, 'admission/example.ts'), inside, allowedInGateway, gateway),
    ).toEqual(['http/lambda-api.ts']);
  });

  it('of the agent reach Docker lazily, whose client is large', () => {
    const seen = new Set<string>();
    const walk = (file: string): void => {
      if (seen.has(file)) {
        return;
      }
      seen.add(file);
      const text = readFileSync(file, 'utf8');
      // Types are not loaded, and what is imported by a call comes when it is needed.
      for (const [, specifier = ''] of text.matchAll(
        /^(?:import|export) (?!type )[^;]*?from '(\.[^']+)'/gm,
      )) {
        walk(resolve(dirname(file), specifier));
      }
    };
    walk(join(root, 'agent/role.ts'));
    const loaded = [...seen].map((file) => relative(root, file));
    expect(loaded).toContain('runtime/runtime-factory.ts');
    expect(loaded.filter((file) => file.startsWith('docker/'))).toEqual([]);
  });

  it('of the entry point reach the roles lazily', () => {
    const entry = readdirSync(root).filter((name) => name.endsWith('.ts'));
    const eager = entry.flatMap((name) =>
      [...readFileSync(join(root, name), 'utf8').matchAll(/^import (?!type)[^;]*from '(\.[^']+)'/gm)].map(
        (match) => match[1] ?? '',
      ),
    );
    expect(entry).toContain('main.ts');
    // None of these imports anything that would take time to load.
    expect(eager.filter((specifier) => !/^\.\/((api|common)\/|[a-z-]+\.ts$)/.test(specifier))).toEqual([]);
  });
});
