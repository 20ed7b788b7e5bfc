import { EsbError } from '../common/errors.ts';

/** An image reference, normalised by Docker's rules. */
export interface ImageReference {
  /**
   * Full reference: `registry/repository:tag`, or `registry/repository@digest` where there is a digest. A tag beside a
   * digest is dropped, as containerd does.
   */
  readonly name: string;
  /** Registry host, with its port where one was given: `docker.io`, `127.0.0.1:5000`. */
  readonly registry: string;
  /** Path within the registry: `library/python`. */
  readonly repository: string;
}

const DEFAULT_REGISTRY = 'docker.io';
/** Old name of the same registry. */
const LEGACY_DEFAULT_REGISTRY = 'index.docker.io';
const OFFICIAL_PREFIX = 'library/';
const DEFAULT_TAG = 'latest';
/** Limit of distribution's reference grammar for registry and repository together. */
const MAX_NAME_LENGTH = 255;

const HOST_LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const REGISTRY = new RegExp(`^(?:${HOST_LABEL}(?:\\.${HOST_LABEL})*|\\[[0-9a-fA-F:]+\\])(?::[0-9]+)?$`);
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;
const HEX_LENGTH: ReadonlyMap<string, number> = new Map([
  ['sha256', 64],
  ['sha384', 96],
  ['sha512', 128],
]);
const BARE_ID = /^[0-9a-f]{64}$/;

/**
 * Normalises an image reference as Docker does: `python:3.12` is `docker.io/library/python:3.12`, `a/b` is
 * `docker.io/a/b:latest`, and a first part with a dot, a colon or the name `localhost` is a registry.
 *
 * @throws {EsbError} `ImageInvalid`, naming what is wrong with the text
 */
export function parseImageReference(text: string): ImageReference {
  if (text === '') {
    throw invalid(text, 'it is empty');
  }
  if (/\s/.test(text)) {
    throw invalid(text, 'it contains white space');
  }
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw invalid(text, 'it starts with a URL scheme; write only registry/repository:tag');
  }
  const { rest, digest } = splitDigest(text);
  const { path, tag } = splitTag(text, rest);
  if (BARE_ID.test(path)) {
    throw invalid(text, 'a bare image id is not a name; write repository@sha256:… instead');
  }
  const { registry, repository } = splitRegistry(path);
  checkName(text, registry, repository);
  const version = digest === undefined ? `:${tag}` : `@${digest}`;
  return { name: `${registry}/${repository}${version}`, registry, repository };
}

/** The full reference that a text means; undefined for a text that is no reference. */
export function imageNameOf(text: string): string | undefined {
  try {
    return parseImageReference(text).name;
  } catch {
    return undefined;
  }
}

function splitDigest(text: string): { rest: string; digest?: string } {
  const at = text.indexOf('@');
  if (at === -1) {
    return { rest: text };
  }
  const digest = text.slice(at + 1);
  const [algorithm = '', hex = ''] = digest.split(':', 2);
  const length = HEX_LENGTH.get(algorithm);
  const lengthFits = length === undefined || (hex.length === length && /^[0-9a-f]+$/.test(hex));
  if (!DIGEST.test(digest) || !lengthFits) {
    throw invalid(text, `'${digest}' is not a digest such as sha256: followed by 64 lower-case hex digits`);
  }
  return { rest: text.slice(0, at), digest };
}

function splitTag(text: string, rest: string): { path: string; tag: string } {
  const colon = rest.lastIndexOf(':');
  // A colon before the last slash belongs to the registry's port.
  if (colon === -1 || colon < rest.lastIndexOf('/')) {
    return { path: rest, tag: DEFAULT_TAG };
  }
  const tag = rest.slice(colon + 1);
  if (!TAG.test(tag)) {
    throw invalid(
      text,
      `'${tag}' is not a tag: up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-'`,
    );
  }
  return { path: rest.slice(0, colon), tag };
}

function splitRegistry(path: string): { registry: string; repository: string } {
  const slash = path.indexOf('/');
  const first = path.slice(0, Math.max(0, slash));
  const namesRegistry = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  const registry = namesRegistry && first !== LEGACY_DEFAULT_REGISTRY ? first : DEFAULT_REGISTRY;
  const repository = namesRegistry ? path.slice(slash + 1) : path;
  const official = registry === DEFAULT_REGISTRY && !repository.includes('/');
  return { registry, repository: official ? `${OFFICIAL_PREFIX}${repository}` : repository };
}

function checkName(text: string, registry: string, repository: string): void {
  if (!REGISTRY.test(registry)) {
    throw invalid(text, `'${registry}' is not a registry host with an optional port`);
  }
  if (repository !== repository.toLowerCase()) {
    throw invalid(text, `the repository name '${repository}' must be lower case`);
  }
  const bad = repository.split('/').find((component) => !COMPONENT.test(component));
  if (bad !== undefined) {
    throw invalid(
      text,
      bad === ''
        ? 'its repository name is empty or has an empty part'
        : `'${bad}' is not a part of a repository name: lower-case letters and digits, joined by '.', '_', '__' or '-'`,
    );
  }
  if (registry.length + 1 + repository.length > MAX_NAME_LENGTH) {
    throw invalid(text, `registry and repository together are longer than ${MAX_NAME_LENGTH} characters`);
  }
}

function invalid(text: string, why: string): EsbError {
  return new EsbError(`image reference '${text}' is not valid: ${why}`, { code: 'ImageInvalid' });
}
