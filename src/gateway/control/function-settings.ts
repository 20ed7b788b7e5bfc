import type { KeptProperties } from '../../api/kept-properties.ts';
import type { LambdaFunctionSpec, WorkerTemplate } from '../../api/lambda-function.ts';
import { lambdaShapes } from '../lambda/generated/operations.ts';
import { shown } from '../lambda/lambda-error.ts';
import type { FunctionDraft } from './function-draft.ts';
import { asksForNothing, invalid, type Members, numberIn, objectIn, textIn, textMapIn, textsIn } from './members.ts';

type WorkerSpec = WorkerTemplate['spec'];

/** Bounds of the schema of workers, which are others than those of Lambda. */
const MEMORY_MIB = { min: 6, max: 2 ** 20 };
const STORAGE_MIB = { min: 1, max: 64 * 1024 };
const TIMEOUT_SECONDS = { min: 1, max: 900 };

/** Members of CreateFunction and UpdateFunctionConfiguration that become fields, or are kept. */
const KNOWN = new Set([
  'Description',
  'Environment',
  'EphemeralStorage',
  'Handler',
  'ImageConfig',
  'LoggingConfig',
  'MemorySize',
  'Role',
  'Timeout',
]);

/** Values that ask for what is there anyway. */
const USUAL: ReadonlyMap<string, (value: Members) => boolean> = new Map([
  ['TracingConfig', ({ Mode }) => Mode === 'PassThrough'],
  ['SnapStart', ({ ApplyOn }) => ApplyOn === 'None'],
]);

/** The way to give a function its code, for those who send it. */
export const CODE_ADVICE = 'Functions are images: name one by ImageUri, or use esb deploy FOLDER.';

/** The way to what a refused member is for. */
const INSTEAD: ReadonlyMap<string, string> = new Map([
  ['CodeSigningConfigArn', 'Admission policies of the cluster decide about images.'],
  ['DeadLetterConfig', 'PutFunctionEventInvokeConfig with DestinationConfig.OnFailure names where failed events go.'],
  ['FileSystemConfigs', 'Workers have /tmp alone: set EphemeralStorage.'],
  ['KMSKeyArn', 'Encryption at rest is that of the Kubernetes API server.'],
  ['Layers', 'Put what is in layers into the image.'],
  ['Runtime', 'The image brings its runtime: leave Runtime out.'],
  ['SnapStart', 'Workers at rest are frozen with their memory: spec.template.spec.desiredState of the LambdaFunction.'],
  ['TracingConfig', 'The gateway sends spans of every call with --otlp-endpoint.'],
  [
    'VpcConfig',
    'Networks are spec.template.spec.network.egress of the LambdaFunction: use kubectl edit lambdafunction NAME.',
  ],
  ['WorkingDirectory', 'Set WORKDIR in the image.'],
]);

/**
 * Refuses members that ask for something that workers do not have.
 *
 * @param within the structure that the members are of, for the message; absent for those of an operation
 * @throws {LambdaError} InvalidParameterValueException with the name of the first one
 */
export function refuseUnknown(members: Members, known: ReadonlySet<string>, within?: string): void {
  for (const [name, value] of Object.entries(members)) {
    if (known.has(name) || asksForNothing(value) || USUAL.get(name)?.(value as Members) === true) {
      continue;
    }
    const instead = INSTEAD.get(name) ?? 'Leave it out; kubectl explain lambdafunction.spec shows what functions have.';
    throw invalid(`${within === undefined ? '' : `${within}.`}${shown(name)} is not supported. ${instead}`);
  }
}

/**
 * A structure with these members and no others; undefined where there is none.
 *
 * @throws {LambdaError} InvalidParameterValueException
 */
export function structureIn(members: Members, name: string, known: readonly string[]): Members | undefined {
  const given = objectIn(members, name);
  if (given !== undefined) {
    refuseUnknown(given, new Set(known), name);
  }
  return given;
}

/**
 * A function with the configuration that a request names; what the request does not name stays.
 *
 * @param others names of further members that the operation knows
 * @throws {LambdaError} InvalidParameterValueException
 */
export function configured(
  draft: FunctionDraft,
  members: Members,
  functionName: string,
  others: readonly string[],
): FunctionDraft {
  refuseUnknown(members, new Set([...KNOWN, ...others]));
  const { spec } = draft;
  const role = textIn(members, 'Role');
  const description = textIn(members, 'Description');
  return {
    ...draft,
    kept: role === undefined ? draft.kept : { ...draft.kept, role },
    spec: {
      ...spec,
      ...(description === undefined ? {} : { description: description === '' ? undefined : description }),
      template: { ...spec.template, spec: configuredWorker(spec.template.spec, members, functionName) },
    } as LambdaFunctionSpec,
  };
}

