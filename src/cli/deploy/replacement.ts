import type { LambdaFunction } from '../../api/lambda-function.ts';
import { EsbError } from '../../common/errors.ts';
import { parseImageReference } from '../../oci/image-reference.ts';
import { functionProgress } from './function-progress.ts';
import { isOwnField, ownFields } from './own-fields.ts';
import type { Repository } from './place.ts';

/** A folder on its way to become a function. */
export interface FolderPlan {
  readonly namespace: string;
  readonly name: string;
  readonly handler: string | undefined;
  readonly target: Repository;
}

/**
 * Refuses to replace a function that was deployed from another folder, as far as handler and repository tell. Folders
 * have names such as `src`, and a function has no trace of its folder that would be the same on another machine.
 *
 * @param present the function as it is; undefined for a new one
 * @param isNamed whether the user has written the name, and so means this function
 * @throws {EsbError} `Conflict` with the way out
 */
export function checkReplacement(
  present: LambdaFunction | undefined,
  { handler, name, namespace, target }: FolderPlan,
  isNamed: boolean,
): void {
  // A field of another manager is a conflict of its own.
  const isOurs = (field: string): boolean =>
    present !== undefined && isOwnField(ownFields(present), 'spec', 'template', 'spec', field);
  if (present === undefined || isNamed || !isOurs('image') || hasNeverRun(present)) {
    return;
  }
  const { handler: presentHandler, image } = present.spec.template.spec;
  const place = `${target.registry}/${target.repository}`;
  const { registry, repository } = parseImageReference(image);
  const presentPlace = `${registry}/${repository}`;
  const differences = [
    ...(presentHandler === handler || (presentHandler !== undefined && !isOurs('handler'))
      ? []
      : [`has ${called(presentHandler)}, and this deploy has ${called(handler)}`]),
    ...(presentPlace === place ? [] : [`has its image in ${presentPlace}, and this one goes to ${place}`]),
  ];
  if (differences.length > 0) {
    throw new EsbError(
      `${namespace}/${name} may be of another folder: the function that is there ${differences.join('; ')}. ` +
        `Name this one with --name, or write --name ${name} to replace that one`,
      { code: 'Conflict' },
    );
  }
}

/** Whether there is nothing to lose: the first template is the present one, and has failed. A misspelt handler, say. */
function hasNeverRun(present: LambdaFunction): boolean {
  const { revisions = [], rollout } = present.status ?? {};
  return revisions.length < 2 && rollout?.state !== 'Complete' && functionProgress(present).kind === 'Failed';
}

function called(handler: string | undefined): string {
  return handler === undefined ? 'no handler' : `the handler ${handler}`;
}

/**
 * The end of a line that says which code a deploy replaces; empty for none.
 *
 * @param image the new one, by digest
 */
export function replacedText(present: LambdaFunction | undefined, image: string): string {
  const old = present?.spec.template.spec.image;
  if (present === undefined || old === undefined || digestOf(old) === digestOf(image)) {
    return '';
  }
  const time = ownFields(present)?.time;
  return `, in place of ${digestOf(old)}${time === undefined ? '' : ` of ${time}`}`;
}

/** The first digits of the digest in a reference; the reference where there is none. */
function digestOf(image: string): string {
  return /@sha256:([0-9a-f]{12})/.exec(image)?.[1] ?? image;
}
