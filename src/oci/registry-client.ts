import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import ipaddr from 'ipaddr.js';
import { request } from 'undici';
import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';
import type { Descriptor } from './image-config.ts';
import { type Answer, contentOf, type Refusal, refusal } from './registry-answer.ts';
import { basicAuthorization, challengeOf, fetchToken, type RegistryLogin } from './registry-token.ts';

export interface RegistryClientOptions {
  /** Host with its port where one was given: `docker.io`, `127.0.0.1:5000`. */
  readonly registry: string;
  /** Default: none. */
  readonly login?: RegistryLogin | undefined;
  /** Whether HTTP without TLS is spoken. Default: with a registry on the loopback alone. */
  readonly plainHttp?: boolean | undefined;
}

/** A manifest or index as its registry has it. */
export interface StoredManifest extends Descriptor {
  readonly content: Buffer;
}

/** Content on its way to a registry. */
export interface PushedBlob {
  /** `sha256:…` */
  readonly digest: string;
  /** In bytes. */
  readonly size: number;
  /** The content from its beginning, each time it is asked for. */
  readonly open: () => Promise<Readable | Buffer>;
}

/** A request before it has its authorization. */
interface RegistryRequest {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT';
  readonly url: URL;
  readonly scopes: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: () => Promise<Readable | Buffer>;
}

const DOCUMENT_DEADLINE_MS = 60_000;
/** Of one blob, up or down. */
const BLOB_DEADLINE_MS = 30 * 60_000;
const MOST_REDIRECTS = 5;
/** Bytes of a manifest or configuration, which have a few kilobytes. */
const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;
const ACCEPTED_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');
/** Digest algorithms of the OCI image specification. */
const DIGEST_ALGORITHMS: ReadonlySet<string> = new Set(['sha256', 'sha512']);
/** The servers of registries whose name is not that of their server. */
const SERVERS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };

/** Whether a registry is on this machine's loopback, so that plain HTTP to it passes no network. */
export function isLoopbackRegistry(registry: string): boolean {
  const host = registry.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return host === 'localhost' || (ipaddr.isValid(host) && ipaddr.process(host).range() === 'loopback');
}

/**
 * A client of one registry (OCI distribution specification 1.1), for pulls of documents and pushes of images.
 *
 * Every call fails with `RegistryUnreachable`, `ImageNotFound` (status 404), `ImagePullFailed` or `ImagePushFailed`
 * (any other refusal, with the registry's own words), and `DeadlineExceeded` after a minute, half an hour for a blob.
 */
export class RegistryClient {
  readonly registry: string;
  readonly #origin: string;
  readonly #login: RegistryLogin | undefined;
  /** Headers `Authorization` by their scopes. */
  readonly #authorizations = new Map<string, string>();

  constructor({ registry, login, plainHttp }: RegistryClientOptions) {
    this.registry = registry;
    this.#login = login;
    const scheme = (plainHttp ?? isLoopbackRegistry(registry)) ? 'http' : 'https';
    // In the form of the origins that it is compared with: without the usual port, in lower case.
    this.#origin = new URL(`${scheme}://${SERVERS[registry] ?? registry}`).origin;
  }

