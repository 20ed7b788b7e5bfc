import type { WorkerEvent } from '../../src/agent/step/events.ts';
import type { InitPhase } from '../../src/init/contract.ts';

/** An init as it is. */
interface Truth {
  connected: boolean;
  phase: InitPhase;
  /** Whether the runtime and all extensions wait. */
  waits: boolean;
  /** A call of an agent before. */
  found: string | undefined;
  /** Places that calls hold whose time is over. */
  held: number;
}

export const initChanges = [
  'Connect',
  'Lose',
  'Linger',
  'Wait',
  'Restart',
  'Ready',
  'Fail',
  'FoundEnds',
  'Hold',
  'LetGo',
] as const;
export type InitChange = (typeof initChanges)[number];

/** The inits of one worker's containers. */
export class WorldInits {
  readonly #truths = new Map<string, Truth>();
  readonly #places: number;

  /** @param places calls at once, of each container */
  constructor(places: number) {
    this.#places = places;
  }

  placesOf(containerId: string): number {
    return this.#places - (this.#truths.get(containerId)?.held ?? 0);
  }

  /** A container as an agent finds it, before its init connects. */
  found(containerId: string, call: string | undefined): void {
    this.#truths.set(containerId, {
      connected: false,
      phase: 'Ready',
      waits: call === undefined,
      found: call,
      held: 0,
    });
  }

  begin(containerId: string): WorkerEvent {
    this.#truths.set(containerId, { connected: true, phase: 'Ready', waits: true, found: undefined, held: 0 });
    return this.told(containerId);
  }

  end(containerId: string): WorkerEvent {
    this.#truths.delete(containerId);
    return this.told(containerId);
  }

  /** Changes the init of one container; undefined where the agent hears nothing. */
  change(at: number, change: InitChange): WorkerEvent | undefined {
    const [containerId, truth] = [...this.#truths][at % Math.max(1, this.#truths.size)] ?? [];
    if (containerId === undefined || truth === undefined) {
      return undefined;
    }
    switch (change) {
      case 'Connect':
      case 'Lose':
        truth.connected = change === 'Connect';
        break;
      case 'Linger':
      case 'Wait':
        truth.waits = change === 'Wait' && truth.found === undefined;
        break;
      case 'Restart':
        truth.phase = 'Starting';
        truth.waits = false;
        truth.found = undefined;
        truth.held = 0;
        break;
      case 'Ready':
        truth.phase = truth.phase === 'Failed' ? truth.phase : 'Ready';
        truth.waits = truth.found === undefined;
        break;
      case 'Fail':
        truth.phase = 'Failed';
        truth.waits = false;
        truth.found = undefined;
        break;
      case 'FoundEnds':
        truth.found = undefined;
        break;
      case 'Hold':
        // With one call at a time the runtime starts again for that.
        truth.held = Math.min(truth.held + 1, this.#places - 1);
        break;
      case 'LetGo':
        truth.held = Math.max(0, truth.held - 1);
        break;
      default:
        change satisfies never;
    }
    return truth.connected || change === 'Lose' ? this.told(containerId) : undefined;
  }

  /** A call begins in a container, or is over. */
  called(containerId: string, waits: boolean): WorkerEvent | undefined {
    const truth = this.#truths.get(containerId);
    if (truth === undefined) {
      return undefined;
    }
    truth.waits = waits;
    return truth.connected ? this.told(containerId) : undefined;
  }

  told(containerId: string): WorkerEvent {
    const truth = this.#truths.get(containerId);
    const { connected = false, found, held = 0, phase = 'Ready', waits = false } = truth ?? {};
    const several = this.#places === 1 ? {} : { places: this.#places, held };
    const state = { phase, idle: phase === 'Ready' && waits, initMs: 1, restarts: 0, ...several };
    return {
      kind: 'InitTold',
      containerId,
      word: {
        state: connected ? state : undefined,
        found:
          connected && found !== undefined ? { running: 1, requestId: found } : { running: 0, requestId: undefined },
      },
    };
  }

  /** Every init is connected, and waits for a call. */
  heal(): WorkerEvent[] {
    return [...this.#truths].map(([containerId, truth]) => {
      truth.connected = true;
      truth.found = undefined;
      truth.held = 0;
      truth.phase = truth.phase === 'Failed' ? 'Failed' : 'Ready';
      truth.waits = true;
      return this.told(containerId);
    });
  }

  /** The fault of a call that is sent now; undefined for none. */
  faultOfCall(containerId: string): string | undefined {
    const truth = this.#truths.get(containerId);
    if (truth === undefined) {
      return undefined;
    }
    if (truth.found !== undefined && this.placesOf(containerId) < 2) {
      return 'a call was sent into a container with a call that its init knows';
    }
    return truth.connected && truth.phase === 'Ready' ? undefined : 'a call was sent to an init that takes none';
  }

  faultOfFreeze(containerId: string): string | undefined {
    const truth = this.#truths.get(containerId);
    return truth === undefined || (truth.phase === 'Ready' && truth.waits && truth.found === undefined)
      ? undefined
      : 'a container was frozen that is not idle';
  }

  /** Whether a call of an agent before is in a container. */
  hasFound(containerId: string): boolean {
    return this.#truths.get(containerId)?.found !== undefined;
  }
}
