import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import { dateOf, type Timestamp } from './containerd-proto.ts';

const SERVICE = 'containerd.services.images.v1.Images';

/** A name in containerd's image store and its target. */
export interface StoredImage {
  readonly name: string;
  readonly target: { readonly mediaType: string; readonly digest: string; readonly size: string };
  readonly labels: Readonly<Record<string, string>>;
  /** Time at which the name got its present target. */
  readonly updatedAt: Date;
}

interface WireImage extends Omit<StoredImage, 'updatedAt'> {
  readonly updatedAt: Timestamp | null;
}

export interface ImageService {
  get(name: string, options?: CallOptions): Promise<StoredImage>;
  list(options?: CallOptions): Promise<readonly StoredImage[]>;
  /** Resolves when containerd has collected unreferenced content. */
  delete(name: string, options?: CallOptions): Promise<void>;
}

export function createImageService(channel: ContainerdChannel): ImageService {
  return {
    async get(name, options) {
      const answer = await channel.unary<{ image: WireImage }>(SERVICE, 'Get', { name }, options);
      return imageOf(answer.image);
    },
    async list(options) {
      const answer = await channel.unary<{ images: WireImage[] }>(SERVICE, 'List', {}, options);
      return answer.images.map(imageOf);
    },
    async delete(name, options) {
      await channel.unary(SERVICE, 'Delete', { name, sync: true }, options);
    },
  };
}

function imageOf({ name, target, labels, updatedAt }: WireImage): StoredImage {
  return { name, target, labels, updatedAt: dateOf(updatedAt) ?? new Date(0) };
}
