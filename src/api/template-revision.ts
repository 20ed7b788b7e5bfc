import { type ControllerRevision, controllerRevisions } from '../kube/api/resource-types.ts';
import {
  FUNCTION_LABEL,
  type LambdaFunction,
  ownerReferenceTo,
  TEMPLATE_ANNOTATION,
  type WorkerTemplate,
} from './lambda-function.ts';

/** Annotation of Kubernetes: why an object was changed, in the words of its author. */
export const CHANGE_CAUSE = 'kubernetes.io/change-cause';

/** A template of a LambdaFunction as it was: a ControllerRevision, as StatefulSets and DaemonSets keep theirs. */
export type TemplateRevision = Omit<ControllerRevision, 'data'> & {
  readonly data?: { readonly spec: { readonly template: WorkerTemplate } };
};

/** Name of the ControllerRevision of a template. */
export function revisionName({ metadata }: LambdaFunction, template: string): string {
  return `${metadata.name}-${template}`;
}

/**
 * The present template of a function as it is kept. Holds what the template holds, and nothing more.
 *
 * @param template its hash
 */
export function revisionOf(owner: LambdaFunction, template: string, revision: number): TemplateRevision {
  const { name, namespace } = owner.metadata;
  const cause = changeCauseOf(owner);
  return {
    apiVersion: `${controllerRevisions.group}/${controllerRevisions.version}`,
    kind: controllerRevisions.kind,
    metadata: {
      name: revisionName(owner, template),
      namespace,
      labels: { [FUNCTION_LABEL]: name },
      annotations: { [TEMPLATE_ANNOTATION]: template, ...(cause === undefined ? {} : { [CHANGE_CAUSE]: cause }) },
      ownerReferences: [ownerReferenceTo(owner)],
    },
    revision,
    data: { spec: { template: owner.spec.template } },
  };
}

export function changeCauseOf({ metadata }: Pick<LambdaFunction, 'metadata'>): string | undefined {
  return metadata.annotations?.[CHANGE_CAUSE];
}
