import type { ErrorCode } from '../../src/common/error-codes.ts';
import type { FakeOperation } from '../support/fake-runtime.ts';

/** The outcome of an operation while a fault lasts. */
export interface FaultyOutcome {
  /** Milliseconds until then, at least and at most. The operation is cut off by its own deadline and by its caller. */
  readonly afterMs: readonly [least: number, most: number];
  /** Code of the error; absent where the operation succeeds, late. */
  readonly code?: ErrorCode;
  /** Whether the operation has its effect all the same, and only its answer is lost. Default false. */
  readonly effect?: boolean;
}

/** One way in which a real part fails. */
export interface FaultEntry {
  /** `Node`: every container is touched. `Container`: one is. */
  readonly scope: 'Node' | 'Container';
  /** `Once`: the next operation meets it. `Lasting`: until it is ended. */
  readonly lasts: 'Once' | 'Lasting';
  readonly outcomes: Partial<Record<FakeOperation, FaultyOutcome>>;
  /** Change of the state of the container or of the node, beside the outcomes. */
  readonly state?: 'EventsEnd' | 'EventsWait' | 'ShimHangs' | 'Undying' | 'SlowPull';
  /** State that is left behind. */
  readonly leaves: string;
  /** How it was seen on real parts. */
  readonly seen: string;
}

const soon = [0, 5] as const;

const unavailable = { afterMs: soon, code: 'RuntimeUnavailable' } as const;
/** containerd is connected to and says nothing: found out by a question about a task that does not exist. */
const silent = { afterMs: [3_000, 13_000], code: 'RuntimeUnavailable' } as const;
const late = { afterMs: [200, 2_500] } as const;
const lost = { afterMs: [10, 400], code: 'RuntimeUnavailable', effect: true } as const;
const expired = { afterMs: [10_000, 15_000], code: 'DeadlineExceeded', effect: true } as const;

function startFails(code: ErrorCode): Partial<Record<FakeOperation, FaultyOutcome>> {
  return { ensure: { afterMs: [20, 900], code } };
}

/**
 * Faults of containerd, its shims, runc, the kernel and the network plugins, one entry for each. The simulation draws
 * from these and invents none. An entry without `resume` leaves a wake alone: a thaw goes below containerd.
 */
