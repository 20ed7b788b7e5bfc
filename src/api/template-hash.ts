import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { type TemplateField, templateFields } from './generated/template-fields.ts';

/**
 * Hash of the spec of a template, 16 hexadecimal digits: of the fields that this release knows, without those that have
 * their default. A definition with one field more so makes no template another, be this release the one that knows the
 * field or the one before. A default, once released, never changes.
 */
export function hashOfTemplate(spec: object, fields = templateFields): string {
  const text = JSON.stringify(essence(spec, fields));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** A value without defaults and unknown fields, the members of each object in the order of their names. */
function essence(value: unknown, field: TemplateField): unknown {
  if (Array.isArray(value)) {
    return value.map((item) => essence(item, field.items ?? {}));
  }
  if (typeof value !== 'object' || value === null) {
    return value;
  }
  const { fields } = field;
  const entries = Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(
    fields === undefined
      ? entries.map(([name, member]) => [name, essence(member, {})])
      : entries.flatMap(([name, member]) => {
          const known = Object.hasOwn(fields, name) ? fields[name] : undefined;
          const kept = known === undefined || member === undefined ? undefined : essence(member, known);
          const isDefault = known !== undefined && isDeepStrictEqual(kept, essence(known.default, known));
          return kept === undefined || isDefault ? [] : [[name, kept] as const];
        }),
  );
}
