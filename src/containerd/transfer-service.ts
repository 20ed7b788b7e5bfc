import { randomUUID } from 'node:crypto';
import { AbortedError, type CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import { containerdError } from './containerd-error.ts';
import type { AnyValue } from './containerd-proto.ts';

const SERVICE = 'containerd.services.transfer.v1.Transfer';
const IMAGES = 'containerd.services.images.v1.Images';
const DELETE_DEADLINE_MS = 10_000;
const STREAMING = 'containerd.services.streaming.v1';
const TYPES = 'containerd.types.transfer';

/** Name and password of a user of a registry, or a token in place of both. */
export type RegistryCredentials =
  | { readonly username: string; readonly password: string }
  | { readonly identityToken: string };

export interface PullRequest {
  /** Full reference, and the name of the stored image. */
  readonly reference: string;
  /** Folder of per-registry settings (`certs.d`), read by containerd itself. */
  readonly hostsFolder?: string | undefined;
  readonly platform: { readonly os: string; readonly architecture: string; readonly variant?: string };
  readonly snapshotter: string;
  /** Called when a registry asks for credentials; undefined pulls anonymously. */
  readonly credentialsFor?: ((host: string) => RegistryCredentials | undefined) | undefined;
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
}

export interface PullProgress {
  /** Such as `downloading`, `extracting` or `complete`. */
  readonly event: string;
  /** The reference, or a layer. */
  readonly name: string;
  /** Bytes. */
  readonly done: number;
  readonly total: number;
}

export interface TransferService {
  /** Fetches an image, unpacks it and names it. No deadline by default. */
  pull(request: PullRequest, options?: CallOptions): Promise<void>;
  /**
   * Fetches manifest and configuration of an image for its platform, has them checked, and gives up the rest: no image
   * of that name is there after it. No deadline by default.
   *
   * @param check is called while the store has what it gets
   */
  describe(request: PullRequest, check: (described: Described) => Promise<void>, options?: CallOptions): Promise<void>;
}

/** The digest of a configuration; or the name of an image for now, of which nothing more was to be fetched. */
export type Described = { readonly config: string } | { readonly image: string };

/** Beginning of the name that the progress of a pull has for the configuration; its digest follows. */
const CONFIG_NAME = 'config-';
/** Events of a piece that is there. */
const HERE: readonly string[] = ['complete', 'already exists'];

/** A stream that other calls name by its id. */
interface OpenStream {
  readonly id: string;
  send(message: AnyValue): void;
  close(): void;
}

export function createTransferService(channel: ContainerdChannel): TransferService {
  const { proto } = channel;

  async function openProgress({ onProgress }: PullRequest, signal?: AbortSignal): Promise<OpenStream> {
    const show = (message: AnyValue): void => {
      type Progress = { event: string; name: string; progress: string; total: string };
      const { event, name, progress, total } = proto.unpack<Progress>(`${TYPES}.Progress`, message);
      onProgress?.({ event, name, done: Number(progress), total: Number(total) });
    };
    return await openStream(channel, `esb-progress-${randomUUID()}`, show, signal);
  }

  async function openCredentials(
    credentialsFor: (host: string) => RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): Promise<OpenStream> {
    const reply = (message: AnyValue): void => {
      const { host } = proto.unpack<{ host: string }>(`${TYPES}.AuthRequest`, message);
      stream.send(proto.pack(`${TYPES}.AuthResponse`, answerOf(credentialsFor(host))));
    };
    const stream = await openStream(channel, `esb-credentials-${randomUUID()}`, reply, signal);
    return stream;
  }

  return {
    pull: (request, options) => pull(request, options),
    async describe(request, check, options = {}) {
      const ended = new AbortController();
      const { promise: found, resolve } = Promise.withResolvers<string>();
      const signal = options.signal === undefined ? ended.signal : AbortSignal.any([ended.signal, options.signal]);
      // Of another name: the right to an image of this one is shown by a pull.
      const image = `described.esb.dev/${randomUUID()}:now`;
      const onProgress = (progress: PullProgress): void => {
        request.onProgress?.(progress);
        if (progress.name.startsWith(CONFIG_NAME) && HERE.includes(progress.event)) {
          resolve(progress.name.slice(CONFIG_NAME.length));
        }
      };
      const pulled = pull({ ...request, onProgress }, { ...options, signal }, image);
      try {
        const config = await Promise.race([found, pulled]);
        await check(config === undefined ? { image } : { config });
      } finally {
        ended.abort();
        await pulled.catch(() => undefined);
        await channel
          .unary(IMAGES, 'Delete', { name: image }, { deadlineMs: DELETE_DEADLINE_MS })
          .catch(() => undefined);
      }
    },
  };

  async function pull(
    request: PullRequest,
    options: CallOptions = {},
    name: string = request.reference,
  ): Promise<void> {
    const { signal } = options;
    const { reference, hostsFolder, platform, snapshotter, credentialsFor } = request;
    const opened: OpenStream[] = [];
    try {
      const progress = await openProgress(request, signal);
      opened.push(progress);
      const credentials = credentialsFor === undefined ? undefined : await openCredentials(credentialsFor, signal);
      if (credentials !== undefined) {
        opened.push(credentials);
      }
      const source = proto.pack(`${TYPES}.OCIRegistry`, {
        reference,
        resolver: { authStream: credentials?.id ?? '', hostDir: hostsFolder ?? '' },
      });
      const destination = proto.pack(`${TYPES}.ImageStore`, {
        name,
        platforms: [platform],
        unpacks: [{ platform, snapshotter }],
      });
      await channel.unary(
        SERVICE,
        'Transfer',
        { source, destination, options: { progressStream: progress.id } },
        { deadlineMs: options.deadlineMs ?? Number.POSITIVE_INFINITY, signal },
      );
    } finally {
      for (const stream of opened) {
        stream.close();
      }
    }
  }
}

function answerOf(found: RegistryCredentials | undefined): Readonly<Record<string, string>> {
  if (found === undefined) {
    return { authType: 'NONE' };
  }
  return 'identityToken' in found
    ? { authType: 'REFRESH', secret: found.identityToken }
    : { authType: 'CREDENTIALS', username: found.username, secret: found.password };
}

/**
 * Opens a stream under a name of our choice and waits until containerd knows it. `onMessage` gets the messages. The end
 * of the stream is not reported: the call that uses the stream fails then.
 */
async function openStream(
  channel: ContainerdChannel,
  id: string,
  onMessage: (message: AnyValue) => void,
  signal?: AbortSignal,
): Promise<OpenStream> {
  const what = 'containerd Streaming.Stream';
  if (signal?.aborted === true) {
    throw new AbortedError(what, signal.reason);
  }
  const stream = channel.duplex(`${STREAMING}.Streaming`, 'Stream');
  const registered = Promise.withResolvers<void>();
  const abort = (): void => stream.cancel();
  let known = false;
  stream.on('data', (message: AnyValue) => {
    // The first message only confirms the registration.
    if (known) {
      onMessage(message);
    }
    known = true;
    registered.resolve();
  });
  stream.on('error', (error) => registered.reject(containerdError(what, error, signal)));
  stream.on('end', () => registered.reject(containerdError(what, new Error('ended at once'), signal)));
  signal?.addEventListener('abort', abort, { once: true });
  try {
    stream.write(channel.proto.pack(`${STREAMING}.StreamInit`, { id }));
    await registered.promise;
  } catch (error) {
    stream.cancel();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
  return { id, send: (message) => void stream.write(message), close: () => stream.cancel() };
}
