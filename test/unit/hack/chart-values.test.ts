import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { chartSchema } from '../../../hack/chart-schema.ts';
import { readChartValues } from '../../../hack/chart-values.ts';

const values = `# Values.

image:
  # -- Where it is.
  # @schema {"minLength": 1}
  repository: esb
# Said to nobody.
# -- How many there are,
# in all.
# @schema {"type": ["integer", "null"]}
replicas: null
# -- Labels.
# @schema {"additionalProperties": {"type": "string"}}
labels:
  # Part of the default.
  team: edge
`;

describe('values of a chart', () => {
  it('are read with what their comments say of them', () => {
    expect(readChartValues(values)).toEqual([
      {
        path: ['image', 'repository'],
        description: 'Where it is.',
        default: 'esb',
        schema: { minLength: 1 },
      },
      {
        path: ['replicas'],
        description: 'How many there are, in all.',
        default: null,
        schema: { type: ['integer', 'null'] },
      },
      {
        path: ['labels'],
        description: 'Labels.',
        default: { team: 'edge' },
        schema: { additionalProperties: { type: 'string' } },
      },
    ]);
  });

  it.each([
    ['a:\n  b: 1\n', 'a.b has no description'],
    ['# Something.\na: {}\n', 'a has no description'],
    ['[1]\n', 'is not a mapping'],
  ])('have to be described: %j', (text, told) => {
    expect(() => readChartValues(text)).toThrow(told);
  });
});

describe('the schema of values', () => {
  const isValid = new Ajv().compile(JSON.parse(chartSchema(readChartValues(values))) as object);

  it.each([
    {},
    { image: { repository: 'other' }, replicas: 3, labels: { a: 'b' } },
    { replicas: null },
    { global: { anything: true } },
  ])('takes %j', (given) => {
    expect(isValid(given)).toBe(true);
  });

  it.each([
    { replica: 3 },
    { image: { repo: 'other' } },
    { image: { repository: '' } },
    { image: 'esb' },
    { replicas: 'many' },
    { labels: { a: 1 } },
  ])('refuses %j', (given) => {
    expect(isValid(given)).toBe(false);
  });

  it('cannot be made of a default that does not say its type', () => {
    expect(() => chartSchema(readChartValues('# -- A.\na: null\n'))).toThrow('the default of a does not say its type');
  });
});
