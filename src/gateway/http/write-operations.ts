import type { LambdaFunction } from '../../api/lambda-function.ts';
import { unreachable } from '../../common/errors.ts';
import { isOlder } from '../../kube/api/resource-version.ts';
import type { ControlAction } from '../access/access.ts';
import type { FunctionDraft } from '../control/function-draft.ts';
import { configured, refuseUnknown, withArchitecture, withImage, withLookup } from '../control/function-settings.ts';
import type { Author, FunctionTarget, FunctionWriter } from '../control/function-writer.ts';
import { booleanIn, invalid, type Members, textIn, textMapIn } from '../control/members.ts';
import { withoutTags, withTags } from '../control/tags.ts';
import { type FunctionReference, parseFunctionIdentifier } from '../lambda/function-name.ts';
import { type Failure, failureCode } from '../lambda/function-state.ts';
import { lambdaShapes, type OperationName } from '../lambda/generated/operations.ts';
import { boundsError, LambdaError, shown } from '../lambda/lambda-error.ts';
import type { FunctionCatalog } from './function-catalog.ts';
import { describeFunction } from './function-description.ts';

export interface WriteInput {
  /** The function of the path. Empty for CreateFunction, whose path names none. */
  readonly reference: FunctionReference;
  /** Function of the path without its qualifier. The caller has the right that the operation needs. */
  readonly target: FunctionTarget;
  /** The other name in the path: an alias. Empty for none. */
  readonly item: string;
  /** All values of each parameter. */
  readonly query: Readonly<Record<string, readonly string[]>>;
  readonly members: Members;
  readonly author: Author;
}

export interface WriteParts {
  readonly catalog: FunctionCatalog;
  readonly writer: FunctionWriter;
  /**
   * Returns where the caller has the right.
   *
   * @param target the resource, and the function as the caller has named it
   * @throws {LambdaError} AccessDeniedException
   */
  readonly authorize: (action: ControlAction | 'invoke', target: FunctionTarget) => Promise<void>;
  /** Whether the caller has hung up. */
  readonly isGone: () => boolean;
}

/** An operation that writes LambdaFunctions. */
export interface WriteOperation {
  readonly name: OperationName;
  /** The right that its caller needs, before the body is read. */
  readonly action: 'create' | 'change' | 'delete';
  run(parts: WriteParts, input: WriteInput): Promise<object | undefined>;
}

/** Milliseconds that a version may take to be published before the request is answered without. */
const PUBLISH_MS = 40_000;

