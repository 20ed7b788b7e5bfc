/** Phase of a worker, as its init tells it. */
export type InitPhase = 'Starting' | 'Ready' | 'Failed' | 'Stopping';

/** Why a worker did not become ready, in Lambda's words. */
export interface InitFault {
  readonly errorType: string;
  readonly message: string;
  /** JSON that the runtime reported, as it came. */
  readonly body?: string | undefined;
  /** The bound that the worker broke, where that is why. */
  readonly bound?: string | undefined;
}

/** A worker as its init has told it last. */
export interface InitState {
  readonly phase: InitPhase;
  /** Whether the runtime and all extensions wait for the next call, and none is under way: it may be frozen. */
  readonly idle: boolean;
  /** Milliseconds of the last initialization; 0 while it goes on. */
  readonly initMs: number;
  /** How often runtime and extensions were ended and started again in this container. */
  readonly restarts: number;
  /** Calls that the runtime has shown to take at once; absent for one. */
  readonly places?: number | undefined;
  /** Places of these that are held by calls whose time is over; absent for none. */
  readonly held?: number | undefined;
  readonly fault?: InitFault | undefined;
}

/**
 * How a call ended in its worker. `NotStarted`: no runtime has had a part of it. `Interrupted`: the runtime broke its
 * answer off, or asked for the next call in the middle of this one.
 */
export type InitOutcome = 'Answered' | 'Error' | 'Timeout' | 'Exited' | 'Interrupted' | 'TooLarge' | 'NotStarted';

export interface InitEnd {
  readonly outcome: InitOutcome;
  readonly errorType?: string | undefined;
  readonly message?: string | undefined;
  /** JSON of an error that came after a streamed answer had begun. */
  readonly errorBody?: string | undefined;
  /** Bytes of the whole answer. */
  readonly size: number;
  /** Microseconds in the runtime. */
  readonly durationUs: number;
}

/** Calls that an init knows, sent by an earlier run of the agent, and that have not ended. */
export interface Found {
  readonly running: number;
  /** One of them; undefined for none. */
  readonly requestId: string | undefined;
}

export interface InitHead {
  readonly contentType: string;
  /** Whether the runtime streams the answer. */
  readonly streaming: boolean;
}

/** Receiver of an answer. */
export interface AnswerTaker {
  /** Called once, before the first chunk; without an answer it may never be. */
  readonly onHead: (head: InitHead) => void;
  readonly onChunk: (chunk: Buffer) => void;
  /** Asked after a chunk: settles once more may be read. Does not reject. Undefined for at once. */
  readonly room?: (() => Promise<unknown> | undefined) | undefined;
  /** Its own word of what it has, asked for after some KiB and at the end. The init keeps the rest. Absent for none. */
  readonly arrival?: (() => Arrival | undefined) | undefined;
  /** Fires when no caller waits for the answer any more. */
  readonly signal?: AbortSignal | undefined;
}

/** Bytes of an answer, from the first one on, that its caller has for certain. */
export interface Arrival {
  readonly bytes: number;
  /** Resolves once there are more. Does not reject. */
  next(): Promise<void>;
  /** Calls the listener, at once or later, when the answer has come to its end there, or is not waited for any more. */
  onWhole(listener: () => void): void;
}

/** One call on its way into a worker. */
export interface InitRequest extends AnswerTaker {
  readonly requestId: string;
  readonly payload: Buffer;
  /** Milliseconds from the moment at which the runtime gets it until it is over. */
  readonly timeoutMs: number;
  /** Milliseconds from the first byte sent until an init that says nothing counts as lost. */
  readonly boundMs: number;
  readonly functionArn: string;
  readonly version: string;
  /** JSON in ASCII; empty for none. */
  readonly clientContext: string;
  /** The X-Amzn-Trace-Id; empty for none. */
  readonly traceId: string;
  /** Called in the same synchronous step as the first byte is sent, just before it. */
  readonly onSending: () => void;
}

