import { CreateFunctionCommand } from '@aws-sdk/client-lambda';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { writeOperations } from '../../../src/gateway/http/control-routes.ts';
import { lambdaOperations } from '../../../src/gateway/lambda/generated/operations.ts';
import { versionFixture } from '../../support/function-fixture.ts';
import { minimal, settle, writingLab } from '../../support/writing-lab.ts';

/** Members of the service model, with values that some of them have. */
const members = [
  ...['AdditionalVersionWeights', 'AllowOrigins', 'Architectures', 'AuthType', 'Code', 'CodeSha256', 'Command', 'Cors'],
  ...['Description', 'Destination', 'DestinationConfig', 'DryRun', 'EntryPoint', 'Environment', 'EphemeralStorage'],
  ...['FunctionName', 'FunctionVersion', 'Handler', 'ImageConfig', 'ImageUri', 'InvokeMode', 'Layers', 'LogFormat'],
  ...['LoggingConfig', 'MaxAge', 'MaximumEventAgeInSeconds', 'MaximumRetryAttempts', 'MemorySize', 'Mode', 'Name'],
  ...['OnFailure', 'PackageType', 'ProvisionedConcurrentExecutions', 'ReservedConcurrentExecutions', 'RevisionId'],
  ...['Role', 'RoutingConfig', 'Size', 'SnapStart', 'Tags', 'Timeout', 'TracingConfig', 'Variables', 'VpcConfig'],
];
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom<unknown>(null, true, false, '', 0, 1, -1, 2 ** 53, 1.5, '1', '$LATEST', 'Image', 'AWS_IAM', 'live'),
    fc.string({ maxLength: 20 }),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...members), fc.string({ maxLength: 5 })), tie('value'), { maxKeys: 4 }),
  ),
}));
const body = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.dictionary(fc.constantFrom(...members), value, { maxKeys: 6 }).map((each) => JSON.stringify(each)),
  },
  { weight: 1, arbitrary: value.map((each) => JSON.stringify(each)) },
  { weight: 1, arbitrary: fc.string() },
);

it('no request that changes functions is a fault of the gateway', async () => {
  const lab = await writingLab();
  await lab.client.send(new CreateFunctionCommand(minimal));
  settle(lab);
  lab.versions.put(versionFixture(lab.object(), 1));
  const operations = writeOperations.filter(({ name }) => !['DeleteFunction', 'PublishVersion'].includes(name));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...operations),
      body,
      fc.constantFrom('', '?Qualifier=live', '?tagKeys=a'),
      async (operation, text, query) => {
        const { method, path: route } = lambdaOperations[operation.name];
        const path = route.replace(':name', 'hello').replace(':item', 'live');
        const answer = await fetch(`${lab.url}${path}${query}`, {
          method,
          ...(method === 'DELETE' ? {} : { body: text }),
        });
        expect({
          operation: operation.name,
          sent: text,
          status: answer.status,
          told: answer.status < 500 ? '' : await answer.text(),
        }).toMatchObject({ told: '' });
      },
    ),
    { numRuns: 1_500 },
  );
}, 60_000);