  /**
   * A manifest or index by tag or digest.
   *
   * @throws {EsbError} `InvalidAnswer` when the content is not that of its digest, or too long
   */
  async manifest(repository: string, reference: string, options: CallOptions = {}): Promise<StoredManifest> {
    const what = `the manifest ${reference} of ${this.registry}/${repository}`;
    return this.#within(what, DOCUMENT_DEADLINE_MS, options, async (signal) => {
      const answer = await this.#pull(
        what,
        { path: `${repository}/manifests/${reference}`, repository, headers: { accept: ACCEPTED_TYPES } },
        signal,
      );
      const content = await contentOf(answer, what, MAX_DOCUMENT_BYTES);
      const isDigest = reference.includes(':');
      if (isDigest) {
        checkDigest(what, content, reference);
      }
      const digest = isDigest ? reference : digestOf(content);
      const [mediaType = ''] = String(answer.headers['content-type'] ?? '').split(';');
      return { mediaType: mediaType.trim(), digest, content };
    });
  }

  /** A configuration or another small blob. */
  async document(repository: string, digest: string, options: CallOptions = {}): Promise<Buffer> {
    const what = `the document ${digest} of ${this.registry}/${repository}`;
    return this.#within(what, DOCUMENT_DEADLINE_MS, options, async (signal) => {
      const answer = await this.#pull(what, { path: `${repository}/blobs/${digest}`, repository }, signal);
      const content = await contentOf(answer, what, MAX_DOCUMENT_BYTES);
      checkDigest(what, content, digest);
      return content;
    });
  }

  /** The content of a blob, from its beginning. The registry that takes it compares the digest. */
  async blob(repository: string, digest: string, signal: AbortSignal): Promise<Readable> {
    const what = `the layer ${digest} of ${this.registry}/${repository}`;
    try {
      return (await this.#pull(what, { path: `${repository}/blobs/${digest}`, repository }, signal)).body;
    } catch (error) {
      throw error instanceof EsbError ? error : unreachableRegistry(this.#origin, error);
    }
  }

  /** Whether the registry has a manifest, by tag or digest. */
  async hasManifest(repository: string, reference: string, options: CallOptions = {}): Promise<boolean> {
    return this.#has(`${repository}/manifests/${reference}`, repository, options);
  }

  /** Whether the registry has a blob in this repository. */
  async hasBlob(repository: string, digest: string, options: CallOptions = {}): Promise<boolean> {
    return this.#has(`${repository}/blobs/${digest}`, repository, options);
  }

  /**
   * Brings a blob into a repository: not at all where it is there, by a mount where the registry has it in another
   * repository, else by an upload.
   *
   * @param mountFrom repository of this registry that has it
   * @returns how it came
   */
  async pushBlob(
    repository: string,
    blob: PushedBlob,
    { mountFrom, ...options }: CallOptions & { readonly mountFrom?: string | undefined } = {},
  ): Promise<'there' | 'mounted' | 'uploaded'> {
    if (await this.hasBlob(repository, blob.digest, options)) {
      return 'there';
    }
    const what = `the push of ${blob.digest} to ${this.registry}/${repository}`;
    return this.#within(what, BLOB_DEADLINE_MS, options, async (signal) => {
      const url = this.#url(`${repository}/blobs/uploads/`);
      const scopes = [pushScope(repository)];
      if (mountFrom !== undefined && mountFrom !== repository) {
        url.searchParams.set('mount', blob.digest);
        url.searchParams.set('from', mountFrom);
        scopes.push(pullScope(mountFrom));
      }
      const begin = (at: URL, of: readonly string[]): Promise<Answer> =>
        this.#send({ method: 'POST', url: at, scopes: of, headers: { 'content-length': '0' } }, signal);
      // A registry that does not mount begins an upload; some refuse a mount to users who may only push.
      let begun = await begin(url, scopes);
      if (url.searchParams.has('mount') && (begun.statusCode === 401 || begun.statusCode === 403)) {
        await begun.body.dump();
        begun = await begin(this.#url(`${repository}/blobs/uploads/`), [pushScope(repository)]);
      }
      if (begun.statusCode === 201) {
        await begun.body.dump();
        return 'mounted';
      }
      const location = begun.headers.location;
      if (begun.statusCode !== 202 || typeof location !== 'string') {
        throw await refusal('ImagePushFailed', what, begun);
      }
      await begun.body.dump();
      const place = new URL(location, this.#origin);
      place.searchParams.set('digest', blob.digest);
      const headers = { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) };
      const put = { method: 'PUT', url: place, scopes: [pushScope(repository)], headers, body: blob.open } as const;
      await finished(what, await this.#send(put, signal));
      return 'uploaded';
    });
  }

  /** Stores a manifest under a tag or digest. */
  async pushManifest(
    repository: string,
    reference: string,
    { content, mediaType }: Omit<StoredManifest, 'digest'>,
    options: CallOptions = {},
  ): Promise<void> {
    const what = `the push of ${this.registry}/${repository}:${reference}`;
    await this.#within(what, DOCUMENT_DEADLINE_MS, options, async (signal) => {
      const url = this.#url(`${repository}/manifests/${reference}`);
      const headers = { 'content-type': mediaType, 'content-length': String(content.length) };
      const body = (): Promise<Buffer> => Promise.resolve(content);
      const put = { method: 'PUT', url, scopes: [pushScope(repository)], headers, body } as const;
      await finished(what, await this.#send(put, signal));
    });
  }

  async #has(path: string, repository: string, options: CallOptions): Promise<boolean> {
    const what = `a look at ${this.registry}/${repository}`;
    return this.#within(what, DOCUMENT_DEADLINE_MS, options, async (signal) => {
      const url = this.#url(path);
      // The right to push is asked for: the same token then does for the upload.
      const look = {
        method: 'HEAD',
        url,
        scopes: [pushScope(repository)],
        headers: { accept: ACCEPTED_TYPES },
      } as const;
      const answer = await this.#follow('ImagePushFailed', what, look, signal);
      await answer.body.dump();
      if (answer.statusCode !== 404 && answer.statusCode >= 300) {
        throw await refusal('ImagePushFailed', what, answer);
      }
      return answer.statusCode !== 404;
    });
  }

  async #pull(
    what: string,
    { path, repository, headers }: { path: string; repository: string; headers?: Readonly<Record<string, string>> },
    signal: AbortSignal,
  ): Promise<Answer> {
    const pull = { method: 'GET', url: this.#url(path), scopes: [pullScope(repository)] } as const;
    const sent = headers === undefined ? pull : { ...pull, headers };
    const answer = await this.#follow('ImagePullFailed', what, sent, signal);
    if (answer.statusCode !== 200) {
      throw await refusal('ImagePullFailed', what, answer);
    }
    return answer;
  }

  /** Sends a request without content, and follows where the registry keeps its content elsewhere. */
  async #follow(code: Refusal, what: string, sent: RegistryRequest, signal: AbortSignal): Promise<Answer> {
    let { url } = sent;
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#send({ ...sent, url }, signal);
      const { location } = answer.headers;
      if (answer.statusCode < 300 || answer.statusCode >= 400 || typeof location !== 'string') {
        return answer;
      }
      await answer.body.dump();
      if (redirects === MOST_REDIRECTS) {
        throw new EsbError(`${what}: more than ${MOST_REDIRECTS} redirects`, { code });
      }
      url = new URL(location, url);
    }
  }

  /** Sends a request, and once more with credentials where the registry wants some. */
  async #send(sent: RegistryRequest, signal: AbortSignal): Promise<Answer> {
    const key = sent.scopes.join(' ');
    // Content that is kept elsewhere is fetched by its address alone: no other server sees our credentials.
    const isOurs = sent.url.origin === this.#origin;
    const first = await this.#once(sent, isOurs ? this.#authorizations.get(key) : undefined, signal);
    if (first.statusCode !== 401 || !isOurs) {
      return first;
    }
    const challenge = challengeOf(String(first.headers['www-authenticate'] ?? ''));
    const authorization =
      challenge === undefined
        ? undefined
        : challenge.kind === 'basic'
          ? basicAuthorization(this.#login)
          : `Bearer ${await this.#token(challenge, sent.scopes, signal)}`;
    if (authorization === undefined) {
      return first;
    }
    await first.body.dump();
    this.#authorizations.set(key, authorization);
    return this.#once(sent, authorization, signal);
  }

  async #token(
    challenge: Parameters<typeof fetchToken>[0],
    scopes: readonly string[],
    signal: AbortSignal,
  ): Promise<string> {
    if (this.#login !== undefined && !this.#maySee(new URL(challenge.realm))) {
      throw new EsbError(`${this.registry} wants its credentials sent to ${challenge.realm}, which is not HTTPS`, {
        code: 'ImagePullFailed',
      });
    }
    return fetchToken(challenge, this.#login, scopes, signal);
  }

  /**
   * Whether a server of tokens may be shown the login. In the clear that never happens because a registry asks for it:
   * only on the host of a registry that itself is spoken with in the clear, or on the loopback.
   */
  #maySee({ host, hostname, protocol }: URL): boolean {
    const { hostname: own, protocol: spoken } = new URL(this.#origin);
    return protocol === 'https:' || (spoken === 'http:' && (hostname === own || isLoopbackRegistry(host)));
  }

  async #once(
    { method, url, headers, body }: RegistryRequest,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<Answer> {
    return request(url, {
      method,
      signal,
      headers: { ...headers, ...(authorization === undefined ? {} : { authorization }) },
      headersTimeout: 0,
      bodyTimeout: 0,
      ...(body === undefined ? {} : { body: await body() }),
    });
  }

  #url(path: string): URL {
    return new URL(`/v2/${path}`, this.#origin);
  }

  async #within<T>(
    what: string,
    defaultMs: number,
    { deadlineMs = defaultMs, signal }: CallOptions,
    call: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    try {
      return await withDeadline(what, deadlineMs, signal, call);
    } catch (error) {
      throw error instanceof EsbError ? error : unreachableRegistry(this.#origin, error);
    }
  }
}

