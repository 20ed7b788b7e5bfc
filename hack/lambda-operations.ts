import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Product } from './product.ts';

/** Folder of the table of operations; everything in it is generated. */
export const generatedOperationsFolder = 'src/gateway/lambda/generated';

const MODEL = 'hack/aws/lambda-model.json';

/** The extract of AWS's service model. */
interface Model {
  readonly operations: Readonly<
    Record<
      string,
      {
        readonly method: string;
        readonly requestUri: string;
        readonly responseCode?: number;
        /** Names of the members of a request's body. */
        readonly members: readonly string[];
      }
    >
  >;
  /** Rules for values, and names of the members of structures. */
  readonly shapes: Readonly<Record<string, object>>;
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

function rowOf(name: string, row: object): string {
  return `  ${name}: ${JSON.stringify(row)},`;
}

/** Writes the table of Lambda's operations from the extract of AWS's service model. */
export async function lambdaOperations(root: string): Promise<readonly Product[]> {
  const { operations, shapes } = JSON.parse(await readFile(join(root, MODEL), 'utf8')) as Model;
  const rows = Object.entries(operations).map(([name, { members, method, requestUri, responseCode: status = 200 }]) => {
    const [path = '', query] = requestUri.split('?');
    return rowOf(name, { method, path: routeOf(path.replace(/\/$/, '')), status, query, members });
  });
  const ruled = Object.entries(shapes).filter(([, shape]) => Object.keys(shape).length > 0);
  const text = `// Made from ${MODEL} by \`npm run generate\`; do not edit.

export interface LambdaOperation {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Path, with \`:name\` for the function, \`:item\` for the only other part, and AWS's names where more parts are. */
  readonly path: string;
  /** Status of an answer that is a success. */
  readonly status: number;
  /** The query that tells the operation from another one of the same path. */
  readonly query?: string;
  /** Names of the members of a request's body. */
  readonly members: readonly string[];
}

/** Rules for a value of a request, by the name of its shape; names of the members of a structure. */
export interface LambdaShape {
  /** Least number, length of a text in characters, or length of a list. */
  readonly min?: number;
  /** Largest number, length of a text in characters, or length of a list. */
  readonly max?: number;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly members?: readonly string[];
}

export const lambdaOperations = {
${rows.join('\n')}
} as const satisfies Readonly<Record<string, LambdaOperation>>;

export const lambdaShapes = {
${ruled.map(([name, shape]) => rowOf(name, shape)).join('\n')}
} as const satisfies Readonly<Record<string, LambdaShape>>;

/** The name of an operation, as SDKs know it. */
export type OperationName = keyof typeof lambdaOperations;
`;
  return [{ path: `${generatedOperationsFolder}/operations.ts`, text }];
}
