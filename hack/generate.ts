/**
 * Makes the TypeScript types in src/api/generated from the resource definitions in crds/.
 *
 *   node hack/generate.ts            writes them
 *   node hack/generate.ts --check    fails when what is there is not what would be written
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compile, type JSONSchema } from 'json-schema-to-typescript';
import { parse } from 'yaml';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const sourceFolder = join(root, 'crds');
const targetFolder = join(root, 'src/api/generated');

/** The part of an OpenAPI v3 schema that the definitions use. */
interface Schema {
  readonly description?: string;
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
}

interface Definition {
  readonly spec: {
    readonly names: { readonly kind: string };
    readonly versions: readonly {
      readonly name: string;
      readonly schema: { readonly openAPIV3Schema: Schema };
    }[];
  };
}

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** Names of list items that are not just the list's name without its last letter. */
const itemNames: Readonly<Record<string, string>> = { env: 'Variable' };

function itemName(list: string): string {
  return itemNames[list] ?? capitalised(list.replace(/s$/, ''));
}

/**
 * The schema as json-schema-to-typescript wants it. Each object gets a name of its own, from its path. What the API
 * server fills in is always there in what it answers, so it counts as required.
 */
function convert(schema: Schema, name: string): JSONSchema {
  const description = schema.description === undefined ? {} : { description: schema.description };
  if (schema['x-kubernetes-int-or-string'] === true) {
    return { ...description, tsType: 'number | string' };
  }
  if (schema['x-kubernetes-preserve-unknown-fields'] === true) {
    return { ...description, tsType: 'unknown' };
  }
  if (schema.enum !== undefined) {
    return { ...description, type: 'string', enum: [...schema.enum] };
  }
  if (schema.type === 'array') {
    return {
      ...description,
      type: 'array',
      ...(schema.items === undefined ? {} : { items: convert(schema.items, name) }),
    };
  }
  if (schema.additionalProperties !== undefined) {
    const values = schema.additionalProperties.type ?? 'unknown';
    return { ...description, tsType: `Readonly<Record<string, ${values}>>` };
  }
  if (schema.type !== 'object') {
    return {
      ...description,
      type: schema.type === 'integer' ? 'integer' : (schema.type as 'string' | 'boolean'),
    };
  }
  const properties = schema.properties ?? {};
  return {
    ...description,
    title: name,
    type: 'object',
    additionalProperties: false,
    required: Object.keys(properties).filter(
      (key) => schema.required?.includes(key) === true || properties[key]?.default !== undefined,
    ),
    properties: Object.fromEntries(
      Object.entries(properties).map(([key, property]) => [
        key,
        key === 'metadata'
          ? { tsType: 'ObjectMeta' }
          : convert(
              property,
              property.type === 'array' ? `${name}${itemName(key)}` : `${name}${capitalised(key)}`,
            ),
      ]),
    ),
  };
}

/** Everything that comes from the API server is shared and frozen. */
function makeReadonly(source: string): string {
  return source
    .replaceAll(/^( +)(\w+\??:)(?=[ \n])/gm, '$1readonly $2')
    .replaceAll(/: (\w+)\[\]/g, ': readonly $1[]');
}

async function typesOf(file: string): Promise<{ readonly name: string; readonly text: string }> {
  const definition = parse(await readFile(join(sourceFolder, file), 'utf8')) as Definition;
  const version = definition.spec.versions[0];
  if (version === undefined) {
    throw new Error(`${file} defines no version`);
  }
  const kind = definition.spec.names.kind;
  const text = await compile(
    {
      ...convert(version.schema.openAPIV3Schema, kind),
      required: ['metadata', ...(version.schema.openAPIV3Schema.required ?? []), 'spec'],
    },
    kind,
    {
      additionalProperties: false,
      bannerComment: `// Made from crds/${file} by \`npm run generate\`; do not edit.\n\nimport type { ObjectMeta } from '../object-meta.ts';`,
      format: true,
      style: { singleQuote: true, printWidth: 110, bracketSpacing: true },
    },
  );
  const name = kind.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();
  return { name: `${name}.ts`, text: makeReadonly(text) };
}

async function existing(file: string): Promise<string | undefined> {
  return await readFile(join(targetFolder, file), 'utf8').catch(() => undefined);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
  const sources = (await readdir(sourceFolder)).filter((file) => file.endsWith('.yaml')).sort();
  const wanted = new Map<string, string>();
  for (const source of sources) {
    const { name, text } = await typesOf(source);
    wanted.set(name, text);
  }
  await mkdir(targetFolder, { recursive: true });
  const stale = (await readdir(targetFolder)).filter((file) => !wanted.has(file));
  const drifted: string[] = [...stale];
  for (const [file, text] of wanted) {
    if ((await existing(file)) !== text) {
      drifted.push(file);
      if (!values.check) {
        await writeFile(join(targetFolder, file), text);
      }
    }
  }
  if (!values.check) {
    for (const file of stale) {
      await rm(join(targetFolder, file));
    }
    console.log(drifted.length === 0 ? 'src/api/generated is up to date' : `written: ${drifted.join(', ')}`);
    return;
  }
  if (drifted.length > 0) {
    console.error(`src/api/generated does not fit crds/ (${drifted.join(', ')}): run npm run generate`);
    process.exitCode = 1;
  }
}

await main();
