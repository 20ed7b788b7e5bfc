import { code, table, withoutTags, wrapped } from './markdown.ts';
import type { Product } from './product.ts';
import { type DefinitionFile, resourceDefinitions, type Schema, versionOf } from './resource-definition.ts';

/** Only the format of a string says that it is a date, and the like. */
const telling: ReadonlySet<string> = new Set(['date-time']);

/** Fields that are explained on the page of another resource. */
const elsewhere: Readonly<Record<string, string>> = { 'spec.template.spec': 'lambdaworker.md' };

/** The reference of the resources, field by field, as the definitions in crds/ describe them. */
export async function resourceDocuments(root: string): Promise<readonly Product[]> {
  return (await resourceDefinitions(root)).map((source) => ({
    path: `docs/reference/${source.definition.spec.names.kind.toLowerCase()}.md`,
    text: documentOf(source),
  }));
}

function documentOf(source: DefinitionFile): string {
  const { file, definition } = source;
  const version = versionOf(source);
  const { kind, plural, shortNames } = definition.spec.names;
  const schema = version.schema.openAPIV3Schema;
  const names = [plural, ...(shortNames ?? [])].map((name) => code(`kubectl get ${name}`)).join(', ');
  const columns = (version.additionalPrinterColumns ?? []).map(({ name, description, priority }) => [
    code(name.toUpperCase()),
    `${description ?? ''}${(priority ?? 0) > 0 ? ' Shown by `-o wide`.' : ''}`,
  ]);
  const selectable = (version.selectableFields ?? []).map(({ jsonPath }) => code(jsonPath.slice(1)));
  const rules = rulesOf(schema, '');
  return [
    `# ${kind}\n`,
    `${wrapped(schema.description ?? '')}\n`,
    `${wrapped(
      `\`apiVersion: ${definition.spec.group}/${version.name}\`, ${
        definition.spec.scope === 'Namespaced' ? 'in a namespace' : 'of the cluster'
      }: ${names}. This page is made from [crds/${file}](../../crds/${file}) by \`npm run generate\`; \`kubectl explain ${kind.toLowerCase()}.spec\` tells the same. Conditions and their reasons are in [reasons](reasons.md).`,
    )}\n`,
    '## spec\n',
    `${fieldTable(schema.properties?.spec, 'spec')}\n`,
    '## status\n',
    `${fieldTable(schema.properties?.status, 'status')}\n`,
    ...(rules.length === 0
      ? []
      : [
          '## Rules\n',
          'The API server refuses an object that breaks one of these, with its text.\n',
          `${table(['field', 'what is said'], rules)}\n`,
        ]),
    '## Columns\n',
    `${table(['column', 'shows'], columns)}\n`,
    ...(selectable.length === 0
      ? []
      : [`\`--field-selector\` takes, beside the name and the namespace, ${selectable.join(', ')}.\n`]),
  ].join('\n');
}

function fieldTable(schema: Schema | undefined, path: string): string {
  if (schema === undefined) {
    return 'None.';
  }
  return table(['field', 'type', 'default', 'meaning'], rowsOf(schema, path));
}

/** A row for each field below `schema`, in the order of the definition. */
function rowsOf(schema: Schema, path: string): readonly (readonly string[])[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const here = `${path}.${name}`;
    const required = schema.required?.includes(name) === true;
    const facts = [
      ...(required ? [here.startsWith('status.') ? 'Always there.' : 'Has to be given.'] : []),
      ...limitsOf(field),
    ];
    const row = [
      code(here),
      typeOf(field),
      defaultOf(field.default),
      withoutTags([field.description ?? '', ...facts].join(' ')),
    ];
    if (elsewhere[here] !== undefined) {
      const meaning = `${row.at(-1) ?? ''} See [its page](${elsewhere[here]}).`;
      return [[...row.slice(0, -1), meaning]];
    }
    return [row, ...(field.items === undefined ? rowsOf(field, here) : rowsOf(field.items, `${here}[]`))];
  });
}

function typeOf(schema: Schema): string {
  if (schema['x-kubernetes-int-or-string'] === true) {
    const isQuantity = schema['x-kubernetes-validations']?.some(({ rule }) => rule.includes('isQuantity')) !== false;
    return isQuantity ? 'quantity' : 'number or percentage';
  }
  if (schema['x-kubernetes-preserve-unknown-fields'] === true) {
    return 'any JSON';
  }
  if (schema.type === 'array') {
    return `list of ${schema.items === undefined ? 'anything' : typeOf(schema.items)}`;
  }
  if (schema.additionalProperties !== undefined) {
    return `map of ${typeOf(schema.additionalProperties)}`;
  }
  return schema.format !== undefined && telling.has(schema.format) ? schema.format : (schema.type ?? 'any');
}

function defaultOf(value: unknown): string {
  // An empty object is only there for the defaults in it.
  if (value === undefined || (typeof value === 'object' && JSON.stringify(value) === '{}')) {
    return '';
  }
  return code(typeof value === 'string' ? value : JSON.stringify(value));
}

/** Constraints of a value beside its type, in words. */
function limitsOf(schema: Schema): readonly string[] {
  const { enum: choices, minimum, maximum, maxItems, maxLength, maxProperties, pattern } = schema;
  const range =
    minimum !== undefined && maximum !== undefined
      ? [`From ${minimum} to ${maximum}.`]
      : minimum !== undefined
        ? [`At least ${minimum}.`]
        : maximum !== undefined
          ? [`At most ${maximum}.`]
          : [];
  return [
    ...(choices === undefined ? [] : [`One of ${choices.map(code).join(', ')}.`]),
    ...range,
    ...(maxItems === undefined ? [] : [`At most ${maxItems} of them.`]),
    ...(maxProperties === undefined ? [] : [`At most ${maxProperties} of them.`]),
    ...(maxLength === undefined || schema['x-kubernetes-int-or-string'] === true || telling.has(schema.format ?? '')
      ? []
      : [`At most ${maxLength} characters.`]),
    ...(pattern === undefined ? [] : [`Has to match ${code(pattern)}.`]),
  ];
}

/** Every rule below `schema` that has a text for people, with the field that it is about. */
function rulesOf(schema: Schema, path: string): readonly (readonly string[])[] {
  const own = (schema['x-kubernetes-validations'] ?? []).flatMap(({ message }) =>
    message === undefined ? [] : [[path === '' ? 'the whole' : code(path), withoutTags(message)]],
  );
  const below = Object.entries(schema.properties ?? {}).flatMap(([name, field]) =>
    elsewhere[`${path}.${name}`] === undefined ? rulesOf(field, path === '' ? name : `${path}.${name}`) : [],
  );
  return [...own, ...below, ...(schema.items === undefined ? [] : rulesOf(schema.items, `${path}[]`))];
}
