import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LuaFactory } from 'wasmoon';
import { repositoryRoot } from '../../local/common/repository.ts';

interface ArgoHealth {
  readonly status: string;
  readonly message: string;
}

/** The page that has the script. */
const page = join(repositoryRoot(), 'docs', 'how-to', 'gitops.md');

/** The verdict of the documents' health check on each object, run by Lua as Argo CD does. */
export async function healthByLua(objects: readonly object[]): Promise<readonly ArgoHealth[]> {
  const [, script] = /```lua\n(.*?)```/s.exec(await readFile(page, 'utf8')) ?? [];
  if (script === undefined) {
    throw new Error(`${page} has no script in Lua`);
  }
  const factory = new LuaFactory();
  const health: ArgoHealth[] = [];
  for (const object of objects) {
    // Argo CD makes a new interpreter for each object, too.
    const lua = await factory.createEngine();
    try {
      // A table of Lua, as Argo CD makes it: neither a proxy of JavaScript nor its null.
      const table = tableOf(JSON.parse(JSON.stringify(object)));
      const { message, status } = (await lua.doString(`obj = ${table}\n${script}`)) as Partial<ArgoHealth>;
      health.push({ status: status ?? '', message: message ?? '' });
    } finally {
      lua.global.close();
    }
  }
  return health;
}

function tableOf(value: unknown): string {
  if (Array.isArray(value)) {
    return `{${value.map(tableOf).join(',')}}`;
  }
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).map(([key, member]) => `[${tableOf(key)}]=${tableOf(member)}`);
    return `{${members.join(',')}}`;
  }
  return typeof value === 'string'
    ? `"${[...Buffer.from(value)].map((byte) => `\\${String(byte).padStart(3, '0')}`).join('')}"`
    : String(value);
}
