import { type ForeignCode, foreignCode } from '../../src/common/error-codes.ts';

/** Codes of errors that the local instance alone has. */
type LocalErrorCode =
  | 'BuildFailed'
  | 'GoMissing'
  | 'InstanceRunning'
  | 'LockFailed'
  | 'NoFreePort'
  | 'NoInstance'
  | 'NodeNotReady'
  | 'NotClean'
  | 'NotRoot'
  | 'PackagesMissing'
  | 'PartDoesNotEnd'
  | 'PartUnhealthy'
  | 'PathTooLong'
  | 'SampleFailed'
  | 'SupervisorGone'
  | 'Unsupported';

/** A code of the local instance, as errors carry it. */
export function localCode(code: LocalErrorCode): ForeignCode {
  return foreignCode(code);
}
