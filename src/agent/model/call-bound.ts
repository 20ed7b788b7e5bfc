/** Milliseconds after its timeout until a worker counts as silent: the emulator's own answer to it comes first. */
const timeoutMarginMs = 1_500;
/** Milliseconds that the first call after a start may take on top, for the runtime and the function to load. */
const initialisationMs = 10_000;

/** Milliseconds that a call in a container with that timeout takes at most. */
export function callBoundMs(timeoutSeconds: number, loaded: boolean): number {
  return timeoutSeconds * 1_000 + timeoutMarginMs + (loaded ? 0 : initialisationMs);
}
