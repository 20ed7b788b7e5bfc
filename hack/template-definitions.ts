import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Document, isMap, isScalar, isSeq, parseDocument, visit, type YAMLMap } from 'yaml';
import type { Product } from './product.ts';

/** The frames, and what is made of them. */
const frames: Readonly<Record<string, string>> = {
  'hack/function-definition.yaml': 'crds/lambdafunctions.yaml',
  'hack/version-definition.yaml': 'crds/lambdaversions.yaml',
};
const WORKER = 'crds/lambdaworkers.yaml';
/** Key in the frame whose value is the path, in the schema of a worker, of what comes there. */
const FROM = '$from';
/** Fields of a worker that are no matter of a template. */
const ownFields: readonly string[] = ['functionName', 'version'];

/** The part of a worker's schema at a path, without the fields that are no matter of a template. */
function partOf(worker: Document, path: readonly string[]): YAMLMap {
  const schema = ['spec', 'versions', 0, 'schema', 'openAPIV3Schema'];
  const part = worker.getIn([...schema, ...path], true);
  if (!isMap(part)) {
    throw new Error(`${WORKER} has no schema ${path.join('.')}`);
  }
  const copy = part.clone() as YAMLMap;
  const rules = copy.get('x-kubernetes-validations');
  for (const field of ownFields.filter((each) => copy.hasIn(['properties', each]))) {
    copy.deleteIn(['properties', field]);
    if (isSeq(rules)) {
      rules.items = rules.items.filter((rule) => !isMap(rule) || rule.get('fieldPath') !== `.${field}`);
    }
  }
  return copy;
}

/** The definitions whose templates have the fields of a worker. */
export async function templateDefinitions(root: string): Promise<readonly Product[]> {
  const read = async (file: string): Promise<Document> => parseDocument(await readFile(join(root, file), 'utf8'));
  const worker = await read(WORKER);
  return await Promise.all(
    Object.entries(frames).map(async ([path, product]) => {
      const frame = await read(path);
      frame.commentBefore = ` Made from ${path} and ${WORKER} by \`npm run generate\`; do not edit.`;
      if (frame.contents !== null) {
        frame.contents.commentBefore = null;
      }
      fill(frame, worker);
      return { path: product, text: frame.toString({ lineWidth: 120, flowCollectionPadding: false }) };
    }),
  );
}

/** Puts the parts of a worker's schema where the frame says so. */
function fill(frame: Document, worker: Document): void {
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
}
