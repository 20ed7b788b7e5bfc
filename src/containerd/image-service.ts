import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import { dateOf, type Timestamp } from './containerd-proto.ts';

const SERVICE = 'containerd.services.images.v1.Images';

/** A name in containerd's image store and its target. */
export interface StoredImage {
  readonly name: string;
  readonly target: { readonly mediaType: string; readonly digest: string };
  readonly labels: Readonly<Record<string, string>>;
  /** Time at which the name got its present target. */
  readonly updatedAt: Date;
}

type WireImage = Omit<StoredImage, 'updatedAt'> & { readonly updatedAt: Timestamp | null };

export function createImageService(channel: ContainerdChannel) {
  return {
    async get(name: string, options?: CallOptions): Promise<StoredImage> {
      const answer = await channel.unary<{ image: WireImage }>(SERVICE, 'Get', { name }, options);
      return imageOf(answer.image);
    },
    async list(options?: CallOptions): Promise<readonly StoredImage[]> {
      const answer = await channel.unary<{ images: WireImage[] }>(SERVICE, 'List', {}, options);
      return answer.images.map(imageOf);
    },
    /** Resolves when containerd has collected unreferenced content. */
    async delete(name: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Delete', { name, sync: true }, options);
    },
  };
}

function imageOf(image: WireImage): StoredImage {
  return { ...image, updatedAt: dateOf(image.updatedAt) ?? new Date(0) };
}
