/**
 * Where a kind of object is found in the API. The same shape as the machinery's ResourceType, which this folder may
 * not import.
 */
export interface ResourceDescriptor<T> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** Never set: ties the descriptor to its TypeScript type. */
  readonly type?: T;
}

/** The API group of our resources. */
export const API_GROUP = 'esb.dev';
/** The version of them that this program speaks. */
export const API_VERSION = 'v1alpha1';
