import type { CreateFunctionCommandInput } from '@aws-sdk/client-lambda';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import { type ControlStore, controlStore } from './control-store.ts';
import { fakeInformer } from './fake-informer.ts';
import { condition, ownedFixture } from './function-fixture.ts';
import { type GatewayLab, gatewayLab } from './gateway-lab.ts';

/** A gateway that writes functions, on the objects of an API server that is none. */
export interface WritingLab extends GatewayLab {
  readonly store: ControlStore;
  /** The LambdaFunction of this name as it is now. */
  object(name?: string): LambdaFunction;
}

export async function writingLab(gateway: Parameters<typeof gatewayLab>[0] = {}): Promise<WritingLab> {
  const functions = fakeInformer<LambdaFunction>();
  const versions = fakeInformer<never>();
  const store = controlStore({ lambdafunctions: functions as never, lambdaversions: versions });
  const lab = await gatewayLab({
    ...gateway,
    gateway: { functions, versions, control: store, ...gateway.gateway },
  });
  return {
    ...lab,
    functions,
    versions: versions as never,
    store,
    object(name = 'hello') {
      const found = functions.cache.get({ namespace: 'default', name });
      if (found === undefined) {
        throw new Error(`there is no LambdaFunction ${name}`);
      }
      return found;
    },
  };
}

/** The least that CreateFunction has to be asked. */
export const minimal: CreateFunctionCommandInput = {
  FunctionName: 'hello',
  PackageType: 'Image',
  Code: { ImageUri: 'registry.example/hello:1' },
  Role: 'arn:aws:iam::123456789012:role/r',
};

/** The status that the controller gives a function that is up to date, and a worker that runs. */
export function settle(lab: WritingLab): void {
  const owner = lab.object();
  const ready = { ...condition('Ready', 'True', 'UpToDate'), observedGeneration: owner.metadata.generation ?? 1 };
  lab.functions.put({
    ...owner,
    status: { ...owner.status, observedGeneration: owner.metadata.generation ?? 1, conditions: [ready] },
  });
  lab.workers.put(ownedFixture(owner, 0, { status: { image: `registry.example/hello@sha256:${'a'.repeat(64)}` } }));
}
