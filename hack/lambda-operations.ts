import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Product } from './product.ts';

/** Folder of the table of operations; everything in it is generated. */
export const generatedOperationsFolder = 'src/gateway/lambda/generated';

const MODEL = 'hack/aws/lambda-operations.json';

/** The `http` of an operation, as AWS's service model has it. */
interface ModelBinding {
  readonly method: string;
  readonly requestUri: string;
  readonly responseCode?: number;
}

/** Parts of a path that name a function: by itself, and by an ARN of its tags. */
const OF_FUNCTION: readonly string[] = ['FunctionName', 'Resource'];

/** The path of a route: `:name` is the function, `:item` the only other part; further parts keep AWS's names. */
function routeOf(path: string): string {
  const parts = [...path.matchAll(/\{(\w+)\+?\}/g)].map(([, part]) => part ?? '');
  const others = parts.filter((part) => !OF_FUNCTION.includes(part));
  return path.replaceAll(/\{(\w+)\+?\}/g, (_whole, part: string) => {
    if (OF_FUNCTION.includes(part)) {
      return ':name';
    }
    return others.length === 1 ? ':item' : `:${part}`;
  });
}

/** Writes the table of Lambda's operations from the extract of AWS's service model. */
export async function lambdaOperations(root: string): Promise<readonly Product[]> {
  const model = JSON.parse(await readFile(join(root, MODEL), 'utf8')) as Readonly<Record<string, ModelBinding>>;
  const rows = Object.entries(model).map(([name, { method, requestUri, responseCode = 200 }]) => {
    const [path = '', query] = requestUri.split('?');
    const told = query === undefined ? '' : `, query: '${query}'`;
    const trimmed = path.replace(/\/$/, '');
    return `  ${name}: { method: '${method}', path: '${routeOf(trimmed)}', status: ${responseCode}${told} },`;
  });
  const text = `// Made from ${MODEL} by \`npm run generate\`; do not edit.

export interface LambdaOperation {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Path, with \`:name\` for the function, \`:item\` for the only other part, and AWS's names where more parts are. */
  readonly path: string;
  /** Status of an answer that is a success. */
  readonly status: number;
  /** The query that tells the operation from another one of the same path. */
  readonly query?: string;
}

export const lambdaOperations = {
${rows.join('\n')}
} as const satisfies Readonly<Record<string, LambdaOperation>>;

/** The name of an operation, as SDKs know it. */
export type OperationName = keyof typeof lambdaOperations;
`;
  return [{ path: `${generatedOperationsFolder}/operations.ts`, text }];
}
