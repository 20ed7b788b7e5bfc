import { checkDefinition, DEFINITION_NAMES } from '../../api/schema-revision.ts';
import type { CallOptions } from '../../common/deadline.ts';
import type { Health } from '../../common/health.ts';
import { customResourceDefinitions } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';

/**
 * Whether the installed resource definitions are those that this program needs. Errors are those of the API server.
 */
export async function checkSchema(client: Pick<KubeClient, 'get'>, options: CallOptions): Promise<Health> {
  for (const name of DEFINITION_NAMES) {
    const fit = checkDefinition(name, await client.get(customResourceDefinitions, { name }, options));
    if (!fit.ok) {
      return fit;
    }
  }
  return { ok: true };
}
