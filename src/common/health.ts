/** State of one part of a node, for its conditions. */
export type Health =
  | {
      readonly ok: true;
      /** Something that will hurt if nobody does anything about it. */
      readonly warning?: { readonly reason: string; readonly message: string };
    }
  | { readonly ok: false; readonly reason: string; readonly message: string };