function configuredWorker(spec: WorkerSpec, members: Members, functionName: string): WorkerSpec {
  const timeoutSeconds = numberIn(members, 'Timeout', TIMEOUT_SECONDS);
  const memory = numberIn(members, 'MemorySize', MEMORY_MIB);
  const handler = textIn(members, 'Handler');
  const storage = structureIn(members, 'EphemeralStorage', lambdaShapes.EphemeralStorage.members);
  const size = storage === undefined ? undefined : numberIn(storage, 'Size', STORAGE_MIB);
  return {
    ...spec,
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    ...(memory === undefined
      ? {}
      : { resources: { ...spec.resources, limits: { ...spec.resources?.limits, memory: `${memory}Mi` } } }),
    ...(handler === undefined ? {} : { handler: handler === '' ? undefined : handler }),
    ...(size === undefined ? {} : { ephemeralStorage: `${size}Mi` }),
    ...environment(spec, members),
    ...imageConfig(members),
    ...logging(spec, members, functionName),
  } as WorkerSpec;
}

/** Variables out of Secrets are never told to callers, and so stay unless a request gives them a value. */
function environment(spec: WorkerSpec, members: Members): Pick<WorkerSpec, 'env'> | undefined {
  const given = structureIn(members, 'Environment', lambdaShapes.Environment.members);
  if (given === undefined) {
    return undefined;
  }
  const variables = textMapIn(given, 'Variables') ?? {};
  const secret = (spec.env ?? []).filter(
    ({ name, valueFrom }) => valueFrom !== undefined && !Object.hasOwn(variables, name),
  );
  const env = [...secret, ...Object.entries(variables).map(([name, value]) => ({ name, value }))];
  return { env: env.length === 0 ? undefined : env } as Pick<WorkerSpec, 'env'>;
}

function imageConfig(members: Members): Pick<WorkerSpec, 'args' | 'command'> | undefined {
  const given = structureIn(members, 'ImageConfig', ['Command', 'EntryPoint']);
  if (given === undefined) {
    return undefined;
  }
  const words = (name: string): readonly string[] | undefined => {
    const list = textsIn(given, name) ?? [];
    return list.length === 0 ? undefined : list;
  };
  return { command: words('EntryPoint'), args: words('Command') } as Pick<WorkerSpec, 'args' | 'command'>;
}

function logging(spec: WorkerSpec, members: Members, functionName: string): Pick<WorkerSpec, 'logging'> | undefined {
  const given = structureIn(members, 'LoggingConfig', lambdaShapes.LoggingConfig.members);
  if (given === undefined) {
    return undefined;
  }
  const group = textIn(given, 'LogGroup') ?? '';
  if (group !== '' && group !== `/aws/lambda/${functionName}`) {
    throw invalid('LoggingConfig.LogGroup is not supported. Logs stay on the node: esb logs shows them.');
  }
  const format = textIn(given, 'LogFormat') ?? spec.logging?.format ?? 'Text';
  const applicationLevel = textIn(given, 'ApplicationLogLevel');
  const systemLevel = textIn(given, 'SystemLogLevel');
  return {
    logging: {
      format,
      ...(applicationLevel === undefined ? {} : { applicationLevel }),
      ...(systemLevel === undefined ? {} : { systemLevel }),
    },
  } as Pick<WorkerSpec, 'logging'>;
}

/**
 * A function with the image that a request names.
 *
 * @param code the member `Code` of CreateFunction, or all members of UpdateFunctionCode
 * @throws {LambdaError} InvalidParameterValueException
 */
export function withImage(draft: FunctionDraft, code: Members, known: readonly string[] = []): FunctionDraft {
  const archive = ['ZipFile', 'S3Bucket', 'S3Key', 'S3ObjectVersion', 'S3ObjectStorageMode', 'SourceKMSKeyArn'];
  const named = archive.find((name) => !asksForNothing(code[name]));
  if (named !== undefined) {
    throw invalid(`${named} is not supported. ${CODE_ADVICE}`);
  }
  refuseUnknown(code, new Set(['ImageUri', ...known]));
  const image = textIn(code, 'ImageUri') ?? '';
  if (image === '') {
    throw invalid('ImageUri is needed. Functions are images: name one, such as registry.example/hello:1.');
  }
  const { spec } = draft;
  return { ...draft, spec: { ...spec, template: { ...spec.template, spec: { ...spec.template.spec, image } } } };
}

/**
 * A function whose image is looked up again, as UpdateFunctionCode does in Lambda, where a request names the tag that the
 * function has: new workers have what the registry means by the tag now.
 *
 * @param lookup tells this request from others
 */
export function withLookup(before: FunctionDraft, draft: FunctionDraft, lookup: string): FunctionDraft {
  const { imageLookup: _before, ...worker } = draft.spec.template.spec;
  const isAgain = worker.image === before.spec.template.spec.image && !worker.image.includes('@');
  const spec = isAgain ? { ...worker, imageLookup: lookup } : worker;
  return { ...draft, spec: { ...draft.spec, template: { ...draft.spec.template, spec } } };
}

/**
 * A function with the processor that a request names, which is kept: the image decides.
 *
 * @throws {LambdaError} InvalidParameterValueException
 */
export function withArchitecture(draft: FunctionDraft, members: Members): FunctionDraft {
  const [architecture, ...further] = textsIn(members, 'Architectures') ?? [];
  if (architecture === undefined) {
    return draft;
  }
  if (further.length > 0 || !lambdaShapes.Architecture.enum.some((each) => each === architecture)) {
    throw invalid(`Architectures has to be one of ${lambdaShapes.Architecture.enum.join(' and ')}.`);
  }
  return { ...draft, kept: { ...draft.kept, architecture } satisfies KeptProperties };
}
