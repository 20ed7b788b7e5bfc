import { unreachable } from '../../common/errors.ts';

/** The sender of a request, as far as it is proved. */
export type Principal =
  /** Authentication is off: any sender. */
  | { readonly kind: 'Anonymous' }
  /** A signature by an access key. */
  | {
      readonly kind: 'AccessKey';
      readonly accessKeyId: string;
      readonly user: string;
      readonly groups: readonly string[];
    }
  /** A bearer token that the API server knows. */
  | {
      readonly kind: 'Token';
      readonly user: string;
      readonly uid: string;
      readonly groups: readonly string[];
      readonly extra: Readonly<Record<string, readonly string[]>>;
    }
  /** A client certificate of an authority that is trusted. */
  | { readonly kind: 'Certificate'; readonly user: string; readonly groups: readonly string[] };

export const ANONYMOUS: Principal = { kind: 'Anonymous' };

/** One name for logs and limits: the user, and never a secret. Empty for an anonymous principal. */
export function principalName(principal: Principal): string {
  switch (principal.kind) {
    case 'Anonymous':
      return '';
    case 'AccessKey':
    case 'Token':
    case 'Certificate':
      return principal.user;
    default:
      return unreachable(principal);
  }
}
