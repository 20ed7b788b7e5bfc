import type { ChartValue } from './chart-values.ts';

type Schema = Record<string, unknown>;

/**
 * JSON schema of the chart's values. Only existing values may be set, so that a wrong name is an error. Values that
 * subcharts share (`global`) pass, since Helm adds them.
 */
export function chartSchema(values: readonly ChartValue[]): string {
  const root: Schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Values of the chart esb',
    ...section(),
  };
  for (const value of values) {
    let at = root;
    for (const key of value.path.slice(0, -1)) {
      const properties = at.properties as Schema;
      properties[key] ??= section();
      at = properties[key] as Schema;
    }
    (at.properties as Schema)[value.path.at(-1) ?? ''] = valueSchema(value);
  }
  (root.properties as Schema).global = { description: 'What charts share.', type: 'object' };
  return `${JSON.stringify(root, undefined, 2)}\n`;
}

function section(): Schema {
  return { type: 'object', additionalProperties: false, properties: {} };
}

function valueSchema(value: ChartValue): Schema {
  return {
    description: value.description,
    ...(value.schema.type === undefined ? { type: typeOf(value) } : {}),
    ...value.schema,
    default: value.default,
  };
}

/** Type of a value in words of JSON schema, from its default. */
function typeOf({ path, default: value }: ChartValue): string {
  if (typeof value === 'string' || typeof value === 'boolean') {
    return typeof value;
  }
  if (typeof value === 'number') {
    return Number.isInteger(value) ? 'integer' : 'number';
  }
  if (value === null) {
    const name = path.join('.');
    throw new Error(`values.yaml: the default of ${name} does not say its type: add "# @schema {"type": …}"`);
  }
  return Array.isArray(value) ? 'array' : 'object';
}

/** Types that a value may have, for people. */
export function typeNames(value: ChartValue): string {
  const { type = typeOf(value) } = value.schema;
  return [type].flat().join(' or ');
}
