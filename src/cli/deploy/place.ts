import { EsbError } from '../../common/errors.ts';
import { parseImageReference } from '../../oci/image-reference.ts';
import { NO_BASE } from '../build/base-image.ts';
import type { Language } from '../build/language.ts';

/** Bases in the registry of a local instance. */
const instanceBases: Readonly<Record<Exclude<Language, 'go'>, string>> = {
  python: 'python-base:latest',
  node: 'nodejs-base:latest',
};

const WITHOUT_INSTANCE = 'Without a local instance (npm run up starts one)';

/**
 * The base of a function: the given one, nothing for a program in Go, else that of the local instance.
 *
 * @param registry that of the local instance; undefined where another cluster is meant
 * @throws {EsbError} `InvalidArgument` with the way out
 */
export function baseNameOf(language: Language, given: string | undefined, registry: string | undefined): string {
  if (given === NO_BASE && language !== 'go') {
    throw new EsbError(`--base ${NO_BASE} has nothing that runs a function in ${language}`, {
      code: 'InvalidArgument',
    });
  }
  if (given !== undefined) {
    return given;
  }
  if (language === 'go') {
    return NO_BASE;
  }
  if (registry === undefined) {
    throw new EsbError(
      `${WITHOUT_INSTANCE}, name an image that runs functions in ${language} with --base, such as AWS's base image, and ` +
        'a repository for the image of the function with --push',
      { code: 'InvalidArgument' },
    );
  }
  return `${registry}/${instanceBases[language]}`;
}

/** A repository of a registry. */
export interface Repository {
  readonly registry: string;
  readonly repository: string;
}

/**
 * The repository that the image is pushed to: the given one, else one of the function's name in the local instance.
 *
 * @throws {EsbError} `InvalidArgument` with the way out, `ImageInvalid` for a text that names no repository
 */
export function repositoryOf(name: string, given: string | undefined, registry: string | undefined): Repository {
  if (given === undefined && registry === undefined) {
    throw new EsbError(
      `${WITHOUT_INSTANCE}, name the repository for the image with --push, such as --push registry.example/team/hello: ` +
        'one that the nodes of the cluster pull from',
      { code: 'InvalidArgument' },
    );
  }
  const text = given ?? `${registry}/${name}`;
  const parsed = parseImageReference(text);
  if (/@|:[^/]*$/.test(text)) {
    throw new EsbError(`--push ${text}: name a repository, without tag and digest; each image has a tag of its own`, {
      code: 'InvalidArgument',
    });
  }
  return { registry: parsed.registry, repository: parsed.repository };
}

/**
 * Whether HTTP without TLS is spoken with a registry: where a user asks for that, with the one that is pushed to. A
 * base elsewhere is read with TLS, and no login for its registry travels in the clear. Undefined: as the client decides.
 */
export function plainHttpWith(registry: string, target: Repository, isAsked: boolean): true | undefined {
  return isAsked && registry === target.registry ? true : undefined;
}