function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

function pushScope(repository: string): string {
  return `repository:${repository}:pull,push`;
}

function unreachableRegistry(origin: string, error: unknown): EsbError {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  // Servers without TLS answer a TLS greeting with something else.
  const isPlain = /wrong version number|packet length too long/i.test(messageOf(cause));
  const hint = isPlain ? '; where it speaks plain HTTP, add --plain-http' : '';
  return new EsbError(`the registry at ${origin} does not answer: ${messageOf(cause)}${hint}`, {
    code: 'RegistryUnreachable',
    cause: error,
  });
}

async function finished(what: string, answer: Answer): Promise<void> {
  if (answer.statusCode >= 300) {
    throw await refusal('ImagePushFailed', what, answer);
  }
  await answer.body.dump();
}

export function digestOf(content: Buffer): string {
  return `sha256:${createHash('sha256').update(content).digest('hex')}`;
}

function checkDigest(what: string, content: Buffer, wanted: string): void {
  const [algorithm = ''] = wanted.split(':');
  if (!DIGEST_ALGORITHMS.has(algorithm)) {
    throw new EsbError(`${what}: digests by ${algorithm} are not known`, { code: 'InvalidAnswer' });
  }
  const found = `${algorithm}:${createHash(algorithm).update(content).digest('hex')}`;
  if (found !== wanted) {
    throw new EsbError(`${what}: the registry sent other content, ${found}`, { code: 'InvalidAnswer' });
  }
}
