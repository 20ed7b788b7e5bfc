import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';

const SERVICE = 'containerd.services.images.v1.Images';

/** A name in containerd's image store and what it points to. */
export interface StoredImage {
  readonly name: string;
  readonly target: { readonly mediaType: string; readonly digest: string; readonly size: string };
}

export interface ImageService {
  get(name: string, options?: CallOptions): Promise<StoredImage>;
  list(options?: CallOptions): Promise<readonly StoredImage[]>;
  delete(name: string, options?: CallOptions): Promise<void>;
}

export function createImageService(channel: ContainerdChannel): ImageService {
  return {
    async get(name, options) {
      const answer = await channel.unary<{ image: StoredImage }>(SERVICE, 'Get', { name }, options);
      return answer.image;
    },
    async list(options) {
      const answer = await channel.unary<{ images: StoredImage[] }>(SERVICE, 'List', {}, options);
      return answer.images;
    },
    async delete(name, options) {
      await channel.unary(SERVICE, 'Delete', { name, sync: true }, options);
    },
  };
}
