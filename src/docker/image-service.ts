import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import type { CallOptions } from '../common/deadline.ts';
import type { DockerChannel } from './docker-channel.ts';
import { codeOf, DockerError, dockerError } from './docker-error.ts';

/** An image in the engine's store. */
export interface DockerImage {
  /** Digest of its configuration. */
  readonly id: string;
  /** `repository@sha256:…` of each registry, in the engine's short form. Empty for an image that was built here. */
  readonly repoDigests: readonly string[];
  /** The image configuration document (OCI or Docker). */
  readonly document: Readonly<Record<string, unknown>>;
}

export interface DockerCredentials {
  readonly username?: string;
  readonly password?: string;
  readonly identitytoken?: string;
}

/** A platform in Go's names; the architecture is empty where the image names none. */
export interface DockerPlatform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

export interface DockerPullProgress {
  /** Layer; empty for a sentence about the whole pull. */
  readonly layer: string;
  /** The engine's own words: `Downloading`, `Pull complete`. */
  readonly status: string;
  /** Bytes, where known. */
  readonly done: number;
  readonly total: number;
}

export interface DockerPull {
  /** Full reference. */
  readonly reference: string;
  /** `os/architecture`. */
  readonly platform: string;
  readonly credentials?: DockerCredentials | undefined;
  readonly onProgress?: (progress: DockerPullProgress) => void;
}

const UNTAGGED = '<none>:<none>';

/** A line of the answer to a pull. */
interface PullLine {
  readonly id?: string;
  readonly status?: string;
  readonly error?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

export type ImageService = ReturnType<typeof createImageService>;

/** Images of the engine. Errors are those of `dockerError`. */
export function createImageService({ docker, call }: DockerChannel) {
  return {
    async inspect(reference: string, options: CallOptions = {}): Promise<DockerImage> {
      const info = await call(`docker image inspect ${reference}`, options, () => docker.getImage(reference).inspect());
      const { Id: id, RepoDigests: repoDigests, Config: config, Os: os, Architecture: architecture } = info;
      const document = { os, architecture, config, rootfs: { diff_ids: info.RootFS?.Layers ?? [] } };
      return { id, repoDigests: repoDigests ?? [], document };
    },
    /** Names of all images, in the engine's short form (`python:3.12`). */
    async names(options: CallOptions = {}): Promise<string[]> {
      const images = await call('docker image ls', options, (abortSignal) => docker.listImages({ abortSignal }));
      return images.flatMap(({ RepoTags: tags }) => tags ?? []).filter((tag) => tag !== UNTAGGED);
    },
    /** Platforms that the registry has an image for. */
    async platforms(
      reference: string,
      credentials: DockerCredentials | undefined,
      options: CallOptions = {},
    ): Promise<readonly DockerPlatform[]> {
      const { Platforms: platforms } = await call(`docker image distribution ${reference}`, options, (abortSignal) =>
        docker.getImage(reference).distribution({ abortSignal, ...(credentials && { authconfig: credentials }) }),
      );
      return (platforms ?? []).map(({ architecture, os, variant }) => ({
        architecture: architecture ?? '',
        os: os ?? 'linux',
        ...(variant && { variant }),
      }));
    },
    /** Fetches an image and gives it its name. */
    async pull({ reference, platform, credentials, onProgress }: DockerPull, signal: AbortSignal): Promise<void> {
      const what = `docker pull ${reference}`;
      try {
        const stream = (await docker.pull(reference, {
          platform,
          ...(credentials === undefined ? {} : { authconfig: credentials }),
          abortSignal: signal,
        })) as Readable;
        await readPull(what, stream, (line) =>
          onProgress?.({
            layer: line.progressDetail === undefined ? '' : (line.id ?? ''),
            status: line.status ?? '',
            done: line.progressDetail?.current ?? 0,
            total: line.progressDetail?.total ?? 0,
          }),
        );
      } catch (error) {
        throw dockerError(what, error, signal);
      }
    },
  };
}

/** Reads the answer to a pull, which carries later faults: its status is sent already. */
async function readPull(what: string, stream: Readable, onLine: (line: PullLine) => void): Promise<void> {
  for await (const text of createInterface({ input: stream })) {
    const line = JSON.parse(text) as PullLine;
    if (line.error !== undefined) {
      stream.destroy();
      throw new DockerError(`${what}: ${line.error}`, codeOf(0, line.error));
    }
    onLine(line);
  }
}
