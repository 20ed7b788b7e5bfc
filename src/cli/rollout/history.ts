import { stringify } from 'yaml';
import { CHANGE_CAUSE } from '../../api/template-revision.ts';
import { ageOf } from '../age.ts';
import type { CommandContext } from '../command-context.ts';
import { formatTable } from '../table.ts';
import { type KeptTemplate, keptTemplates, type TargetOptions, withTarget } from './target.ts';
import { unknownRevision } from './undo.ts';

export interface HistoryOptions extends TargetOptions {
  /** Number of the one to show whole. */
  readonly revision?: number;
}

/**
 * Lists the templates of a function that are kept, or shows one of them.
 *
 * @throws {EsbError} `NotFound` for a revision that is not kept; as {@link withTarget} and {@link keptTemplates}
 */
export function runHistory(options: HistoryOptions, context: CommandContext): Promise<void> {
  return withTarget(options, context, async (target) => {
    const all = await keptTemplates(target);
    if (options.revision === undefined) {
      target.write(formatTable([header, ...all.map((each) => rowOf(each, Date.now()))]));
      return;
    }
    const found = all.find(({ revision }) => revision === options.revision);
    if (found === undefined) {
      throw unknownRevision(options.revision, all);
    }
    target.write(stringify(found.kept.data?.spec.template));
  });
}

const header = ['REVISION', 'IMAGE', 'AGE', 'CHANGE-CAUSE'];

/** One line of the list; `now` in milliseconds since the epoch. */
function rowOf({ kept, revision }: KeptTemplate, now: number): readonly string[] {
  const { annotations, creationTimestamp } = kept.metadata;
  return [
    String(revision),
    kept.data?.spec.template.spec.image ?? '-',
    creationTimestamp === undefined ? '-' : ageOf(creationTimestamp, now),
    annotations?.[CHANGE_CAUSE] ?? '<none>',
  ];
}
