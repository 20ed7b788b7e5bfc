/**
 * Milliseconds since it began its last renewal of the Lease of its node after which an agent lets no call run by a share
 * of reserved concurrency: the controller may have given the share to another worker. As long as Kubernetes leaves Pods
 * on a node that is not heard.
 */
export const SHARE_LAPSE_MS = 300_000;

/** Milliseconds beyond the timeout of its function that a call may take: for the runtime to load, and to be ended. */
const CALL_MARGIN_MS = 30_000;

/**
 * Milliseconds of silence of a node after which no call can run there by a share any more.
 *
 * @param several whether the worker takes several calls at once: one may then wait in it for as long as another runs
 */
export function shareOverMs(timeoutSeconds: number, several: boolean): number {
  return SHARE_LAPSE_MS + timeoutSeconds * 1_000 * (several ? 2 : 1) + CALL_MARGIN_MS;
}
