import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { foldersWithRooms, local, type RoomTable, source } from '../../hack/import-rules.ts';

const repository = resolve(import.meta.dirname, '../..');
const root = join(repository, 'src');

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name));
}

function importsOf(text: string): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1] ?? '');
}

/** The files below `top` that a file imports, types included, by their path from there. */
function targetsOf(file: string, text: string, top: string): string[] {
  return importsOf(text)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => relative(top, resolve(dirname(file), specifier)))
    .filter((target) => !target.startsWith('..'));
}

/** The imports of `text`, as if it stood at `file`, that the table does not allow; both by their path below `top`. */
function forbiddenImports(file: string, text: string, table: RoomTable, top: string): string[] {
  const room = relative(top, file).split('/')[0] ?? '';
  return targetsOf(file, text, top).filter((target) => {
    const targetRoom = target.split('/')[0] ?? '';
    return (
      targetRoom !== room &&
      table.rooms[room]?.imports.includes(targetRoom) !== true &&
      table.shared?.[targetRoom]?.includes(room) !== true
    );
  });
}

function foldersOf(top: string): string[] {
  return readdirSync(top, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

/** The imports of all files in the rooms of a folder that its table does not allow. */
function brokenRules(top: string, table: RoomTable): string[] {
  return foldersOf(top).flatMap((room) =>
    filesBelow(join(top, room)).flatMap((file) =>
      forbiddenImports(file, readFileSync(file, 'utf8'), table, top).map(
        (target) => `${relative(repository, file)} -> ${relative(repository, join(top, target))}`,
      ),
    ),
  );
}

/** A way from a file over its imports back to that file, for each circle that there is. */
function circles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (file: string, way: readonly string[]): void => {
    const at = way.indexOf(file);
    if (at >= 0) {
      found.push([...way.slice(at), file].join(' -> '));
    } else if (!done.has(file)) {
      for (const target of graph.get(file) ?? []) {
        walk(target, [...way, file]);
      }
      done.add(file);
    }
  };
  for (const file of graph.keys()) {
    walk(file, []);
  }
  return found;
}

/** Where each folder with rules is, and its rules. */
const tables: readonly (readonly [string, RoomTable])[] = [
  ['src', source],
  ...Object.entries(foldersWithRooms).map(([folder, table]) => [`src/${folder}`, table] as const),
  ['local', local],
];

describe('imports', () => {
  it.each(tables)('has a rule for every folder of %s', (folder, table) => {
    expect(foldersOf(join(repository, folder)).toSorted()).toEqual(Object.keys(table.rooms).toSorted());
  });

  it.each(tables)('between the folders of %s go one way', (folder, table) => {
    expect(brokenRules(join(repository, folder), table)).toEqual([]);
  });

  it.each(tables)('between the folders of %s are all in use', (folder, table) => {
    const top = join(repository, folder);
    const unused = foldersOf(top).flatMap((room) => {
      const used = new Set(
        filesBelow(join(top, room)).flatMap((file) =>
          targetsOf(file, readFileSync(file, 'utf8'), top).map((target) => target.split('/')[0]),
        ),
      );
      return (table.rooms[room]?.imports ?? [])
        .filter((target) => !used.has(target))
        .map((target) => `${room} -> ${target}`);
    });
    expect(unused).toEqual([]);
  });

  it.each(tables)('between the folders of %s are allowed without a circle', (_folder, { rooms }) => {
    const allowed = new Map(Object.entries(rooms).map(([name, { imports }]) => [name, imports] as const));
    expect(circles(allowed)).toEqual([]);
  });

  it('come from folders that can be seen at once: 25 files and no more', () => {
    const counts = new Map<string, number>();
    for (const file of ['src', 'local'].flatMap((folder) => filesBelow(join(repository, folder)))) {
      counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1);
    }
    expect([...counts].filter(([, count]) => count > 25).map(([folder]) => relative(root, folder))).toEqual([]);
  });

  it('come from files that can be read at once: 400 lines and no more', () => {
    const long = ['src', 'local']
      .flatMap((folder) => filesBelow(join(repository, folder)))
      .filter((file) => !file.includes('/generated/') && readFileSync(file, 'utf8').trimEnd().split('\n').length > 400);
    expect(long.map((file) => relative(root, file))).toEqual([]);
  });

  it('of files have no circle, those of types included', () => {
    const graph = new Map(
      ['src', 'local']
        .flatMap((folder) => filesBelow(join(repository, folder)))
        .map((file) => {
          const targets = targetsOf(file, readFileSync(file, 'utf8'), repository);
          return [relative(repository, file), targets] as const;
        }),
    );
    expect(circles(graph)).toEqual([]);
  });

  it.each([
    { folder: 'src', allowed: ['src'] },
    { folder: 'local', allowed: ['local', 'src'] },
  ])('of $folder reach no folder but $allowed', ({ folder, allowed }) => {
    const outside = filesBelow(join(repository, folder)).flatMap((file) =>
      targetsOf(file, readFileSync(file, 'utf8'), repository)
        .filter((target) => !allowed.includes(target.split('/')[0] ?? ''))
        .map((target) => `${relative(repository, file)} -> ${target}`),
    );
    expect(outside).toEqual([]);
  });

  it('are found where they break the rule', () => {
    const text = "import { plan } from '../agent/plan.ts';\nconst later = await import('../cli/ps.ts');";
    expect(forbiddenImports(join(root, 'gateway/example.ts'), text, source, root)).toEqual([
      'agent/plan.ts',
      'cli/ps.ts',
    ]);
    const inside =
      "import type { LambdaApi } from '../http/lambda-api.ts';\nimport { place } from './room.ts';\nimport '../gateway-events.ts';";
    const gateway = join(root, 'gateway');
    const table = foldersWithRooms.gateway ?? source;
    expect(forbiddenImports(join(gateway, 'admission/example.ts'), inside, table, gateway)).toEqual([
      'http/lambda-api.ts',
      'gateway-events.ts',
    ]);
  });

  it('are found where they go in a circle', () => {
    const graph = new Map([
      ['a', ['b']],
      ['b', ['c']],
      ['c', ['b']],
    ]);
    expect(circles(graph)).toEqual(['b -> c -> b']);
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
      for (const [, specifier = ''] of text.matchAll(/^(?:import|export) (?!type )[^;]*?from '(\.[^']+)'/gm)) {
        walk(resolve(dirname(file), specifier));
      }
    };
    walk(join(root, 'agent/main.ts'));
    const loaded = [...seen].map((file) => relative(root, file));
    expect(loaded).toContain('runtime/factory.ts');
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
    expect(eager.filter((specifier) => !/^\.\/((api|common|options)\/|[a-z-]+\.ts$)/.test(specifier))).toEqual([]);
  });
});
