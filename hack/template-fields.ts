import type { Product } from './product.ts';
import { resourceDefinitions, type Schema, versionOf } from './resource-definition.ts';
import { generatedTypesFolder } from './resource-types.ts';

/** A field as {@link file://../src/api/template-hash.ts} goes through it. */
interface Field {
  readonly default?: unknown;
  readonly fields?: Readonly<Record<string, Field>>;
  readonly items?: Field;
}

function fieldOf(schema: Schema): Field {
  const { items, properties } = schema;
  return {
    ...(schema.default === undefined ? {} : { default: schema.default }),
    ...(properties === undefined
      ? {}
      : { fields: Object.fromEntries(Object.entries(properties).map(([name, field]) => [name, fieldOf(field)])) }),
    ...(items === undefined ? {} : { items: fieldOf(items) }),
  };
}

/** Writes names and defaults of the fields of a template. */
export async function templateFields(root: string): Promise<readonly Product[]> {
  const definitions = await resourceDefinitions(root);
  const definition = definitions.find(({ file }) => file === 'lambdafunctions.yaml');
  const schema = definition && versionOf(definition).schema.openAPIV3Schema;
  const template = schema?.properties?.spec?.properties?.template?.properties?.spec;
  if (template === undefined) {
    throw new TypeError('crds/lambdafunctions.yaml has no template');
  }
  const text = `// Made from crds/lambdafunctions.yaml by \`npm run generate\`; do not edit.

/** A field of a template: its default, and the fields or items in it where these have a schema. */
export interface TemplateField {
  readonly default?: unknown;
  readonly fields?: Readonly<Record<string, TemplateField>>;
  readonly items?: TemplateField;
}

export const templateFields: TemplateField = ${JSON.stringify(fieldOf(template), null, 1)};
`;
  return [{ path: `${generatedTypesFolder}/template-fields.ts`, text }];
}
