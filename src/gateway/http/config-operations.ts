import type { LambdaFunction } from '../../api/lambda-function.ts';
import { aliasWith, findAlias, versionsOf, type WrittenAlias, withAlias, withoutAlias } from '../control/aliases.ts';
import {
  destinationsIn,
  eventConfigIn,
  withEventConfig,
  withoutEventConfig,
  withoutReserved,
  withoutUrl,
  withProvisioned,
  withReserved,
  withUrl,
  workersFor,
} from '../control/function-config.ts';
import { refuseUnknown } from '../control/function-settings.ts';
import { checkRevision } from '../control/function-writer.ts';
import { invalid, isOf, type Members, numberIn, textIn } from '../control/members.ts';
import { type FunctionReference, functionArn } from '../lambda/function-name.ts';
import { lambdaOperations, lambdaShapes, type OperationName } from '../lambda/generated/operations.ts';
import { type Bounds, LambdaError, shown } from '../lambda/lambda-error.ts';
import { aliasOf, eventConfigOf, provisionedConfigOf, urlConfigOf } from './config-description.ts';
import { checkLatest, type WriteInput, type WriteOperation, type WriteParts } from './write-operations.ts';

/** Bounds of the schema of functions where Lambda has no largest number. */
const RESERVED = { ...lambdaShapes.ReservedConcurrentExecutions, max: 100_000 };
const PROVISIONED = { ...lambdaShapes.PositiveInteger, max: 1_000_000 };

type Run = WriteOperation['run'];

const change = (name: OperationName, run: Run): WriteOperation => ({ name, action: 'change', run });

/** The operations about settings of a function that have a resource of their own in Lambda. */
export const functionConfigOperations: readonly WriteOperation[] = [
  change('CreateAlias', async (parts, input) => {
    const { members } = input;
    const name = textIn(members, 'Name') ?? '';
    if (!isOf(lambdaShapes.Alias, name)) {
      throw invalid(`Name '${shown(name)}' is no name of an alias, such as live.`);
    }
    return await writeAlias(parts, input, name, (present) => {
      if (present !== undefined) {
        const arn = functionArn({ name: input.reference.name, qualifier: name });
        throw new LambdaError('ResourceConflictException', `Alias already exists: ${arn}`);
      }
    });
  }),
  change('UpdateAlias', async (parts, input) => {
    const { item, members, reference } = input;
    const revisionId = textIn(members, 'RevisionId');
    return await writeAlias(parts, input, item, (present, owner) => {
      if (present === undefined) {
        throw noAlias(reference, item);
      }
      checkRevision(revisionId, aliasOf(owner, present, reference.name).RevisionId);
    });
  }),
  change('DeleteAlias', async ({ writer }, { author, item, reference, target }) => {
    checkLatest(reference);
    await writer.change(target, (draft) => withoutAlias(draft, item), author);
    return undefined;
  }),
  change('PutFunctionConcurrency', async ({ writer }, { author, members, reference, target }) => {
    checkLatest(reference);
    const name = 'ReservedConcurrentExecutions';
    refuseUnknown(members, new Set([name]));
    const reserved = needed(members, name, RESERVED);
    await writer.change(target, (draft) => withReserved(draft, reserved), author);
    return { ReservedConcurrentExecutions: reserved };
  }),
  change('DeleteFunctionConcurrency', async ({ writer }, { author, reference, target }) => {
    checkLatest(reference);
    await writer.change(target, (draft) => withoutReserved(draft), author);
    return undefined;
  }),
  change('PutProvisionedConcurrencyConfig', async (parts, input) => {
    const { author, members, reference, target } = input;
    const name = 'ProvisionedConcurrentExecutions';
    refuseUnknown(members, new Set([name]));
    const calls = needed(members, name, PROVISIONED);
    const written = await parts.writer.change(
      target,
      (draft) => withProvisioned(draft, aliasNamed(draft, reference), workersFor(calls, draft.spec.template)),
      author,
    );
    return { ...provisionedConfigOf(parts.catalog, written, aliasNamed(written, reference)), FunctionArn: undefined };
  }),
  change('DeleteProvisionedConcurrencyConfig', async ({ writer }, input) => {
    const { author, reference, target } = input;
    await writer.change(target, (draft) => withProvisioned(draft, aliasNamed(draft, reference), undefined), author);
    return undefined;
  }),
  change('PutFunctionEventInvokeConfig', async (parts, input) => await writeEvents(parts, input, false)),
  change('UpdateFunctionEventInvokeConfig', async (parts, input) => await writeEvents(parts, input, true)),
  change('DeleteFunctionEventInvokeConfig', async ({ writer }, { author, reference, target }) => {
    checkLatest(reference);
    await writer.change(
      target,
      (draft) => {
        checkThere(eventConfigIn(draft.spec), reference);
        return withoutEventConfig(draft);
      },
      author,
    );
    return undefined;
  }),
  change('CreateFunctionUrlConfig', async (parts, input) => {
    const made = await writeUrl(parts, input, (present) => {
      if (present !== undefined) {
        const arn = functionArn({ name: input.reference.name });
        throw new LambdaError(
          'ResourceConflictException',
          `Failed to create function url config for [${arn}]. Error message:  FunctionUrlConfig exists for this Lambda function`,
        );
      }
    });
    return { ...made, LastModifiedTime: undefined };
  }),
  change('UpdateFunctionUrlConfig', async (parts, input) => {
    return await writeUrl(parts, input, (present) => {
      if (present === undefined) {
        throw nothingThere();
      }
    });
  }),
  change('DeleteFunctionUrlConfig', async ({ writer }, { author, reference, target }) => {
    checkLatest(reference);
    await writer.change(
      target,
      (draft) => {
        if (draft.spec.url === undefined) {
          throw nothingThere();
        }
        return withoutUrl(draft);
      },
      author,
    );
    return undefined;
  }),
];