/** The operations about functions themselves and their versions. */
export const functionOperations: readonly WriteOperation[] = [
  {
    name: 'CreateFunction',
    action: 'create',
    async run(parts, { author, members }) {
      const { catalog, writer } = parts;
      const reference = parseFunctionIdentifier(textIn(members, 'FunctionName') ?? '');
      if (reference.qualifier !== undefined) {
        throw invalid('FunctionName of a new function has no qualifier.');
      }
      const target = writer.targetOf(reference.name);
      // Of one who creates by server-side apply Kubernetes asks for this right as well.
      await parts.authorize('change', target);
      const token = booleanIn(members, 'Publish') === true ? author.requestId : undefined;
      const made = await writer.create(target, members, token, author);
      return token === undefined
        ? described(catalog, reference, made)
        : await published(parts, reference, made, token, {
            late: 'ResourceConflictException',
            image: { withdraw: () => writer.withdraw(made, author) },
          });
    },
  },
  {
    name: 'UpdateFunctionCode',
    action: 'change',
    async run(parts, { author, members, reference, target }) {
      checkLatest(reference);
      const token = booleanIn(members, 'Publish') === true ? author.requestId : undefined;
      const next = (draft: FunctionDraft): FunctionDraft => {
        const known = ['Architectures', 'DryRun', 'Publish', 'RevisionId'];
        const named = withArchitecture(withImage(draft, members, known), members);
        const changed = withLookup(draft, named, author.requestId);
        return token === undefined ? changed : withToken(changed, token);
      };
      const { catalog, writer } = parts;
      const isTrial = booleanIn(members, 'DryRun') === true;
      const revisionId = textIn(members, 'RevisionId');
      const changed = await writer.change(target, next, author, { isTrial, revisionId });
      return token === undefined || isTrial
        ? described(catalog, reference, changed)
        : await published(parts, reference, changed, token, { late: 'ServiceException', image: {} });
    },
  },
  {
    name: 'UpdateFunctionConfiguration',
    action: 'change',
    async run({ catalog, writer }, { author, members, reference, target }) {
      checkLatest(reference);
      const next = (draft: FunctionDraft): FunctionDraft => configured(draft, members, reference.name, ['RevisionId']);
      const changed = await writer.change(target, next, author, { revisionId: textIn(members, 'RevisionId') });
      return described(catalog, reference, changed);
    },
  },
  {
    name: 'DeleteFunction',
    action: 'delete',
    async run({ writer }, { author, reference, target }) {
      const { qualifier } = reference;
      if (qualifier === undefined) {
        await writer.remove(target, author);
        return undefined;
      }
      await writer.removeVersion(target, versionIn(qualifier), author);
      return undefined;
    },
  },
  {
    name: 'PublishVersion',
    action: 'change',
    async run(parts, { author, members, reference, target }) {
      checkLatest(reference);
      refuseUnknown(members, new Set(['CodeSha256', 'Description', 'RevisionId']));
      const { catalog, writer } = parts;
      const next = (draft: FunctionDraft, present: LambdaFunction): FunctionDraft => {
        const { CodeSha256 } = describeFunction(catalog.find({ name: target.name }, present), reference);
        checkCode(textIn(members, 'CodeSha256'), CodeSha256);
        return withToken(draft, author.requestId, descriptionIn(members));
      };
      // Requests that ask for the same while one is written share the next one, and its end.
      const turn = JSON.stringify([target.objectName, author.name, members]);
      const { ended } = await writer.publish(turn, async () => {
        const changed = await writer.change(target, next, author, { revisionId: textIn(members, 'RevisionId') });
        const lasting = { ...parts, isGone: () => false };
        return { ended: published(lasting, reference, changed, author.requestId, { late: 'ServiceException' }) };
      });
      return await ended;
    },
  },
  {
    name: 'TagResource',
    action: 'change',
    async run({ writer }, { author, members, reference, target }) {
      checkLatest(reference);
      const tags = textMapIn(members, 'Tags') ?? {};
      await writer.change(target, (draft) => withTags(draft, tags), author);
      return undefined;
    },
  },
  {
    name: 'UntagResource',
    action: 'change',
    async run({ writer }, { author, query, reference, target }) {
      checkLatest(reference);
      const keys = query.tagKeys ?? [];
      await writer.change(target, (draft) => withoutTags(draft, keys), author);
      return undefined;
    },
  },
];

/** @throws {LambdaError} InvalidParameterValueException for the qualifier of a version or an alias */
export function checkLatest({ qualifier }: FunctionReference): void {
  if (qualifier !== undefined && qualifier !== '$LATEST') {
    throw invalid(
      `Qualifier ${shown(qualifier)} is not supported. Settings are those of the function: leave Qualifier out.`,
    );
  }
}

/** @throws {LambdaError} InvalidParameterValueException for a qualifier that is no number of a version */
export function versionIn(qualifier: string): number {
  if (!/^[1-9][0-9]*$/.test(qualifier)) {
    throw invalid(
      `Qualifier ${shown(qualifier)} is no version. Leave it out to delete the function, or use DeleteAlias.`,
    );
  }
  return Number(qualifier);
}

function described(catalog: FunctionCatalog, { name }: FunctionReference, written: LambdaFunction): object {
  return describeFunction(catalog.find({ name }, written), { name });
}

/** @param description of the version, in place of that of the function */
function withToken(draft: FunctionDraft, publishToken: string, description = ''): FunctionDraft {
  const { publication: _before, ...kept } = draft.kept;
  return {
    ...draft,
    kept: description === '' ? kept : { ...kept, publication: { token: publishToken, description } },
    spec: { ...draft.spec, publishToken },
  };
}

/** The description of a version, as long as its resource takes. */
function descriptionIn(members: Members): string | undefined {
  const description = textIn(members, 'Description');
  const length = { amount: description?.length ?? 0, of: 'length' } as const;
  const error = boundsError('description', description ?? '', length, lambdaShapes.Description);
  if (error !== undefined) {
    throw error;
  }
  return description;
}

/** @throws {LambdaError} InvalidParameterValueException */
function checkCode(wanted: string | undefined, present: string): void {
  if (wanted !== undefined && wanted !== '' && wanted !== present) {
    throw invalid(
      `CodeSha256 (${shown(wanted)}) is different from current CodeSHA256 (${present}) of $LATEST. Please try again with the CodeSHA256 in $LATEST.`,
    );
  }
}

