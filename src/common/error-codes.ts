/** Statuses of gRPC that an error of ours becomes. */
type GrpcStatusName =
  | 'CANCELLED'
  | 'INVALID_ARGUMENT'
  | 'DEADLINE_EXCEEDED'
  | 'NOT_FOUND'
  | 'RESOURCE_EXHAUSTED'
  | 'FAILED_PRECONDITION'
  | 'UNAVAILABLE';

interface ErrorCodeEntry {
  /** One clause, for the reference. */
  readonly meaning: string;
  /** Whether a later attempt may succeed without a change by anybody, where the error itself does not say. */
  readonly retryable?: true;
  /** The status for a client of the agent. Without one: `UNAVAILABLE` for a retryable error, else `INTERNAL`. */
  readonly grpc?: GrpcStatusName;
}

/**
 * Every code of an error of ours. Codes of HTTP answers are turned into these where they come in (`kube/api/api-error.ts`,
 * `docker/docker-error.ts`), and refusals of calls into errors of the Lambda API in `gateway/agents/refusals.ts`.
 */
export const ERROR_CODES = {
  // Anywhere.
  Aborted: { meaning: 'the caller gave up', grpc: 'CANCELLED' },
  DeadlineExceeded: {
    meaning: 'something took longer than it may; the message says what',
    retryable: true,
    grpc: 'DEADLINE_EXCEEDED',
  },
  Internal: { meaning: 'a fault of ESB itself: please report it with the message' },
  InvalidArgument: { meaning: 'a flag, a field or an argument makes no sense', grpc: 'INVALID_ARGUMENT' },
  NotFound: { meaning: 'no such object exists', grpc: 'NOT_FOUND' },
  AlreadyExists: { meaning: 'the object exists already' },
  FailedPrecondition: {
    meaning: 'the state of the object forbids the request; the message has the words of containerd or Docker',
    grpc: 'FAILED_PRECONDITION',
  },
  Unavailable: { meaning: 'the agent is stopping, or not ready yet', retryable: true, grpc: 'UNAVAILABLE' },
  AddressInUse: { meaning: 'another program has the port' },
  ListenFailed: { meaning: 'the port cannot be opened' },
  CommandFailed: { meaning: 'a program failed; the message has its output' },
  ProgramMissing: { meaning: 'a program is not installed' },
  SpawnerEnded: { meaning: 'the process that runs programs ended', retryable: true },
  StopFailed: { meaning: 'parts of the process did not end' },
  InvalidCertificate: { meaning: 'a certificate or key cannot be read' },
  // Calls.
  Fenced: { meaning: 'the epoch of the caller is not that of the assignment', grpc: 'FAILED_PRECONDITION' },
  PausedByOwner: { meaning: 'the worker rests, and `wakePolicy` is `Never`', grpc: 'FAILED_PRECONDITION' },
  NodeFull: { meaning: 'the node has no room', grpc: 'RESOURCE_EXHAUSTED' },
  Busy: { meaning: 'other calls have all places of the worker', grpc: 'RESOURCE_EXHAUSTED' },
  ShareInUse: {
    meaning: 'the worker has no share of the reserved concurrency of its function',
    grpc: 'RESOURCE_EXHAUSTED',
  },
  QueueFull: {
    meaning: 'too many calls wait for the worker, or calls hold all bytes that they may',
    retryable: true,
    grpc: 'RESOURCE_EXHAUSTED',
  },
  ResponseTooSlow: {
    meaning: 'the caller did not read, and no room was left for the answer',
    grpc: 'RESOURCE_EXHAUSTED',
  },
  CrashLoopBackOff: { meaning: 'the process of the worker ended again and again; the next start is put off' },
  CallerGone: { meaning: 'the caller hung up while the call waited, or took it back for another worker' },
  // Images.
  ImageNotFound: {
    meaning: 'the registry has no such image, or the image is not on the node and the policy is `Never`',
    retryable: true,
  },
  ImagePullFailed: { meaning: 'the registry refuses the credentials, wants some, or failed', retryable: true },
  ImageUnproven: {
    meaning:
      'another namespace [pulled](images.md#who-may-use-an-image) the image with its Secrets, and this one has not shown at the registry that it may use the image; the message says why',
    retryable: true,
  },
  ImageInvalid: { meaning: 'the text is no reference, or the image no container image' },
  ImageWrongPlatform: { meaning: 'the image is not made for the processor of the node; the message says for which' },
  ImagePushFailed: { meaning: 'the registry does not take the image; the message has its words' },
  RegistryUnreachable: { meaning: 'the registry does not answer; the message says how', retryable: true },
  PullSecretForbidden: {
    meaning: 'the agent may not read a Secret of `spec.imagePullSecrets`; the message has the commands that allow it',
    retryable: true,
  },
  PullSecretUnreadable: { meaning: 'the API server cannot be asked for the Secret', retryable: true },
  ImageFileSystemUnknown: { meaning: 'the file system of images on the node cannot be measured' },
  // Containers.
  CreateFailed: { meaning: 'the container could not be made; the message has the words of containerd or runc' },
  StartFailed: { meaning: 'the container could not be started; the message has the words of containerd or runc' },
  ExitedAtOnce: {
    meaning: 'the process of the worker ended before its port was open; the message has its last output',
    retryable: true,
  },
  InitFailed: {
    meaning:
      'the function failed, ended or took too long before it could take a call; the message has the words of Lambda',
    retryable: true,
  },
  NotListening: { meaning: 'nothing listens on `spec.port`: is it the port of the emulator?', retryable: true },
  WarmUpFailed: {
    meaning:
      'the call of `spec.warmUp` failed, was lost or not answered in time; the message has the error. The call is made again, and calls are let in meanwhile',
    retryable: true,
  },
  NoEntrypoint: { meaning: 'neither the image nor the resource says what to run' },
  MemoryTooSmall: {
    meaning: 'the memory limit is too small for the container to start at all: raise `spec.resources.limits.memory`',
  },
  SecretMissing: { meaning: 'a variable wants a Secret or key that does not exist', retryable: true },
  SecretForbidden: {
    meaning: 'the agent may not read the Secret of a variable; the message has the commands that allow it',
    retryable: true,
  },
  SecretUnreadable: { meaning: 'the API server cannot be asked for the Secret of a variable', retryable: true },
  PolicyRefused: {
    meaning:
      'the worker breaks the policy of workers, which its namespace is not [let](../how-to/privileged-workers.md) do',
    retryable: true,
  },
  UserIdsExhausted: { meaning: 'no user ids are left in the range of `--user-namespaces`', retryable: true },
  UserNamespacesUnsupported: { meaning: 'the kernel or containerd has no users of their own for workers' },
  CgroupUnusable: { meaning: 'the control group of `--cgroup-parent` cannot be used; the message says why' },
  TaskUnanswering: {
    meaning: 'containerd answers, and the shim of the container does not; the container is made again if that lasts',
    retryable: true,
  },
  TaskStuck: {
    meaning: 'the kernel does not end or freeze the processes of the worker, or its shim, as asked',
    retryable: true,
  },
  UnmountFailed: { meaning: 'a mount that a worker left cannot be removed', retryable: true },
  // The runtime of the node.
  RuntimeUnavailable: { meaning: 'containerd or Docker does not answer', retryable: true, grpc: 'UNAVAILABLE' },
  RuntimeTooOld: { meaning: 'containerd or Docker is older than ESB needs' },
  SnapshotterMissing: { meaning: 'containerd has no overlayfs' },
  ContainerdFailed: { meaning: 'containerd failed; the message has its words' },
  DockerFailed: { meaning: 'Docker failed; the message has its words' },
  DiskFull: { meaning: 'the disk of the node is full', retryable: true, grpc: 'RESOURCE_EXHAUSTED' },
  HoleNotPunched: { meaning: 'the disk of a log could not be given back', retryable: true },
  LogCutShort: { meaning: 'a log lost lines, since its disk is full' },
  StateUnreadable: { meaning: 'records of workers cannot be read', retryable: true },
  StateUnwritable: { meaning: 'records of workers cannot be written', retryable: true },
  RecordUnreadable: { meaning: 'the record of one worker cannot be read' },
  // The network of the node.
  AddressesExhausted: {
    meaning: 'no address, no port of a bridge, or in mode `Host` no port of the node is left',
    retryable: true,
    grpc: 'RESOURCE_EXHAUSTED',
  },
  NetworkFailed: { meaning: 'a plugin or the kernel refused; the message has its words', retryable: true },
  NetworkConfigInvalid: { meaning: 'the configuration list cannot be used; the message says why' },
  NftFailed: { meaning: 'the kernel does not take the rules' },
  ForwardingFailed: { meaning: 'forwarding cannot be switched on', retryable: true },
  BridgeFailed: { meaning: 'a bridge cannot be made or changed', retryable: true },
  NamespaceFailed: { meaning: 'a network namespace cannot be made or entered', retryable: true },
  SubnetCollision: {
    meaning: '`--subnet` meets a route of the node, or Pods or Services of the cluster',
    retryable: true,
  },
  SubnetTooSmall: { meaning: '`--subnet` does not hold as many bridges as are needed' },
  SlotInvalid: { meaning: 'a prepared network namespace is not as its record says' },
  AddressConflict: { meaning: 'two attachments have one address' },
  AttachmentUnknown: { meaning: 'no result of an attachment is kept' },
  PluginMissing: { meaning: 'a CNI plugin is not in `--cni-bin-dir`' },
  PluginFailed: { meaning: 'a CNI plugin failed; the message has its words' },
  PluginInvalidOutput: { meaning: 'a CNI plugin answered with something else than a result' },
  VersionIncompatible: { meaning: 'a CNI plugin does not speak the version of the configuration' },
  // The API server.
  Unreachable: { meaning: 'the API server does not answer', retryable: true },
  InvalidAnswer: { meaning: 'an answer is not what its protocol says' },
  InvalidKubeconfig: { meaning: 'the kubeconfig cannot be used', retryable: true },
  BadRequest: { meaning: 'the API server does not understand the request' },
  Forbidden: { meaning: 'the API server refuses the request to this identity' },
  Conflict: { meaning: 'the object was changed by another writer' },
  Expired: { meaning: 'the version of a list or watch is too old' },
  ResourceVersionTooLarge: { meaning: 'the API server has not reached the version of a list or watch' },
  Invalid: { meaning: 'the API server refuses the object' },
  TooManyRequests: { meaning: 'the API server asks for fewer requests' },
  WatchSilent: { meaning: 'a watch was silent for too long', retryable: true },
  WatchTooShort: { meaning: 'a watch ended at once', retryable: true },
  NotLeader: { meaning: 'another process leads', retryable: true },
  // Between gateway and agent, and their certificates.
  ConnectionLost: { meaning: 'the connection to the worker, or to the agent, was lost' },
  UntrustedAgent: { meaning: 'the agent shows a certificate that is not in its LambdaNode', retryable: true },
  ClientRefused: { meaning: 'the agent does not accept the certificate of the gateway', retryable: true },
  InvalidAddress: { meaning: 'the address or a certificate of an agent cannot be used', retryable: true },
  RequestDenied: { meaning: 'a request for a certificate was denied, or failed' },
  RequestDeleted: { meaning: 'a request for a certificate was deleted before its answer', retryable: true },
  RequestRefused: { meaning: 'a request for a certificate asks for what its author may not have' },
  // The store of events.
  EventStoreFull: { meaning: 'the store, or the share of a function in it, is full', retryable: true },
  EventStoreDiskFull: { meaning: 'the disk of the event store is full' },
  EventStoreLocked: { meaning: 'another process has the event store' },
  EventStoreUnavailable: { meaning: 'the event store does not answer', retryable: true },
  EventStoreUncertain: { meaning: 'the outcome of a write to the event store is not known', retryable: true },
  EventStoreUnreadable: { meaning: 'the event store cannot be opened, or is damaged' },
  EventDatabaseMissing: { meaning: 'no connection string of the event database can be read' },
  EventUnreadable: { meaning: 'a kept event cannot be read' },
  EndpointRefused: { meaning: 'the gateway may not post to the destination of an event' },
  InvalidAccessKey: { meaning: 'the Secret with the access keys cannot be used' },
  // The command line.
  AgentFailed: { meaning: 'the agent answered with an error' },
  AgentUnreachable: { meaning: 'the agent cannot be called from here' },
  GatewayUnreachable: { meaning: 'the gateway cannot be called from here' },
  InvalidState: { meaning: 'a file of the local instance cannot be read' },
  NotDeployed: { meaning: 'the function is not up to date in time, or cannot become so; the message says why' },
  NotRetired: { meaning: 'ESB has not left all nodes in time' },
} as const satisfies Readonly<Record<string, ErrorCodeEntry>>;

/** Code of an error of ours. */
export type ErrorCode = keyof typeof ERROR_CODES;

/**
 * Code from outside: a reason of Kubernetes, an error of the Lambda API, a class of PostgreSQL, a code of a tool beside
 * this program. At run time the bare word. The prefix exists for the compiler alone, which so refuses a comparison with
 * a misspelt code of ours, as it would not with a plain string.
 */
export type ForeignCode = `foreign ${string}`;

/** A code from outside. A word that is also a code of ours is that code. */
export function foreignCode(word: string): ForeignCode {
  return word as ForeignCode;
}

/** The entry of a code; undefined for one from outside. */
export function errorCodeEntry(code: ErrorCode | ForeignCode): ErrorCodeEntry | undefined {
  return (ERROR_CODES as Readonly<Partial<Record<string, ErrorCodeEntry>>>)[code];
}
