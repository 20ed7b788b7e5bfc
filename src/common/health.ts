/** State of one part of a node, for its conditions. */
export type Health =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: string; readonly message: string };