interface Publishing {
  /**
   * The error where no worker has run the image in time. A repetition of a ServiceException publishes no second version,
   * since nothing has changed.
   */
  readonly late: 'ResourceConflictException' | 'ServiceException';
  /** Present where the request has brought the image, which Lambda looks at before it writes anything. */
  readonly image?: {
    /** Takes back what was written for an image that cannot be had. */
    readonly withdraw?: () => Promise<void>;
  };
}

/** The version that a token has published. */
async function published(
  { catalog, isGone, writer }: WriteParts,
  { name }: FunctionReference,
  written: LambdaFunction,
  token: string,
  { image, late }: Publishing,
): Promise<object> {
  const found = (): PublishedState => publishedState(catalog, name, written, token);
  await writer.until(name, () => found().kind !== 'Waiting' || isGone(), PUBLISH_MS);
  const state = found();
  switch (state.kind) {
    case 'Published': {
      const reference = { name, qualifier: String(state.version) };
      return describeFunction(catalog.find(reference), reference);
    }
    case 'Gone':
      throw new LambdaError('ResourceNotFoundException', `The function ${name} was deleted meanwhile.`);
    case 'Failed': {
      const refusal = image === undefined ? undefined : imageRefusal(written.spec.template.spec.image, state);
      if (refusal !== undefined) {
        await image?.withdraw?.();
        throw refusal;
      }
      throw new LambdaError('ResourceConflictException', `No version was published: ${state.message}`);
    }
    case 'Waiting':
      throw new LambdaError(
        late,
        `The function ${name} is written. Its version is published once a worker has run the image, which takes longer than this request: wait for the function, and use ListVersionsByFunction.`,
        late === 'ServiceException' ? { status: 503, retryAfterSeconds: 1 } : {},
      );
    default:
      return unreachable(state);
  }
}

/** The error of Lambda, which looks at an image before it takes a function; undefined for a failure of another cause. */
function imageRefusal(image: string, failure: Failure): LambdaError | undefined {
  switch (failureCode(failure)) {
    case 'InvalidImage': {
      const fault = failure.reason === 'ImageNotFound' ? 'does not exist' : 'is not valid';
      const text = `Source image ${shown(image)} ${fault}. Provide a valid source image. ${failure.message}`;
      return new LambdaError('InvalidParameterValueException', text);
    }
    case 'ImageAccessDenied': {
      const text = `Lambda does not have permission to access the image ${shown(image)}. Check the permissions of its registry. ${failure.message}`;
      return new LambdaError('AccessDeniedException', text);
    }
    default:
      return undefined;
  }
}

type PublishedState =
  | { readonly kind: 'Waiting' | 'Gone' }
  | ({ readonly kind: 'Failed' } & Failure)
  | { readonly kind: 'Published'; readonly version: number };

function publishedState(
  catalog: FunctionCatalog,
  name: string,
  written: LambdaFunction,
  token: string,
): PublishedState {
  const owner = catalog.owner(name);
  if (owner === undefined || owner.metadata.uid !== written.metadata.uid) {
    return { kind: 'Gone' };
  }
  const { conditions, latestVersion, observedGeneration, publication } = owner.status ?? {};
  const asked = owner.spec.publishToken;
  // Another token than that of this request is one that came later: of the same template both mean one version.
  const isOvertaken = asked !== token && !isOlder(owner, written);
  const isSame = isOvertaken && catalog.hashOf(owner.spec.template) === catalog.hashOf(written.spec.template);
  const isDone = publication?.token === token || (isSame && publication?.token === asked);
  if (isDone && publication?.state !== 'Creating' && latestVersion !== undefined) {
    const isSeen = catalog.hasVersion(name, latestVersion);
    return isSeen ? { kind: 'Published', version: latestVersion } : { kind: 'Waiting' };
  }
  if (isOvertaken && !isSame && publication?.token !== token) {
    const message = 'another request has changed the function and published it.';
    return { kind: 'Failed', reason: 'Overtaken', message };
  }
  const isCurrent = (asked === token || isOvertaken) && observedGeneration === owner.metadata.generation;
  const stalled = conditions?.find(({ type, status }) => type === 'Stalled' && status === 'True');
  if (isCurrent && stalled !== undefined) {
    return { kind: 'Failed', reason: stalled.reason, message: stalled.message };
  }
  return { kind: 'Waiting' };
}
