import type { EsbError } from './errors.ts';

/** Words for the state of a part, beside the codes of errors. `docs/reference/reasons.md` explains each. */
export type HealthReason =
  | 'AddressesLow'
  | 'ApiServerUnavailable'
  | 'AttachFailed'
  | 'CheckFailed'
  | 'ClockStepped'
  | 'DefinitionMissing'
  | 'DefinitionTooOld'
  | 'DefinitionsUnreadable'
  | 'Draining'
  | 'EventStoreClosed'
  | 'EventStoreOpening'
  | 'NoAccessKeys'
  | 'NoCertificate'
  | 'NotChecked'
  | 'NotSynced'
  | 'PortsLow'
  | 'RecordsSetAside'
  | 'RemovalFailed'
  | 'RepairFailed'
  | 'Retired'
  | 'Starting'
  | 'StateFolderMissing'
  | 'Stopping';

/** State of one part of a node or role, for its conditions and its readiness. */
export type Health =
  | {
      readonly ok: true;
      /** A shortage that grows into a fault unless a person acts. */
      readonly warning?: { readonly reason: HealthReason; readonly message: string };
    }
  | { readonly ok: false; readonly reason: HealthReason | EsbError['code']; readonly message: string };
