import { randomUUID } from 'node:crypto';
import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import type { AnyValue } from './containerd-proto.ts';
import { createStreamingService, type OpenStream } from './streaming-service.ts';

const SERVICE = 'containerd.services.transfer.v1.Transfer';
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
}

export function createTransferService(channel: ContainerdChannel): TransferService {
  const streaming = createStreamingService(channel);
  const { proto } = channel;

  async function openProgress(request: PullRequest, signal?: AbortSignal): Promise<OpenStream> {
    return await streaming.open(
      `esb-progress-${randomUUID()}`,
      (message) => {
        const progress = proto.unpack(`${TYPES}.Progress`, message) as {
          event: string;
          name: string;
          progress: string;
          total: string;
        };
        request.onProgress?.({
          event: progress.event,
          name: progress.name,
          done: Number(progress.progress),
          total: Number(progress.total),
        });
      },
      signal,
    );
  }

  async function openCredentials(
    credentialsFor: (host: string) => RegistryCredentials | undefined,
    signal?: AbortSignal,
  ): Promise<OpenStream> {
    const stream: OpenStream = await streaming.open(
      `esb-credentials-${randomUUID()}`,
      (message) => {
        const { host } = proto.unpack(`${TYPES}.AuthRequest`, message) as { host: string };
        stream.send(credentialsMessage(credentialsFor(host)));
      },
      signal,
    );
    return stream;
  }

  function credentialsMessage(found: RegistryCredentials | undefined): AnyValue {
    if (found === undefined) {
      return proto.pack(`${TYPES}.AuthResponse`, { authType: 'NONE' });
    }
    if ('identityToken' in found) {
      return proto.pack(`${TYPES}.AuthResponse`, { authType: 'REFRESH', secret: found.identityToken });
    }
    return proto.pack(`${TYPES}.AuthResponse`, {
      authType: 'CREDENTIALS',
      username: found.username,
      secret: found.password,
    });
  }

  return {
    async pull(request, options = {}) {
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
          name: reference,
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
    },
  };
}
