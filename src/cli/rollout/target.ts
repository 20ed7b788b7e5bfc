import { FUNCTION_LABEL, type LambdaFunction, lambdaFunctions } from '../../api/lambda-function.ts';
import { fieldManagers } from '../../api/name.ts';
import { revisionName, type TemplateRevision } from '../../api/template-revision.ts';
import { EsbError, hasCode } from '../../common/errors.ts';
import { controllerRevisions } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import type { CommandContext } from '../command-context.ts';
import { withKubeClient } from '../kube-client.ts';

export interface TargetOptions {
  /** Name of the LambdaFunction, with or without `lf/` or `lambdafunction/` before it. */
  readonly name: string;
  readonly namespace: string;
  readonly kubeconfig?: string;
}

/** A function that a command is about. */
export interface Target {
  readonly client: KubeClient;
  readonly owner: LambdaFunction;
  readonly signal: AbortSignal;
  readonly write: (text: string) => void;
}

/**
 * Does something with a function.
 *
 * @throws {EsbError} `NotFound` where there is none; errors of the API server
 */
export async function withTarget(
  options: TargetOptions,
  context: CommandContext,
  work: (target: Target) => Promise<void>,
): Promise<void> {
  const { signal, write } = context;
  await withKubeClient(fieldManagers.rollout, options, context, async (client) => {
    await work({ client, owner: await functionOf(client, options, signal), signal, write });
  });
}

async function functionOf(
  client: KubeClient,
  { name: given, namespace }: TargetOptions,
  signal: AbortSignal,
): Promise<LambdaFunction> {
  const name = given.replace(/^(lf|lambdafunctions?(\.esb\.dev)?)\//, '');
  const owner = await client.get(lambdaFunctions, { namespace, name }, { signal });
  if (owner === undefined) {
    throw new EsbError(`there is no LambdaFunction ${namespace}/${name}`, { code: 'NotFound' });
  }
  return owner;
}

/** A template of a function that is kept. */
export interface KeptTemplate {
  readonly revision: number;
  /** Hash of the template. */
  readonly hash: string;
  readonly kept: TemplateRevision;
}

/**
 * The templates of a function that are kept, by their numbers, as its status has them.
 *
 * @throws {EsbError} `Forbidden` with the way out
 */
export async function keptTemplates({
  client,
  owner,
  signal,
}: Pick<Target, 'client' | 'owner' | 'signal'>): Promise<readonly KeptTemplate[]> {
  const { name, namespace = '' } = owner.metadata;
  const found = await client
    .list(controllerRevisions, { namespace, labelSelector: `${FUNCTION_LABEL}=${name}` }, { signal })
    .catch((error: unknown) => {
      throw hasCode(error, 'Forbidden')
        ? new EsbError(
            `${error.message}\nThe templates are ControllerRevisions: the role view in the namespace ${namespace} may read them`,
            { code: 'Forbidden', cause: error },
          )
        : error;
    });
  const byName = new Map(found.items.map((item) => [item.metadata.name, item as TemplateRevision]));
  return (owner.status?.revisions ?? []).flatMap(({ revision, template: hash }) => {
    const kept = byName.get(revisionName(owner, hash));
    return kept === undefined ? [] : [{ revision, hash, kept }];
  });
}
