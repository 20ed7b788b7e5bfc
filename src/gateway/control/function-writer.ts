import { isDeepStrictEqual } from 'node:util';
import { calledNameOf, functionOwnerOf, type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import { type LambdaVersion, lambdaVersions, versionName } from '../../api/lambda-version.ts';
import { fieldManagers } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import { withDeadline } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import { LATEST } from '../../common/function-arn.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';
import type { Informer, KubeClient, ObjectKey } from '../../kube/api/types.ts';
import type { VersionBook } from '../agents/version-book.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import { functionRevisionOf } from '../lambda/revision-id.ts';
import { versionsOf } from './aliases.ts';
import { createdDraft, createdObject, objectNameFor } from './created-function.ts';
import { draftOf, type FunctionDraft, patchTo } from './function-draft.ts';
import type { Members } from './members.ts';
import { inWordsOfLambda } from './refusal.ts';
import { SharedTurns } from './shared-turns.ts';

/** The account that writes. */
export type ControlClient = Pick<KubeClient, 'get' | 'patch' | 'delete'>;

export interface FunctionWriterOptions {
  /** Writes through it show in the informers. */
  readonly client: ControlClient;
  readonly namespace: string;
  /** Heard after the book has. */
  readonly functions: Pick<Informer<LambdaFunction>, 'cache' | 'removed' | 'subscribe' | 'written'>;
  readonly versions: Pick<Informer<LambdaVersion>, 'subscribe' | 'written'>;
  readonly book: Pick<VersionBook, 'function' | 'version'>;
  /** Whether workers serve a function of this name that no LambdaFunction owns. */
  readonly isHandMade: (functionName: string) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A function and its resource, be it there or not. The right of a caller is one to this resource. */
export interface FunctionTarget {
  /** As callers write it. */
  readonly name: string;
  readonly objectName: string;
}

/** The sender of a change, for the annotation and the log. */
export interface Author {
  /** As Kubernetes names the user. */
  readonly name: string;
  readonly requestId: string;
  readonly operation: string;
}

export interface ChangeOptions {
  readonly isTrial?: boolean;
  readonly revisionId?: string | undefined;
}

/** A version that is written, and its end. */
export interface Publish {
  readonly ended: Promise<object>;
}

const TRIES = 5;
/** Milliseconds that one request to the API server may take. */
const DEADLINE_MS = 10_000;
/** Milliseconds that a read waits for the API server. */
const SEEN_MS = 2_000;
/** Looks at the API server for reads at a time; the others wait for their turn. */
const MAX_READS = 16;

/**
 * Reads and writes LambdaFunctions for callers of the Lambda API. Every write is one of `esb-control`, for any
 * caller; others check the caller's right. Errors are LambdaErrors.
 */
export class FunctionWriter {
  readonly #options: FunctionWriterOptions;
  /** Hear of each change of a function or of its versions, by its called name. */
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #reads = new SharedTurns<void>();
  readonly #readers = new Limiter(MAX_READS);
  readonly #publishes = new SharedTurns<Publish>();

  constructor(options: FunctionWriterOptions) {
    this.#options = options;
    const tell = (name: string): void => {
      for (const look of this.#waiting.get(name) ?? []) {
        look();
      }
    };
    options.functions.subscribe(({ object }) => tell(calledNameOf(object)));
    options.versions.subscribe(({ object }) => tell(object.spec.functionName));
  }

  targetOf(name: string): FunctionTarget {
    return { name, objectName: this.#options.book.function(name)?.metadata.name ?? objectNameFor(name) };
  }

  /**
   * The function as the API server has it.
   *
   * @throws {LambdaError} ResourceNotFoundException; UnsupportedOperationException where workers made by hand serve it
   */
  async read(target: FunctionTarget): Promise<LambdaFunction> {
    const { name } = target;
    const found = await this.#get(target);
    if (found !== undefined) {
      return found;
    }
    throw this.#options.isHandMade(name)
      ? new LambdaError(
          'UnsupportedOperationException',
          `The function ${name} has no LambdaFunction: LambdaWorkers that were made by hand serve it. Change them with kubectl.`,
        )
      : new LambdaError('ResourceNotFoundException', `Function not found: ${functionArn({ name })}`);
  }

  /**
   * Creates the function that CreateFunction asks for.
   *
   * @param publishToken publishes its first version
   * @throws {LambdaError} ResourceConflictException where the name is in use; InvalidParameterValueException
   */
  async create(
    { name, objectName }: FunctionTarget,
    members: Members,
    publishToken: string | undefined,
    author: Author,
  ): Promise<LambdaFunction> {
    const { client, clock, namespace } = this.#options;
    const draft = createdDraft(members, name);
    const spec = publishToken === undefined ? draft.spec : { ...draft.spec, publishToken };
    const key = { namespace, name: objectName };
    const object = createdObject({ ...draft, spec }, name, key, author.name, clock.now());
    return await inWordsOfLambda(async () => {
      const isTaken = (await this.#getObject(key)) !== undefined;
      if (isTaken || this.#options.isHandMade(name)) {
        throw alreadyThere(name);
      }
      // By server-side apply, unlike a create, defaults of the schema belong to no manager.
      const patch = { kind: 'apply', fieldManager: fieldManagers.control, force: false, body: object } as const;
      try {
        const made = await client.patch(lambdaFunctions, key, patch, { deadlineMs: DEADLINE_MS });
        return this.#written(made, author);
      } catch (error) {
        throw hasCode(error, 'Conflict') ? alreadyThere(name, error) : error;
      }
    });
  }

  /**
   * Changes a function; a change that another writer was in the way of is made again from what that one has left.
   *
   * @param how `revisionId` refuses to change another revision than this one. With `isTrial` nothing is written
   * @throws {LambdaError} PreconditionFailedException and others, see {@link FunctionWriter.read}
   */
  async change(
    target: FunctionTarget,
    next: (draft: FunctionDraft, present: LambdaFunction) => FunctionDraft,
    author: Author,
    { isTrial = false, revisionId }: ChangeOptions = {},
  ): Promise<LambdaFunction> {
    const { client, clock, namespace } = this.#options;
    return await inWordsOfLambda(async () => {
      for (let tries = 1; ; tries += 1) {
        const present = await this.read(target);
        checkRevision(revisionId, functionRevisionOf(present));
        const body = patchTo(present, next(draftOf(present), present), author.name, clock.now());
        if (body === undefined) {
          return present;
        }
        const patch = { kind: 'merge', body, fieldManager: fieldManagers.control } as const;
        const key = { namespace, name: present.metadata.name };
        try {
          const options = { deadlineMs: DEADLINE_MS, dryRun: isTrial };
          const changed = await client.patch(lambdaFunctions, key, patch, options);
          return isTrial ? changed : this.#written(changed, author);
        } catch (error) {
          if (tries === TRIES || !hasCode(error, 'Conflict')) {
            throw error;
          }
        }
      }
    });
  }

  /**
   * Publishes what a request asks for, one at a time of those that ask for the same: all who come meanwhile share the next
   * turn.
   *
   * @param turn all that the request asks for, and its author
   */
  async publish(turn: string, write: () => Promise<Publish>): Promise<Publish> {
    return await this.#publishes.run(turn, write);
  }

  /** Deletes a function; the controller removes its workers and versions. */
  async remove(target: FunctionTarget, author: Author): Promise<void> {
    const { client, namespace } = this.#options;
    await inWordsOfLambda(async () => {
      const { name, uid } = (await this.read(target)).metadata;
      await client.delete(lambdaFunctions, { namespace, name }, { uid, deadlineMs: DEADLINE_MS });
      this.#log('function deleted', name, author);
    });
  }

  /** Deletes a function that a request has just created, unless it was changed since. Never rejects. */
  async withdraw(made: LambdaFunction, author: Author): Promise<void> {
    const { logger, namespace } = this.#options;
    const { name } = made.metadata;
    try {
      if (await this.#deleteUnchanged({ namespace, name }, made)) {
        this.#log('function withdrawn', name, author);
      }
    } catch (error) {
      logger.warn({ err: error, function: name }, 'a function that cannot have its image is not withdrawn');
    }
  }

  /** Deletes an object where nothing but its status was changed since; returns whether that was so. */
  async #deleteUnchanged(key: ObjectKey, made: LambdaFunction): Promise<boolean> {
    for (let tries = 1; ; tries += 1) {
      const present = await this.#getObject(key);
      if (present === undefined || !isDeepStrictEqual(writtenOf(present), writtenOf(made))) {
        return false;
      }
      const { resourceVersion, uid } = present.metadata;
      try {
        const options = { uid, resourceVersion, deadlineMs: DEADLINE_MS };
        await this.#options.client.delete(lambdaFunctions, key, options);
        return true;
      } catch (error) {
        if (tries === TRIES || !hasCode(error, 'Conflict')) {
          throw error;
        }
      }
    }
  }

  /**
   * Deletes a version.
   *
   * @throws {LambdaError} ResourceConflictException where an alias names it
   */
  async removeVersion(target: FunctionTarget, version: number, author: Author): Promise<void> {
    const { client, namespace } = this.#options;
    await inWordsOfLambda(async () => {
      const owner = await this.read(target);
      // Calls go by the aliases in effect, which may still name a version that the written ones no longer do.
      const aliases = [...(owner.spec.aliases ?? []), ...(owner.status?.aliases ?? [])];
      const alias = aliases.find((each) => versionsOf(each).includes(version));
      if (alias !== undefined) {
        const message = `The alias ${alias.name} names version ${version}: change or delete the alias first.`;
        throw new LambdaError('ResourceConflictException', message);
      }
      const key = { namespace, name: versionName(owner, version) };
      const present = await this.#versionOf(owner, version);
      if (present === undefined) {
        return;
      }
      const { uid } = present.metadata;
      await client.delete(lambdaVersions, key, { uid, deadlineMs: DEADLINE_MS });
      this.#log('version deleted', key.name, author);
    });
  }

  /** Whether a version was published, as the API server has it. */
  async hasVersion(owner: LambdaFunction, version: number): Promise<boolean> {
    return await inWordsOfLambda(async () => (await this.#versionOf(owner, version)) !== undefined);
  }

  /** The version of this very function; one of its name may be left of an earlier function. */
  async #versionOf(owner: LambdaFunction, version: number): Promise<LambdaVersion | undefined> {
    const { client, namespace } = this.#options;
    const key = { namespace, name: versionName(owner, version) };
    const found = await client.get(lambdaVersions, key, { deadlineMs: DEADLINE_MS });
    const isOwn = found !== undefined && functionOwnerOf(found.metadata)?.uid === owner.metadata.uid;
    return isOwn ? found : undefined;
  }

  /**
   * Has reads of this gateway show what any gateway has written: its caches take in what the API server has now. Reads of
   * one function share a look that begins after they came. While the API server is away or busy, reads show what they can.
   */
  async refresh({ name, qualifier = LATEST }: FunctionReference): Promise<void> {
    const version = Number(qualifier);
    const { book, logger } = this.#options;
    const isNew = Number.isSafeInteger(version) && book.version(name, version) === undefined;
    try {
      await this.#reads.run(isNew ? `${name}:${version}` : name, () =>
        withDeadline('look at a function', SEEN_MS, undefined, (signal) =>
          this.#readers.run(() => this.#look(name, isNew ? version : undefined, signal), signal),
        ),
      );
    } catch (error) {
      logger.debug({ err: error, function: name }, 'read without a look at the API server');
    }
  }

  /** @param version one that the gateway does not know; undefined for none */
  async #look(name: string, version: number | undefined, signal: AbortSignal): Promise<void> {
    const { client, functions, namespace, versions } = this.#options;
    const key = { namespace, name: this.targetOf(name).objectName };
    const before = functions.cache.get(key)?.metadata.uid;
    const present = await client.get(lambdaFunctions, key, { signal });
    if (present !== undefined) {
      functions.written(present);
    } else if (before !== undefined) {
      functions.removed(key, before);
    }
    if (present !== undefined && version !== undefined) {
      const of = { namespace, name: versionName(present, version) };
      const published = await client.get(lambdaVersions, of, { signal });
      if (published !== undefined) {
        versions.written(published);
      }
    }
  }

  /**
   * Waits until a condition of a function holds that the gateway's watches bring about: looks once for each change of the
   * function and of its versions. Returns whether the condition holds in time.
   */
  async until(functionName: string, holds: () => boolean, deadlineMs: number): Promise<boolean> {
    if (holds()) {
      return true;
    }
    const waiting = this.#waiting.get(functionName) ?? new Set();
    this.#waiting.set(functionName, waiting);
    const done = Promise.withResolvers<void>();
    const look = (): void => {
      if (holds()) {
        done.resolve();
      }
    };
    waiting.add(look);
    const timer = this.#options.clock.setTimer(done.resolve, deadlineMs);
    await done.promise;
    timer.cancel();
    waiting.delete(look);
    if (waiting.size === 0 && this.#waiting.get(functionName) === waiting) {
      this.#waiting.delete(functionName);
    }
    return holds();
  }

  #written(object: LambdaFunction, author: Author): LambdaFunction {
    this.#log('function written', object.metadata.name, author);
    return object;
  }

  #log(what: string, object: string, { name: caller, operation, requestId }: Author): void {
    const { logger, namespace } = this.#options;
    logger.info({ object: `${namespace}/${object}`, caller, operation, requestId }, what);
  }

  async #get({ name, objectName }: FunctionTarget): Promise<LambdaFunction | undefined> {
    const found = await this.#getObject({ namespace: this.#options.namespace, name: objectName });
    return found === undefined || calledNameOf(found) !== name ? undefined : found;
  }

  async #getObject(key: ObjectKey): Promise<LambdaFunction | undefined> {
    return await inWordsOfLambda(() => this.#options.client.get(lambdaFunctions, key, { deadlineMs: DEADLINE_MS }));
  }
}

/** The parts of an object that its status has no part in. */
function writtenOf({ metadata }: LambdaFunction): object {
  const { annotations = {}, generation, labels = {}, uid } = metadata;
  return { annotations, generation, labels, uid };
}

function alreadyThere(name: string, cause?: unknown): LambdaError {
  return new LambdaError('ResourceConflictException', `Function already exist: ${name}`, { cause });
}

/**
 * @param wanted undefined for any
 * @throws {LambdaError} PreconditionFailedException
 */
export function checkRevision(wanted: string | undefined, present: string): void {
  if (wanted !== undefined && wanted !== '' && wanted !== present) {
    throw new LambdaError(
      'PreconditionFailedException',
      'The RevisionId provided does not match the latest RevisionId. Call the GetFunction/GetAlias API to retrieve the latest RevisionId for your resource.',
    );
  }
}
