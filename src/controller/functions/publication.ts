import { type LambdaFunction, templateHashOf } from '../../api/lambda-function.ts';
import { type LambdaVersion, templateWith, type VersionContent } from '../../api/lambda-version.ts';
import type { LambdaWorker } from '../../api/lambda-worker.ts';
import { isUpdated, isWorkerReady } from './readiness.ts';

/** The next step of publishing. Each may be repeated. */
export type PublicationStep =
  | { readonly kind: 'none' }
  /** No worker is ready by which the image is known. */
  | { readonly kind: 'wait' }
  /** Nothing has changed since the latest version: the token is noted, and the template as it is written now. */
  | { readonly kind: 'settle'; readonly template: string; readonly token: string | undefined }
  /** Gives the next number away, together with what the version is made of. */
  | { readonly kind: 'reserve'; readonly content: VersionContent; readonly token: string | undefined }
  /** Makes the version whose number was given away. */
  | { readonly kind: 'create'; readonly content: VersionContent }
  /** The version whose number was given away is there. */
  | { readonly kind: 'complete' }
  /** The version whose number was given away was not made, and its template is gone: the number stays unused. */
  | { readonly kind: 'drop' };

export interface PublicationInput {
  readonly owner: LambdaFunction;
  /** Hash of its template. */
  readonly template: string;
  /** Workers of $LATEST that the function owns, those in deletion excepted. */
  readonly latest: readonly LambdaWorker[];
  /** Versions that the function owns. */
  readonly versions: readonly LambdaVersion[];
  /** Highest number among LambdaVersions that bear the name of the function, of any owner; 0 for none. */
  readonly highest: number;
}

/** The next step so that `spec.publish` and `spec.publishToken` hold. A change is published once its rollout is Complete. */
export function planPublication(input: PublicationInput): PublicationStep {
  const { highest, latest, owner, template, versions } = input;
  const { metadata, spec } = owner;
  const { latestVersion = 0, publication } = owner.status ?? {};
  if (metadata.deletionTimestamp !== undefined) {
    return { kind: 'none' };
  }
  const present = versions.find((version) => version.spec.version === latestVersion);
  if (publication?.state === 'Creating') {
    const { image = '', template: reserved = '' } = publication;
    if (reserved === template) {
      return { kind: 'create', content: { version: latestVersion, template: reserved, image } };
    }
    return { kind: present !== undefined ? 'complete' : 'drop' };
  }
  const { publishToken: token } = spec;
  const isAsked = token !== undefined && token !== publication?.token;
  const isChanged = spec.publish === 'OnChange' && template !== publication?.template;
  if (!isAsked && !isChanged) {
    return { kind: 'none' };
  }
  const ready = latest.filter((worker) => isUpdated(worker, template) && isWorkerReady(worker));
  const { rollout } = owner.status ?? {};
  const isRolledOut = rollout?.template === template && rollout.state === 'Complete';
  const named = ready.map(({ status }) => status?.image ?? spec.template.spec.image);
  const image = named.find((name) => DIGEST.test(name));
  if (image === undefined || (!isAsked && !isRolledOut)) {
    return { kind: 'wait' };
  }
  if (present !== undefined && publication?.image === image && isSame(owner, present)) {
    return { kind: 'settle', template, token };
  }
  const version = Math.max(latestVersion, highest) + 1;
  return { kind: 'reserve', content: { version, template, image }, token };
}

/** Whether a version of the same image would be as this one is. Both have the defaults of the present schema. */
function isSame({ spec }: LambdaFunction, { spec: { template } }: LambdaVersion): boolean {
  return templateHashOf(templateWith(spec.template, template.spec.image)) === templateHashOf(template);
}

/** Ending of a reference by digest. */
const DIGEST = /@sha256:[0-9a-f]{64}$/;
