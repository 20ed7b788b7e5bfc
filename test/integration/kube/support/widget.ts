import { customResourceDefinitions } from '../../../../src/kube/api/resource-types.ts';
import type { KubeClient, KubeObject, ResourceType } from '../../../../src/kube/api/types.ts';
import { waitFor } from '../../../support/wait-for.ts';

export interface WidgetCondition {
  readonly type: string;
  readonly status: string;
}

/** A kind of object for tests: with a status, conditions by type, and a selectable field. */
export interface Widget extends KubeObject {
  readonly spec?: { readonly size?: number };
  readonly status?: {
    readonly place?: string;
    readonly phase?: string;
    readonly conditions?: readonly WidgetCondition[];
  };
}

export const widgets: ResourceType<Widget> = {
  group: 'test.dev',
  version: 'v1',
  kind: 'Widget',
  plural: 'widgets',
  namespaced: true,
};

const text = { type: 'string' };

const definition = {
  metadata: { name: 'widgets.test.dev' },
  spec: {
    group: 'test.dev',
    scope: 'Namespaced' as const,
    names: { kind: 'Widget', plural: 'widgets' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        selectableFields: [{ jsonPath: '.status.place' }],
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: { type: 'object', properties: { size: { type: 'integer' } } },
              status: {
                type: 'object',
                properties: {
                  place: text,
                  phase: text,
                  conditions: {
                    type: 'array',
                    'x-kubernetes-list-type': 'map',
                    'x-kubernetes-list-map-keys': ['type'],
                    items: { type: 'object', required: ['type'], properties: { type: text, status: text } },
                  },
                },
              },
            },
          },
        },
      },
    ],
  },
};

/** Installs the kind and waits until it is served. */
export async function installWidgets(client: KubeClient): Promise<void> {
  await client.create(customResourceDefinitions, definition);
  await waitFor('the new kind', async () => (await client.list(widgets)).items.length === 0);
}
