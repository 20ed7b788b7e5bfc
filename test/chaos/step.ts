import type { LambdaWorkerSpec } from '../../src/api/lambda-worker.ts';
import { unreachable } from '../../src/common/errors.ts';

/** Wish for a worker of the walk. The rest of its spec is the same for all. */
export interface Wish {
  readonly desiredState: LambdaWorkerSpec['desiredState'];
  readonly wakePolicy: 'OnInvoke' | 'Never';
  /** Seconds; absent where the worker has no idle policy. */
  readonly pauseAfter?: number;
  readonly removeAfter?: number;
  /** Goes into its environment: another number is another shape. */
  readonly revision: number;
}

/** A process that a fault is done to. */
export type Target =
  | { readonly kind: 'agent' | 'containerd'; readonly node: string }
  | { readonly kind: 'shim' | 'worker'; readonly worker: string }
  | { readonly kind: 'gateway' | 'controller'; readonly number: number }
  | { readonly kind: 'apiserver' };

/** How a CNI plugin misbehaves. `fails-late` does its work and then says that it has failed. */
export type PluginFault = 'fails' | 'fails-late' | 'hangs' | 'garbage';

export type InitFault = 'alone' | 'with-agent' | 'runtime';

/** Whether a worker has an init: every second one does, and the others have an emulator. */
export function hasInit(worker: string): boolean {
  return /[02468]$/.test(worker);
}

export type Fault =
  /** SIGKILL; what supervises the process starts it again. */
  | { readonly kind: 'kill'; readonly target: Target }
  /** SIGSTOP, and SIGCONT after `forMs` milliseconds. */
  | { readonly kind: 'stop'; readonly target: Target; readonly forMs: number }
  | {
      readonly kind: 'plugin';
      readonly plugin: 'bridge' | 'host-local';
      readonly how: PluginFault;
      readonly forMs: number;
    }
  /** The file system of an agent's state has not one byte left. */
  | { readonly kind: 'disk'; readonly node: string; readonly forMs: number }
  /** The wall clock of one agent, one gateway and one controller jumps, and jumps back. */
  | { readonly kind: 'clock'; readonly seconds: number; readonly forMs: number }
  /** SIGSTOP of the shim of a worker, without SIGCONT: the agent has to end the shim. */
  | { readonly kind: 'hang'; readonly worker: string }
  /** SIGKILL of the init of a worker, alone or together with its agent, or of the runtime alone. */
  | { readonly kind: 'init'; readonly worker: string; readonly how: InitFault }
  /** SIGSTOP of containerd for longer than everything that the agent waits for. */
  | { readonly kind: 'outage'; readonly node: string; readonly forMs: number };

export type FaultKind = Fault['kind'];
export const faultKinds: readonly FaultKind[] = ['kill', 'stop', 'plugin', 'disk', 'clock', 'init', 'hang', 'outage'];

export type Action =
  | { readonly kind: 'create'; readonly worker: string; readonly wish: Wish }
  /** Pause, resume or remove: another resting state. */
  | { readonly kind: 'rest'; readonly worker: string; readonly wish: Wish }
  /** Another shape: the container is replaced. */
  | { readonly kind: 'change'; readonly worker: string; readonly wish: Wish }
  | { readonly kind: 'delete'; readonly worker: string }
  | {
      readonly kind: 'call';
      readonly worker: string;
      readonly gateway: number;
      /** How many at once. */
      readonly count: number;
      readonly sleepMs: number;
    }
  /** A call in which the function ends its process. */
  | { readonly kind: 'crash'; readonly worker: string; readonly gateway: number }
  | { readonly kind: 'fault'; readonly fault: Fault };

export interface Step {
  readonly number: number;
  /** Milliseconds to wait before it. */
  readonly waitMs: number;
  readonly action: Action;
}

function targetText(target: Target): string {
  switch (target.kind) {
    case 'agent':
    case 'containerd':
      return `${target.kind} of ${target.node}`;
    case 'shim':
    case 'worker':
      return target.kind === 'shim' ? `shim of ${target.worker}` : target.worker;
    case 'gateway':
    case 'controller':
      return `${target.kind}-${target.number}`;
    case 'apiserver':
      return 'API server';
    default:
      return unreachable(target);
  }
}

function initText({ how, worker }: Extract<Fault, { kind: 'init' }>): string {
  return how === 'runtime'
    ? `SIGKILL runtime of ${worker}`
    : `SIGKILL init of ${worker}${how === 'alone' ? '' : ' with its agent'}`;
}

export function faultText(fault: Fault): string {
  switch (fault.kind) {
    case 'kill':
      return `SIGKILL ${targetText(fault.target)}`;
    case 'stop':
      return `SIGSTOP ${targetText(fault.target)} for ${fault.forMs} ms`;
    case 'plugin':
      return `plugin ${fault.plugin} ${fault.how} for ${fault.forMs} ms`;
    case 'disk':
      return `disk of ${fault.node} full for ${fault.forMs} ms`;
    case 'clock':
      return `clock ${fault.seconds >= 0 ? '+' : ''}${fault.seconds} s for ${fault.forMs} ms`;
    case 'init':
      return initText(fault);
    case 'hang':
      return `SIGSTOP shim of ${fault.worker} for good`;
    case 'outage':
      return `outage of containerd of ${fault.node} for ${fault.forMs} ms`;
    default:
      return unreachable(fault);
  }
}

function wishText(wish: Wish): string {
  const idle = [
    wish.pauseAfter === undefined ? '' : ` pause after ${wish.pauseAfter} s`,
    wish.removeAfter === undefined ? '' : ` remove after ${wish.removeAfter} s`,
    wish.wakePolicy === 'Never' ? ' wake never' : '',
  ].join('');
  return `${wish.desiredState}${idle} r${wish.revision}`;
}

/** One line of the history. */
export function actionText(action: Action): string {
  switch (action.kind) {
    case 'create':
    case 'rest':
    case 'change':
      return `${action.kind} ${action.worker}: ${wishText(action.wish)}`;
    case 'delete':
      return `delete ${action.worker}`;
    case 'call':
      return `call ${action.worker} x${action.count} by gateway-${action.gateway}, ${action.sleepMs} ms`;
    case 'crash':
      return `crash ${action.worker} by gateway-${action.gateway}`;
    case 'fault':
      return faultText(action.fault);
    default:
      return unreachable(action);
  }
}