/** @param check throws where the alias as it is does not let the request be */
async function writeAlias(
  { writer }: WriteParts,
  { author, members, reference, target }: WriteInput,
  name: string,
  check: (present: WrittenAlias | undefined, owner: LambdaFunction) => void,
): Promise<object> {
  refuseUnknown(members, new Set([...lambdaOperations.CreateAlias.members, ...lambdaOperations.UpdateAlias.members]));
  const description = textIn(members, 'Description');
  checkLatest(reference);
  const owner = await writer.read(target);
  const next = (spec: LambdaFunction['spec']): WrittenAlias => aliasWith(findAlias(spec, name), name, members);
  check(findAlias(owner.spec, name), owner);
  for (const version of versionsOf(next(owner.spec))) {
    if (!(await writer.hasVersion(owner, version))) {
      const arn = functionArn({ name: reference.name, qualifier: String(version) });
      throw new LambdaError('ResourceNotFoundException', `Function not found: ${arn}`);
    }
  }
  const written = await writer.change(
    target,
    (draft, present) => {
      check(findAlias(present.spec, name), present);
      return withAlias(draft, next(draft.spec), description);
    },
    author,
  );
  return aliasOf(written, aliasNamed(written, { name: reference.name, qualifier: name }), reference.name);
}

async function writeEvents(
  { authorize, catalog, writer }: WriteParts,
  { author, members, reference, target }: WriteInput,
  keeps: boolean,
): Promise<object | undefined> {
  checkLatest(reference);
  refuseUnknown(members, new Set(lambdaOperations.PutFunctionEventInvokeConfig.members));
  for (const functionName of destinationsIn(members)) {
    // The gateway calls a destination with each record, for the author.
    await authorize('invoke', { name: functionName, objectName: functionName });
  }
  const written = await writer.change(
    target,
    (draft) => {
      const asyncInvoke = eventConfigIn(draft.spec);
      if (keeps) {
        checkThere(asyncInvoke, reference);
      }
      return withEventConfig(draft, keeps ? asyncInvoke : undefined, members);
    },
    author,
  );
  return eventConfigOf(catalog.find({ name: reference.name }, written).speaker.resource, reference);
}

async function writeUrl(
  { catalog, writer }: WriteParts,
  { author, members, reference, target }: WriteInput,
  check: (present: LambdaFunction['spec']['url']) => void,
): Promise<object | undefined> {
  refuseUnknown(members, new Set(lambdaOperations.CreateFunctionUrlConfig.members));
  checkLatest(reference);
  if (catalog.urlOf(await writer.read(target)) === undefined) {
    throw new LambdaError(
      'UnsupportedOperationException',
      'This gateway serves no function URLs: an administrator names a domain for them with --function-url-domain.',
    );
  }
  const written = await writer.change(
    target,
    (draft) => {
      check(draft.spec.url);
      return withUrl(draft, draft.spec.url, members);
    },
    author,
  );
  return urlConfigOf(catalog, { name: target.name }, written);
}

/** @throws {LambdaError} ResourceNotFoundException; InvalidParameterValueException without the qualifier of an alias */
function aliasNamed({ spec }: Pick<LambdaFunction, 'spec'>, reference: FunctionReference): WrittenAlias {
  const { qualifier = '' } = reference;
  if (qualifier === '' || qualifier === '$LATEST' || /^[0-9]+$/.test(qualifier)) {
    throw invalid(
      `Qualifier ${shown(qualifier)} is not supported. Workers are kept for aliases: create one with CreateAlias.`,
    );
  }
  const alias = findAlias(spec, qualifier);
  if (alias === undefined) {
    throw noAlias(reference, qualifier);
  }
  return alias;
}

function noAlias({ name }: FunctionReference, qualifier: string): LambdaError {
  return new LambdaError(
    'ResourceNotFoundException',
    `Cannot find alias arn: ${functionArn({ name, qualifier: shown(qualifier) })}`,
  );
}

function nothingThere(): LambdaError {
  return new LambdaError('ResourceNotFoundException', 'The resource you requested does not exist.');
}

function checkThere(config: object | undefined, { name }: FunctionReference): void {
  if (config === undefined) {
    const arn = functionArn({ name, qualifier: '$LATEST' });
    throw new LambdaError('ResourceNotFoundException', `The function ${arn} doesn't have an EventInvokeConfig`);
  }
}

function needed(members: Members, name: string, bounds: Bounds): number {
  const value = numberIn(members, name, bounds);
  if (value === undefined) {
    throw invalid(`${name} is needed.`);
  }
  return value;
}
