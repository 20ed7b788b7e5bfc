import type { CallOptions } from '../../common/deadline.ts';
import type { ImageReference } from '../../oci/image-reference.ts';

/** Credentials of providers for an image. */
export interface ProvidedCredentials {
  /** Texts in the form of a `.dockerconfigjson`, that of an earlier provider first. */
  readonly configs: readonly string[];
  /** Why there may be fewer than wished, for the error of a pull that is then refused. */
  readonly faults: readonly string[];
}

/** Source of credentials beside those that a worker names. */
export interface CredentialSource {
  /** Never rejects but with `Aborted`: an image may be public. */
  find(reference: ImageReference, options: CallOptions): Promise<ProvidedCredentials>;
}
