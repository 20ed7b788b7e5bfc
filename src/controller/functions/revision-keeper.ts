import {
  functionOwnerOf,
  type LambdaFunction,
  presentTemplateOf,
  type WorkerSource,
} from '../../api/lambda-function.ts';
import { fieldManagers } from '../../api/name.ts';
import {
  CHANGE_CAUSE,
  changeCauseOf,
  revisionName,
  revisionOf,
  type TemplateRevision,
} from '../../api/template-revision.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { messageOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { keyText, objectKey } from '../../kube/api/object-key.ts';
import { type ControllerRevision, controllerRevisions } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { revisionsAfter } from './revisions.ts';
import { outcomeOf, type WriteOutcome } from './write-outcome.ts';

export interface RevisionKeeperOptions {
  readonly client: KubeClient;
  readonly logger: Logger;
}

/**
 * Keeps the templates of functions as ControllerRevisions. Which ones there are stands in the status of the function, so
 * that the controller needs no right to list those of other owners, whose templates are none of its business.
 */
export class RevisionKeeper {
  readonly #options: RevisionKeeperOptions;
  /** By key of a function, the revision that is known to be there as it is to be. */
  readonly #kept = new Map<string, string>();
  /** By key of a function, the earlier template that was last read. */
  readonly #read = new Map<string, WorkerSource>();
  /** By key, functions that are gone and whose revisions may still be there. */
  readonly #gone = new Map<string, LambdaFunction>();

  constructor(options: RevisionKeeperOptions) {
    this.#options = options;
  }

  /** The function is gone: {@link remove} takes its revisions away. */
  noteGone(owner: LambdaFunction): void {
    const key = keyText(objectKey(owner));
    this.#kept.delete(key);
    this.#read.delete(key);
    this.#gone.set(key, owner);
  }

  /**
   * The first of some earlier templates of a function that is kept; undefined where none is. Errors are those of the API
   * server.
   */
  async sourceOf(
    owner: LambdaFunction,
    templates: readonly string[],
    call: CallOptions,
  ): Promise<WorkerSource | undefined> {
    const key = keyText(objectKey(owner));
    const { namespace, uid } = owner.metadata;
    for (const hash of templates) {
      const known = this.#read.get(key);
      if (known?.hash === hash) {
        return known;
      }
      const name = revisionName(owner, hash);
      const found = await this.#options.client.get(controllerRevisions, { namespace, name }, call);
      const template = (found as TemplateRevision | undefined)?.data?.spec.template;
      if (found !== undefined && template !== undefined && functionOwnerOf(found.metadata)?.uid === uid) {
        const source = { version: undefined, template, hash };
        this.#read.set(key, source);
        return source;
      }
    }
    return undefined;
  }

  /**
   * Deletes the revisions that are kept no longer, before the status is without them. May be repeated.
   *
   * @param isWorking whether the present template works, as the status tells it next
   */
  async prune(owner: LambdaFunction, isWorking: boolean, call: CallOptions): Promise<WriteOutcome> {
    const known = owner.status?.revisions ?? [];
    const staying = new Set(revisionsAfter(owner, presentTemplateOf(owner), isWorking).map((each) => each.template));
    const dropped = known.filter((each) => !staying.has(each.template)).map((each) => each.template);
    return await this.#attempt(owner, async () => await this.#delete(owner, dropped, call));
  }

  /** Whether this leader does not know the revision of the present template to be kept; its number is written. */
  isDue(owner: LambdaFunction): boolean {
    const content = contentOf(owner);
    return content !== undefined && this.#kept.get(keyText(objectKey(owner))) !== content;
  }

  /** Makes the revision of the present template, once its number is written. May be repeated. */
  async keep(owner: LambdaFunction, call: CallOptions): Promise<WriteOutcome> {
    const last = owner.status?.revisions?.at(-1);
    const content = contentOf(owner);
    if (last === undefined || content === undefined || !this.isDue(owner)) {
      return { kind: 'done' };
    }
    return await this.#attempt(owner, async () => {
      await this.#ensure(owner, last.template, last.revision, call);
      this.#kept.set(keyText(objectKey(owner)), content);
    });
  }

  /** Deletes the revisions of a function that is gone, where no garbage collector has. */
  async remove(key: string, call: CallOptions): Promise<WriteOutcome> {
    const owner = this.#gone.get(key);
    if (owner === undefined) {
      return { kind: 'done' };
    }
    const templates = (owner.status?.revisions ?? []).map(({ template }) => template);
    return await this.#attempt(owner, async () => {
      await this.#delete(owner, templates, call);
      this.#gone.delete(key);
    });
  }

  async #attempt(owner: LambdaFunction, work: () => Promise<void>): Promise<WriteOutcome> {
    try {
      await work();
      return { kind: 'done' };
    } catch (error) {
      const outcome = outcomeOf(error);
      if (outcome.kind === 'refused') {
        const of = keyText(objectKey(owner));
        this.#options.logger.warn({ function: of, error: messageOf(error) }, 'template of a function is not kept');
      }
      return outcome;
    }
  }

  async #ensure(owner: LambdaFunction, template: string, revision: number, call: CallOptions): Promise<void> {
    const { client } = this.#options;
    const cause = changeCauseOf(owner);
    const wanted = revisionOf(owner, template, revision);
    const present = await client.get(controllerRevisions, objectKey(wanted), call);
    const of = present === undefined ? undefined : functionOwnerOf(present.metadata)?.uid;
    if (present !== undefined && of !== undefined && of !== owner.metadata.uid) {
      // That of a function before, under the same name.
      await client.delete(controllerRevisions, objectKey(present), { ...call, uid: present.metadata.uid });
    }
    if (of === owner.metadata.uid) {
      if (present?.revision === revision && present.metadata.annotations?.[CHANGE_CAUSE] === cause) {
        return;
      }
      const body = { metadata: { annotations: { [CHANGE_CAUSE]: cause ?? null } }, revision };
      const patch = { kind: 'merge', body, fieldManager: fieldManagers.controller } as const;
      await client.patch(controllerRevisions, objectKey(wanted), patch, call);
    } else if (present === undefined || of !== undefined) {
      await client.create(controllerRevisions, wanted as ControllerRevision, call);
    }
  }

  /** Deletes those of these templates that the function owns. */
  async #delete(owner: LambdaFunction, templates: readonly string[], call: CallOptions): Promise<void> {
    const { client } = this.#options;
    const { namespace, uid } = owner.metadata;
    for (const template of templates) {
      const present = await client.get(controllerRevisions, { namespace, name: revisionName(owner, template) }, call);
      if (present !== undefined && functionOwnerOf(present.metadata)?.uid === uid) {
        await client.delete(controllerRevisions, objectKey(present), { ...call, uid: present.metadata.uid });
      }
    }
  }
}

/** The content of the revision of the present template; undefined where there is to be none yet, or none any more. */
function contentOf(owner: LambdaFunction): string | undefined {
  const { metadata, status } = owner;
  const last = status?.revisions?.at(-1);
  return metadata.deletionTimestamp !== undefined || last?.template !== presentTemplateOf(owner)
    ? undefined
    : JSON.stringify([metadata.uid, last.template, last.revision, changeCauseOf(owner)]);
}
