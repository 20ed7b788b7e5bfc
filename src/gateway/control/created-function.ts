import { createHash } from 'node:crypto';
import { type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import { API_GROUP, API_VERSION } from '../../api/name.ts';
import type { ObjectKey } from '../../kube/api/types.ts';
import { annotationsOf, type FunctionDraft } from './function-draft.ts';
import { configured, withArchitecture, withImage } from './function-settings.ts';
import { invalid, type Members, objectIn, textIn, textMapIn } from './members.ts';
import { withTags } from './tags.ts';

/** Names that Kubernetes takes as the names of objects, and labels of their workers, without a dot. */
const OBJECT_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** Characters of the part of a derived name that people read. */
const READABLE = 50;

/** Members of CreateFunction beside those of a configuration. */
const MEMBERS = ['Architectures', 'Code', 'FunctionName', 'PackageType', 'Publish', 'Tags'];

/**
 * Name of the resource for a function that has none: its own where Kubernetes takes that, else one that no other function
 * gets.
 */
export function objectNameFor(functionName: string): string {
  if (OBJECT_NAME.test(functionName)) {
    return functionName;
  }
  const readable = functionName
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-+|-+$/g, '')
    .slice(0, READABLE)
    .replace(/-+$/, '');
  const digest = createHash('sha256').update(functionName).digest('hex').slice(0, 8);
  return `${readable === '' ? 'function' : readable}-${digest}`;
}

/** A new function grows with its calls, as in Lambda. Not even its first call waits for its code to be loaded. */
const ofNewFunctions = {
  scaling: { mode: 'Auto', minWorkers: 0 },
  template: { spec: { desiredState: 'Paused' } },
};

/**
 * The function that CreateFunction asks for.
 *
 * @throws {LambdaError} InvalidParameterValueException
 */
export function createdDraft(members: Members, functionName: string): FunctionDraft {
  if ((textIn(members, 'PackageType') ?? 'Zip') !== 'Image') {
    throw invalid(
      'PackageType has to be Image. Functions are images: name one by Code.ImageUri, or use esb deploy FOLDER.',
    );
  }
  const code = objectIn(members, 'Code');
  if (code === undefined) {
    throw invalid('Code.ImageUri is needed.');
  }
  const empty = { labels: {}, kept: {}, spec: ofNewFunctions };
  const draft = configured(withImage(empty as unknown as FunctionDraft, code), members, functionName, MEMBERS);
  return withTags(withArchitecture(draft, members), textMapIn(members, 'Tags') ?? {});
}

/**
 * The resourceVersion of no object. An apply with a resourceVersion creates an object that is not there, and is a
 * Conflict for one that is: of two creations at one moment the first one holds.
 */
const OF_NO_OBJECT = '1';

/** The object of a draft, with the fields that it names and no others. The apply of it creates, and changes nothing. */
export function createdObject(
  { kept, labels, spec }: FunctionDraft,
  functionName: string,
  { name, namespace }: ObjectKey,
  caller: string,
  now: number,
): object {
  return {
    apiVersion: `${API_GROUP}/${API_VERSION}`,
    kind: lambdaFunctions.kind,
    metadata: {
      name,
      namespace,
      resourceVersion: OF_NO_OBJECT,
      labels,
      annotations: annotationsOf(kept, caller, now),
    },
    spec: name === functionName ? spec : { functionName, ...spec },
  } satisfies object & Partial<Record<keyof LambdaFunction, unknown>>;
}
