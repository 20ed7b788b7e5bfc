import { expect, it } from 'vitest';
import type { LambdaFunction } from '../../../../src/api/lambda-function.ts';
import { applyFunction, lookAt, runDeploy } from '../../../../src/cli/deploy/deploy.ts';
import { EsbError, hasCode } from '../../../../src/common/errors.ts';
import type { KubeClient } from '../../../../src/kube/api/types.ts';
import { functionReads } from '../../../support/function-reads.ts';

const { signal } = new AbortController();

it('a cluster without the resource, and a user without the right, are refused with the way out', async () => {
  const look = (code: 'NotFound' | 'Forbidden') =>
    lookAt(functionReads(new EsbError('no', { code })), 'hello', { namespace: 'team' }, signal);
  await expect(look('NotFound')).rejects.toSatisfy(
    (error) => hasCode(error, 'NotFound') && /install/.test(error.message),
  );
  await expect(look('Forbidden')).rejects.toSatisfy(
    (error) => hasCode(error, 'Forbidden') && /namespace team/.test(error.message),
  );
});

it('a payload that is not JSON is refused before anything is made', async () => {
  const options = { folder: '/', namespace: 'team', plainHttp: false, forceConflicts: false, wait: 1 };
  await expect(runDeploy({ ...options, invoke: '{name: Ada}' }, { signal, write: () => undefined })).rejects.toThrow(
    /--invoke.*not JSON/,
  );
});

it('settings that a scaler has taken over while the image was built are left to the scaler', async () => {
  const bodies: object[] = [];
  const found = {
    metadata: { namespace: 'team', name: 'hello', generation: 2, managedFields: [] },
    spec: { template: { spec: { image: 'old' } }, scaling: { minWorkers: 5 } },
  } as unknown as LambdaFunction;
  const client = {
    ...functionReads(found),
    patch: ((_kind: unknown, _name: unknown, { body }: { readonly body: object }) => {
      bodies.push(body);
      return Promise.resolve({ ...found, metadata: { ...found.metadata, generation: 2 + bodies.length } });
    }) as KubeClient['patch'],
  };
  const code = { name: 'hello', image: 'registry.example/hello@sha256:0', handler: 'app.handler' };
  const options = { namespace: 'team', forceConflicts: false };
  expect(await applyFunction(client, code, options, signal)).toMatchObject({ isSame: false });
  const { handler, image } = code;
  expect(bodies).toMatchObject([{ spec: { template: { spec: { image, handler } } } }]);
  expect(JSON.stringify(bodies)).not.toContain('scaling');
});
