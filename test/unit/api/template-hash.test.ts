import { describe, expect, it } from 'vitest';
import { type TemplateField, templateFields } from '../../../src/api/generated/template-fields.ts';
import { hashOfTemplate } from '../../../src/api/template-hash.ts';

const fields: TemplateField = {
  fields: {
    image: {},
    seconds: { default: 3 },
    network: { default: {}, fields: { mode: { default: 'Bridge' }, ports: { items: {} } } },
    env: { items: { fields: { name: {}, secret: { fields: { optional: { default: false } } } } } },
    labels: {},
  },
};

const hash = (spec: object): string => hashOfTemplate(spec, fields);

describe('the hash of a template', () => {
  it('is the same with a default and without', () => {
    const plain = hash({ image: 'a' });
    expect(hash({ seconds: 3, image: 'a' })).toBe(plain);
    expect(hash({ image: 'a', network: {} })).toBe(plain);
    expect(hash({ image: 'a', network: { mode: 'Bridge' } })).toBe(plain);
    expect(hash({ env: [{ name: 'a', secret: { optional: false } }] })).toBe(
      hash({ env: [{ secret: {}, name: 'a' }] }),
    );
  });

  it('knows nothing of a field that this release does not know', () => {
    expect(hash({ image: 'a', later: true })).toBe(hash({ image: 'a' }));
    expect(hash({ env: [{ name: 'a', later: 1 }] })).toBe(hash({ env: [{ name: 'a' }] }));
  });

  it.each([
    [{ image: 'b' }],
    [{ image: 'a', seconds: 4 }],
    [{ image: 'a', network: { mode: 'Host' } }],
    [{ image: 'a', network: { ports: [] } }],
    [{ image: 'a', env: [] }],
    [{ image: 'a', labels: { any: 'name' } }],
    [{ image: 'a', labels: {} }],
  ])('is another for %j', (spec) => {
    expect(hash(spec)).not.toBe(hash({ image: 'a' }));
  });

  it('goes by the fields and defaults of the definition', () => {
    expect(templateFields.fields).toMatchObject({ image: {}, timeoutSeconds: { default: 3 } });
    expect(hashOfTemplate({ image: 'a', timeoutSeconds: 3 })).toBe(hashOfTemplate({ image: 'a' }));
    expect(hashOfTemplate({ image: 'a', timeoutSeconds: 4 })).not.toBe(hashOfTemplate({ image: 'a' }));
  });
});
