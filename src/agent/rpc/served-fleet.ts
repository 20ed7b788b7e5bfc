import { EsbError } from '../../common/errors.ts';
import type { WorkerRef } from '../../protocol/generated/agent.ts';
import type { Fleet } from '../model/fleet.ts';

/** The part of a fleet that is told to clients and called by them. */
export type ServedFleet = Pick<
  Fleet,
  'invoke' | 'recover' | 'ensure' | 'pause' | 'resume' | 'destroy' | 'views' | 'view' | 'subscribe'
>;

/**
 * A fleet as a client may see it that serves these namespaces: workers of others do not exist.
 */
export function servedFleet(fleet: Fleet, namespaces: ReadonlySet<string>): ServedFleet {
  const isServed = ({ identity }: { readonly identity: { readonly namespace: string } }): boolean =>
    namespaces.has(identity.namespace);
  const view: Fleet['view'] = (uid) => {
    const found = fleet.view(uid);
    return found !== undefined && isServed(found) ? found : undefined;
  };
  /** The uid where it is of a worker that is served, else one that no worker has. */
  const known = (uid: string): string => (view(uid) === undefined ? '' : uid);
  return {
    view,
    views: () => fleet.views().filter(isServed),
    subscribe: (listener) =>
      fleet.subscribe({
        changed: (changed) => {
          if (isServed(changed)) {
            listener.changed(changed);
          }
        },
        // The end of a worker that was never announced is not announced.
        removed: (uid) => listener.removed(uid),
      }),
    invoke: (invocation) => fleet.invoke(view(invocation.uid) === undefined ? { ...invocation, uid: '' } : invocation),
    recover: async (recovery) => await fleet.recover({ ...recovery, uid: known(recovery.uid) }),
    ensure: async (uid, ...rest) => await fleet.ensure(known(uid), ...rest),
    pause: async (uid, ...rest) => await fleet.pause(known(uid), ...rest),
    resume: async (uid, ...rest) => await fleet.resume(known(uid), ...rest),
    destroy: async (uid, ...rest) => await fleet.destroy(known(uid), ...rest),
  };
}

/**
 * The uid of the worker that a caller named: by uid, or by namespace and name for people who know no more.
 *
 * @throws {EsbError} `InvalidArgument` when nothing is named, `NotFound` when there is no such worker
 */
export function resolveWorker(fleet: ServedFleet, reference: WorkerRef | null): string {
  if (reference === null || (reference.uid === '' && reference.name === '')) {
    throw new EsbError('no worker was named', { code: 'InvalidArgument' });
  }
  if (reference.uid !== '') {
    return reference.uid;
  }
  const found = fleet
    .views()
    .find(({ identity }) => identity.namespace === reference.namespace && identity.name === reference.name);
  if (found === undefined) {
    throw new EsbError(`no worker ${reference.namespace}/${reference.name} on this node`, {
      code: 'NotFound',
    });
  }
  return found.identity.uid;
}
