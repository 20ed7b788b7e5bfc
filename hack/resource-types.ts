import { compile, type JSONSchema } from 'json-schema-to-typescript';
import type { Product } from './product.ts';
import { type DefinitionFile, resourceDefinitions, type Schema, versionOf } from './resource-definition.ts';

/** Where the types are; everything in it is made here. */
export const generatedTypesFolder = 'src/api/generated';

function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** The spec of a worker without the fields that are no matter of a template. */
const template = {
  tsType: "Omit<LambdaWorkerSpec, 'functionName' | 'version'>",
  from: 'LambdaWorkerSpec',
  file: './lambda-worker.ts',
};

/** Objects that are another resource's, by the names that they would have here. */
const borrowed: Readonly<Record<string, { readonly tsType: string; readonly from: string; readonly file: string }>> = {
  LambdaFunctionSpecTemplateSpec: template,
  LambdaVersionSpecTemplateSpec: template,
};

/** Names of list items that are not just the list's name without its last letter. */
const itemNames: Readonly<Record<string, string>> = { env: 'Variable' };

function itemName(list: string): string {
  return itemNames[list] ?? capitalised(list.replace(/s$/, ''));
}

/**
 * The schema as json-schema-to-typescript wants it. Each object gets a name of its own, from its path. Fields that the
 * API server fills in are always there in its answers, so they count as required.
 */
function convert(schema: Schema, name: string): JSONSchema {
  const description = schema.description === undefined ? {} : { description: schema.description };
  const other = borrowed[name];
  if (other !== undefined) {
    return { ...description, tsType: other.tsType };
  }
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
      // The default of a status is for people: what is written beside it stands in its place.
      (key) => schema.required?.includes(key) === true || (key !== 'status' && properties[key]?.default !== undefined),
    ),
    properties: Object.fromEntries(
      Object.entries(properties).map(([key, property]) => [
        key,
        key === 'metadata'
          ? { tsType: 'ObjectMeta' }
          : convert(property, property.type === 'array' ? `${name}${itemName(key)}` : `${name}${capitalised(key)}`),
      ]),
    ),
  };
}

/** Everything that comes from the API server is shared and frozen. */
function makeReadonly(source: string): string {
  return source.replaceAll(/^( +)(\w+\??:)(?=[ \n])/gm, '$1readonly $2').replaceAll(/: (\w+)\[\]/g, ': readonly $1[]');
}

async function typesOf(source: DefinitionFile): Promise<Product> {
  const { file, definition } = source;
  const version = versionOf(source);
  const kind = definition.spec.names.kind;
  const imports = [
    "import type { ObjectMeta } from '../../kube/api/types.ts';",
    ...Object.entries(borrowed)
      .filter(([name]) => name.startsWith(`${kind}Spec`))
      .map(([, { file, from }]) => `import type { ${from} } from '${file}';`),
  ];
  const text = await compile(
    {
      ...convert(version.schema.openAPIV3Schema, kind),
      required: ['metadata', ...(version.schema.openAPIV3Schema.required ?? []), 'spec'],
    },
    kind,
    {
      additionalProperties: false,
      bannerComment: `// Made from crds/${file} by \`npm run generate\`; do not edit.\n\n${imports.join('\n')}`,
      format: true,
      style: { singleQuote: true, printWidth: 120, bracketSpacing: true },
    },
  );
  const name = kind.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '-').toLowerCase();
  return { path: `${generatedTypesFolder}/${name}.ts`, text: makeReadonly(text) };
}

/** The TypeScript types of the resource definitions. */
export async function resourceTypes(root: string): Promise<readonly Product[]> {
  return await Promise.all((await resourceDefinitions(root)).map(typesOf));
}
