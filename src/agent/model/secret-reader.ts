import type { CallOptions } from '../../common/deadline.ts';

/** Reads Kubernetes Secrets. */
export interface SecretReader {
  /**
   * The value of one key, decoded; undefined when there is no such Secret or no such key in it.
   *
   * @throws {EsbError} when the API could not be asked
   */
  read(namespace: string, name: string, key: string, options?: CallOptions): Promise<string | undefined>;
}
