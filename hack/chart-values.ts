import { isMap, isScalar, type Pair, parseDocument, type YAMLMap } from 'yaml';

/** One value of the chart, as `values.yaml` has it. */
export interface ChartValue {
  /** From the root, such as `[gateway, service, port]`. */
  readonly path: readonly string[];
  readonly description: string;
  readonly default: unknown;
  /** Keywords of its JSON schema beside those that follow from the default. */
  readonly schema: Readonly<Record<string, unknown>>;
}

/** `# -- ` begins the description of a value, `# @schema ` an addition to its JSON schema. */
const description = /^ -- /;
const addition = /^ @schema /;

/**
 * Reads the values of the chart with what their comments say.
 *
 * @throws {Error} that names a value without a description
 */
export function readChartValues(text: string): readonly ChartValue[] {
  const { contents } = parseDocument(text);
  if (!isMap(contents)) {
    throw new Error('values.yaml is not a mapping');
  }
  return valuesOf(contents, []);
}

function valuesOf(map: YAMLMap, above: readonly string[]): readonly ChartValue[] {
  return map.items.flatMap((pair, index) => {
    const key = keyOf(pair);
    const path = [...above, key];
    // A comment before the first entry of a mapping belongs to the mapping in the parser's view.
    const lines = [index === 0 ? map.commentBefore : undefined, commentOf(pair)]
      .flatMap((comment) => comment?.split('\n') ?? [])
      .map((line) => line.trimEnd());
    const from = lines.findIndex((line) => description.test(line));
    if (from >= 0) {
      return [{ path, default: toJson(pair.value), ...readComment(lines.slice(from)) }];
    }
    if (isMap(pair.value) && pair.value.items.length > 0) {
      return valuesOf(pair.value, path);
    }
    throw new Error(`values.yaml: ${path.join('.')} has no description: begin its comment with "# -- "`);
  });
}

function readComment(lines: readonly string[]): Pick<ChartValue, 'description' | 'schema'> {
  return {
    description: lines
      .filter((line) => !addition.test(line))
      .map((line) => line.replace(description, '').trim())
      .join(' '),
    schema: Object.assign(
      {},
      ...lines
        .filter((line) => addition.test(line))
        .map((line) => JSON.parse(line.replace(addition, '')) as Readonly<Record<string, unknown>>),
    ) as Readonly<Record<string, unknown>>,
  };
}

function keyOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
}

function commentOf(pair: Pair): string | null | undefined {
  return isScalar(pair.key) ? pair.key.commentBefore : undefined;
}

function toJson(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'toJSON' in value
    ? (value as { toJSON(): unknown }).toJSON()
    : value;
}
