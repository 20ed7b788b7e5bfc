import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Document, isMap, isScalar, isSeq, parseDocument, visit, type YAMLMap } from 'yaml';
import type { Product } from './product.ts';

const FRAME = 'hack/function-definition.yaml';
const WORKER = 'crds/lambdaworkers.yaml';
/** Key in the frame whose value is the path, in the schema of a worker, of what comes there. */
const FROM = '$from';
const banner = ` Made from ${FRAME} and ${WORKER} by \`npm run generate\`; do not edit.`;

/** The part of a worker's schema at a path, without the name of the function, which is no matter of a template. */
function partOf(worker: Document, path: readonly string[]): YAMLMap {
  const schema = ['spec', 'versions', 0, 'schema', 'openAPIV3Schema'];
  const part = worker.getIn([...schema, ...path], true);
  if (!isMap(part)) {
    throw new Error(`${WORKER} has no schema ${path.join('.')}`);
  }
  const copy = part.clone() as YAMLMap;
  if (copy.hasIn(['properties', 'functionName'])) {
    copy.deleteIn(['properties', 'functionName']);
  }
  const rules = copy.get('x-kubernetes-validations');
  if (isSeq(rules)) {
    rules.items = rules.items.filter((rule) => !isMap(rule) || rule.get('fieldPath') !== '.functionName');
  }
  return copy;
}

/** The definition of LambdaFunction, whose template has the fields of a worker. */
export async function functionDefinition(root: string): Promise<readonly Product[]> {
  const [frame, worker] = await Promise.all(
    [FRAME, WORKER].map(async (file) => parseDocument(await readFile(join(root, file), 'utf8'))),
  );
  if (frame === undefined || worker === undefined) {
    throw new Error('there is no definition');
  }
  frame.commentBefore = banner;
  if (frame.contents !== null) {
    frame.contents.commentBefore = null;
  }
  visit(frame, {
    Map(_key, map) {
      const from = map.get(FROM);
      if (!isSeq(from)) {
        return undefined;
      }
      const part = partOf(
        worker,
        from.items.map((item) => String(isScalar(item) ? item.value : item)),
      );
      for (const { key, value } of map.items.filter((pair) => String(pair.key) !== FROM)) {
        part.set(key, value);
      }
      return part;
    },
  });
  return [
    { path: 'crds/lambdafunctions.yaml', text: frame.toString({ lineWidth: 120, flowCollectionPadding: false }) },
  ];
}