/** How far a call came. */
export type InitAnswer =
  /** No runtime has had a byte of it. `own` where that is the agent's or the node's fault. */
  | { readonly kind: 'NotSent'; readonly message: string; readonly own: boolean }
  /** Sent, and the init ended, or was given up, before it told the outcome. */
  | { readonly kind: 'Unknown'; readonly message: string }
  /** The init said nothing within the bound. */
  | { readonly kind: 'Silent' }
  | { readonly kind: 'Ended'; readonly end: InitEnd };

/** The agent's way to the init of one container, for as long as the container is there. */
export interface InitLink {
  readonly containerId: string;
  /** State that the connected init reported last; undefined while none is connected. */
  readonly state: InitState | undefined;
  /** Calls under way in the connected init that this run of the agent has not sent. */
  readonly found: Found;
  /** Resolves once no init is connected, and all its words are taken: soon after its process has ended. */
  disconnected(): Promise<void>;
  /** Never rejects. Several at a time, where the worker was made for that. */
  call(request: InitRequest): Promise<InitAnswer>;
  /**
   * The calls of the worker come to this container alone. May be repeated.
   *
   * @param hasLost whether another container of the worker may have had calls until just now
   */
  serveAlone(hasLost: boolean): void;
  /** From now on, calls of the worker may come to other containers as well. May be repeated. */
  serveBeside(): void;
  /**
   * Whether the connected init has certainly never had a call, which an earlier run of the agent was to send.
   *
   * @param sentMs milliseconds since the call left its gateway
   */
  neverHad(requestId: string, sentMs: number): boolean;
  /** Ends the wait for a call: its outcome is `Unknown`, or `NotSent`. The worker goes on with the call. */
  abort(requestId: string, message: string): void;
  /** Ends the wait for a call at the end of the agent: the answer is kept for the next run. */
  leave(requestId: string, message: string): void;
  /**
   * Takes the answer of a call that was found, from a byte on. An earlier asker hears that the outcome is unknown.
   * Undefined where there is no such call, or its answer is not kept from there on. Never rejects.
   */
  recover(requestId: string, from: number, taker: AnswerTaker): Promise<InitAnswer> | undefined;
}

/** A change of what is known of a container: its state, the calls found in it, or the loss of its init. */
export interface InitNews {
  readonly containerId: string;
  readonly state: InitState | undefined;
  readonly found: Found;
  /** Why the connection was ended by us, where the init broke the protocol or a bound; else undefined. */
  readonly breach?: string | undefined;
}

/** A worker's share of the files of the node that its init needs. Paths of the node. */
export interface InitFiles {
  /** The program of the init, to be mounted read-only. */
  readonly program: string;
  /** Folder with the socket of the agent, to be mounted read-only. */
  readonly folder: string;
}

/** Name of the agent's socket in {@link InitFiles.folder}. */
export const INIT_SOCKET = 'agent.sock';

/** The inits of all workers of a node. */
export interface WorkerInits {
  /**
   * Listens for the inits of containers that an earlier run of the agent has made. The program is installed beside that,
   * and waited for by `open`.
   */
  start(): Promise<void>;
  /** Bytes that the agent keeps of words of inits. */
  readonly heldBytes: number;
  /**
   * Makes the files of a container, and listens for its init. May be repeated.
   *
   * @param namespace that the container's words are counted in; the next run of the agent knows it too
   */
  open(containerId: string, namespace?: string): Promise<InitFiles>;
  /** The way to a container's init; undefined where `open` was never called for it. */
  link(containerId: string): InitLink | undefined;
  /**
   * Resolves once the init of a container says that it is ready.
   *
   * @throws {InitFailedError} where the initialization failed
   * @throws {AbortedError} when `signal` fires
   */
  untilReady(containerId: string, signal: AbortSignal): Promise<InitState>;
  /** The container is gone: its files go, its connection is closed. Missing is success. */
  remove(containerId: string): Promise<void>;
  /** Containers that have files. */
  list(): Promise<readonly string[]>;
  subscribe(listener: (news: InitNews) => void): () => void;
  /** Closes all connections. Files stay for the next run of the agent, and every call goes on. */
  stop(): Promise<void>;
}
