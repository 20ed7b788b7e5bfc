import type { ShapeImage } from './shape-image.ts';
import type { FunctionAnswer, FunctionEvent, Shape } from './shapes.ts';

/** How a call of a function ended. `Unknown`: the agent was away, and the caller has to ask again. */
export type CallEnd =
  | { readonly kind: 'Answered'; readonly answer: FunctionAnswer }
  | { readonly kind: 'Timeout' }
  | { readonly kind: 'Unknown'; readonly message: string }
  | { readonly kind: 'Failed'; readonly message: string };

/** A worker of an image. */
export interface CalledWorker {
  /** Calls the function; wakes the worker where it is paused. */
  call(event: FunctionEvent): Promise<CallEnd>;
  /** Freezes the worker. */
  pause(): Promise<void>;
  /** Kills the agent of the worker, and starts it again. Settles once the new one knows the worker. */
  restartAgent(): Promise<void>;
  remove(): Promise<void>;
}

/** Seconds that a call of these workers may take. */
export const TIMEOUT_SECONDS = 3;

/** A way to run images and to call their functions. */
export interface ImageCaller {
  /**
   * Makes a worker of an image, and waits until it is ready.
   *
   * @throws {Error} with the reason of the refusal of an image that cannot run here
   */
  start(shape: Shape, image: ShapeImage): Promise<CalledWorker>;
  close(): Promise<void>;
}
