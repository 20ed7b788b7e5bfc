import { type LambdaFunction, lambdaFunctions, templateHashOf } from '../../api/lambda-function.ts';
import { fieldManagers } from '../../api/name.ts';
import { CHANGE_CAUSE, changeCauseOf } from '../../api/template-revision.ts';
import { EsbError } from '../../common/errors.ts';
import { objectKey } from '../../kube/api/object-key.ts';
import type { CommandContext } from '../command-context.ts';
import { type KeptTemplate, keptTemplates, type TargetOptions, withTarget } from './target.ts';

export interface UndoOptions extends TargetOptions {
  /** Number of the template to go back to. Default: the latest one that differs from the present template. */
  readonly toRevision?: number;
}

/**
 * Writes an earlier template of a function as its present one.
 *
 * @throws {EsbError} `NotFound` where it is not kept; `Invalid` where somebody changes the function meanwhile; as
 *   {@link withTarget} and {@link keptTemplates}
 */
export function runUndo(options: UndoOptions, context: CommandContext): Promise<void> {
  return withTarget(options, context, async (target) => {
    const { client, owner, signal, write } = target;
    const object = `lambdafunction.esb.dev/${owner.metadata.name}`;
    const chosen = templateToGoBackTo(owner, await keptTemplates(target), options.toRevision);
    const present = templateHashOf(owner.spec.template);
    if (present !== chosen.hash) {
      const patch = { kind: 'json', body: undoPatch(owner, chosen), fieldManager: fieldManagers.rollout } as const;
      const written = await client.patch(lambdaFunctions, objectKey(owner), patch, { signal });
      // The API server gives an earlier template the defaults of today, which may be all that it lacks.
      if (templateHashOf(written.spec.template) !== present) {
        write(`${object} rolled back to revision ${chosen.revision}\n`);
        return;
      }
    }
    write(`${object} skipped rollback (current template already matches revision ${chosen.revision})\n`);
  });
}

/** @throws {EsbError} `NotFound` where there is none */
export function templateToGoBackTo(
  owner: LambdaFunction,
  all: readonly KeptTemplate[],
  revision: number | undefined,
): KeptTemplate {
  if (revision !== undefined) {
    const found = all.find((each) => each.revision === revision);
    if (found === undefined) {
      throw unknownRevision(revision, all);
    }
    return found;
  }
  const present = templateHashOf(owner.spec.template);
  const before = all.findLast(({ hash }) => hash !== present);
  if (before === undefined) {
    throw new EsbError(`no rollout history found for lambdafunction "${owner.metadata.name}"`, { code: 'NotFound' });
  }
  return before;
}

export function unknownRevision(revision: number, all: readonly KeptTemplate[]): EsbError {
  const known = all.map((each) => each.revision).join(', ');
  const text = `unable to find specified revision ${revision} in history: there is ${known === '' ? 'none' : known}`;
  return new EsbError(text, { code: 'NotFound' });
}

/** A change of the spec by somebody else meanwhile has it fail. The cause of the template comes back with it. */
export function undoPatch(owner: LambdaFunction, { kept }: KeptTemplate): readonly object[] {
  const { annotations, generation, uid } = owner.metadata;
  const cause = kept.metadata.annotations?.[CHANGE_CAUSE];
  const path = `/metadata/annotations/${CHANGE_CAUSE.replace('/', '~1')}`;
  const causes =
    cause === undefined
      ? changeCauseOf(owner) === undefined
        ? []
        : [{ op: 'remove', path }]
      : [
          ...(annotations === undefined ? [{ op: 'add', path: '/metadata/annotations', value: {} }] : []),
          { op: 'add', path, value: cause },
        ];
  return [
    { op: 'test', path: '/metadata/uid', value: uid },
    { op: 'test', path: '/metadata/generation', value: generation },
    { op: 'replace', path: '/spec/template', value: kept.data?.spec.template },
    ...causes,
  ];
}
