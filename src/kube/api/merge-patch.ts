import { isDeepStrictEqual } from 'node:util';

type Json = Readonly<Record<string, unknown>>;

/** A patch of RFC 7396 between two JSON objects; undefined where they are alike. Lists are replaced as a whole. */
export function mergePatch(from: object, to: object): Json | undefined {
  const [before, after] = [from as Json, to as Json];
  const changes: [string, unknown][] = [];
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, next] = [ownOf(before, name), ownOf(after, name)];
    if (next === undefined) {
      if (old !== undefined) {
        changes.push([name, null]);
      }
    } else if (isObject(old) && isObject(next)) {
      const inner = mergePatch(old, next);
      if (inner !== undefined) {
        changes.push([name, inner]);
      }
    } else if (!isDeepStrictEqual(old, next)) {
      changes.push([name, next]);
    }
  }
  return changes.length === 0 ? undefined : Object.fromEntries(changes);
}

/** Names that callers give are no names of what every object has, such as `constructor`. */
function ownOf(object: Json, name: string): unknown {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