export const faultTable = {
  'containerd is away': {
    scope: 'Node',
    lasts: 'Lasting',
    outcomes: {
      ensure: unavailable,
      pause: unavailable,
      settle: unavailable,
      destroy: unavailable,
      list: unavailable,
      inspect: unavailable,
    },
    state: 'EventsEnd',
    leaves: 'shims and processes run on; nothing else changes',
    seen: 'upkeep-contract.ts "has workers live on while its engine is away"; 12-containerd-restart.test.ts',
  },
  'containerd stands still': {
    scope: 'Node',
    lasts: 'Lasting',
    outcomes: {
      ensure: silent,
      pause: silent,
      settle: silent,
      destroy: silent,
      list: silent,
      inspect: silent,
    },
    state: 'EventsWait',
    leaves: 'shims and processes run on; events come once it goes on',
    seen: 'unanswering.test.ts "is refused while containerd answers for nobody"; thaw.test.ts "is thawed while containerd does not answer at all" (SIGSTOP)',
  },
  'containerd is slow': {
    scope: 'Node',
    lasts: 'Lasting',
    outcomes: { ensure: late, pause: late, settle: late, destroy: late, list: late, inspect: late },
    leaves: 'nothing',
    seen: 'fleet-reboot.test.ts and docs/adr/0041: a thousand creations and removals at once',
  },
  'the answer is lost': {
    scope: 'Container',
    lasts: 'Once',
    outcomes: { ensure: lost, pause: lost, destroy: lost },
    leaves: 'what was asked for is done, and nobody knows',
    seen: 'half-made.test.ts "by an answer to %s that was lost"; test/chaos, SIGKILL of containerd',
  },
  'the answer is late': {
    scope: 'Container',
    lasts: 'Once',
    outcomes: { pause: expired, destroy: expired },
    leaves: 'what was asked for is done after its deadline',
    seen: 'test/chaos, SIGSTOP of containerd in the middle of an operation',
  },
  'the shim stands still': {
    scope: 'Container',
    lasts: 'Lasting',
    outcomes: {
      // The error is the runtime's own, once the time of a look is over.
      pause: { afterMs: [2_000, 3_000] },
      settle: { afterMs: [2_000, 3_000], code: 'TaskUnanswering' },
      inspect: { afterMs: [2_000, 2_500] },
      list: { afterMs: [2_000, 4_000] },
      destroy: { afterMs: [2_000, 9_000] },
    },
    state: 'ShimHangs',
    leaves: 'the process runs, or is frozen, or ends unseen; a removal ends the shim',
    seen: 'unanswering.test.ts "tells of one whose shim hangs what the kernel says"; hung-shim.test.ts (SIGSTOP of the shim)',
  },
  'the freezer refuses': {
    scope: 'Container',
    lasts: 'Once',
    outcomes: { pause: { afterMs: [10_000, 10_500], code: 'DeadlineExceeded' } },
    leaves: 'the process is thawed on both levels and runs',
    seen: 'docs/adr/0008 and task.test.ts "a pause that fails is taken back"; the freezer of version 1 stays FREEZING while a process is in the kernel',
  },
  'the thaw does not come through': {
    scope: 'Container',
    lasts: 'Once',
    outcomes: { resume: { afterMs: [1_000, 10_000], code: 'TaskStuck' } },
    leaves: 'the process stays frozen',
    seen: 'freezer.test.ts: a group whose parent is frozen; runc issues 3134 and 2105',
  },
  'the process does not die': {
    scope: 'Container',
    lasts: 'Lasting',
    outcomes: { destroy: { afterMs: [15_000, 30_000] } },
    state: 'Undying',
    leaves: 'a shim and a process in the kernel; the container id, its address and its memory stay taken',
    seen: 'docs/adr/0033 "what cannot be removed is set aside"; never-stuck.test.ts',
  },
  'no address is free': {
    scope: 'Node',
    lasts: 'Once',
    outcomes: startFails('AddressesExhausted'),
    leaves: 'nothing',
    seen: 'half-made.test.ts "for want of an address says so and leaves nothing"',
  },
  'a plugin of the network fails': {
    scope: 'Node',
    lasts: 'Once',
    outcomes: startFails('NetworkFailed'),
    leaves: 'nothing: what was attached is detached',
    seen: 'test/chaos, a CNI plugin that fails, hangs or answers garbage',
  },
  'the container is refused': {
    scope: 'Node',
    lasts: 'Once',
    outcomes: startFails('CreateFailed'),
    leaves: 'nothing',
    seen: 'fault-contract.ts "tells of a program that is not in the image"',
  },
  'the disk of containerd is full': {
    scope: 'Node',
    lasts: 'Lasting',
    outcomes: startFails('DiskFull'),
    leaves: 'nothing',
    seen: 'full-log-disk.test.ts; test/chaos, a full disk',
  },
  'the registry is away': {
    scope: 'Node',
    lasts: 'Once',
    outcomes: startFails('RegistryUnreachable'),
    leaves: 'nothing',
    seen: 'fault-contract.ts "tells of a registry that does not answer"',
  },
  'the registry is slow': {
    scope: 'Node',
    lasts: 'Lasting',
    outcomes: {},
    state: 'SlowPull',
    leaves: 'nothing; the start has left its place meanwhile',
    seen: 'image-pulls.test.ts; docs/adr/0041',
  },
} as const satisfies Record<string, FaultEntry>;

export type FaultName = keyof typeof faultTable;

export const faultNames = Object.keys(faultTable) as readonly FaultName[];

export function faultOf(name: FaultName): FaultEntry {
  return faultTable[name];
}
