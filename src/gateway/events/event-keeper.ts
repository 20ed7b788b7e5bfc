import type { Health } from '../../common/health.ts';
import type { FunctionCall } from '../agents/function-call.ts';

/** Message to a caller whose event may have been kept. */
export const UNCERTAIN_MESSAGE = 'Whether the event was kept is not known: it may run.';

/** Takes over calls of type Event. Once a call is taken over, the function runs at least once or its record is sent. */
export interface EventKeeper {
  /** Events kept in this process, by last knowledge. */
  readonly size: number;
  /** Whether events are taken, by last knowledge. */
  readonly health: Health;
  start(): void;
  /**
   * Resolves once the event is durable.
   *
   * @throws {LambdaError} TooManyRequestsException when there is no room, ServiceException (503) when the event was not
   *   kept, or may not have been
   */
  accept(call: FunctionCall): Promise<void>;
  /** Takes no more, and lets events under way end for as long. */
  stop(deadlineMs: number): Promise<void>;
}
