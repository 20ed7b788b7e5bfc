import { EsbError } from '../common/errors.ts';
import { versionText } from '../common/function-arn.ts';
import type { ImageConfig } from './image-config.ts';
import { logStreamName, RUNTIME_API, runtimeArguments, type SpecInit } from './spec-init.ts';
import type { SpecShape } from './spec-shape.ts';

/** `AWS_REGION` where neither image nor user gives one: the region of the emulator's ARNs. */
const REGION = 'us-east-1';
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Variables that Lambda sets for a container image beside those below, and lets be overridden. `AWS_Lambda_Image` is
 * found there and not in the documents (aws-lambda-base-images#15). `LOG_ERROR` keeps X-Ray's clients from failing a
 * call without a trace.
 */
const LAMBDA_DEFAULTS = [
  ['AWS_EXECUTION_ENV', 'AWS_Lambda_Image'],
  ['AWS_LAMBDA_LOG_FORMAT', 'Text'],
  ['AWS_XRAY_CONTEXT_MISSING', 'LOG_ERROR'],
] as const;

/**
 * Names that neither the image nor the user sets. Lambda reserves all but `AWS_LAMBDA_MAX_CONCURRENCY`, by which runtime
 * clients and the emulator run several calls at once: set where the resource asks for that, and for no other number.
 */
const RESERVED: ReadonlySet<string> = new Set([
  'AWS_LAMBDA_FUNCTION_NAME',
  'AWS_LAMBDA_FUNCTION_VERSION',
  'AWS_LAMBDA_FUNCTION_MEMORY_SIZE',
  'AWS_LAMBDA_FUNCTION_TIMEOUT',
  'AWS_LAMBDA_INITIALIZATION_TYPE',
  'AWS_LAMBDA_LOG_GROUP_NAME',
  'AWS_LAMBDA_LOG_STREAM_NAME',
  'AWS_LAMBDA_RUNTIME_API',
  'AWS_LAMBDA_MAX_CONCURRENCY',
  '_X_AMZN_TRACE_ID',
]);

export interface EnvironmentSources {
  readonly containerId: string;
  readonly functionName: string;
  readonly shape: SpecShape;
  readonly image: ImageConfig;
  /** Of a worker of interface `Lambda`. Default: the image brings the emulator. */
  readonly init?: SpecInit | undefined;
}

/**
 * The program of a worker and its arguments.
 *
 * @throws {EsbError} `NoEntrypoint` when neither image nor resource names one
 */
export function processArguments(shape: SpecShape, image: ImageConfig): readonly string[] {
  const replaced = shape.command.length > 0;
  const entrypoint = replaced ? shape.command : image.entrypoint;
  // As in Kubernetes: the Cmd is an argument of its own Entrypoint, not of another program.
  const imageCmd = replaced ? [] : image.cmd;
  const cmd = shape.args.length > 0 ? shape.args : imageCmd;
  const program = [...entrypoint, ...cmd];
  if (program.length === 0) {
    throw new EsbError(
      'the image names neither an Entrypoint nor a Cmd, so there is nothing to run: set spec.command, for example ' +
        '["/usr/local/bin/aws-lambda-rie", "python3", "-m", "awslambdaric", "lambda_function.handler"]',
      { code: 'NoEntrypoint' },
    );
  }
  const handler = cmd.length === 0 && entrypoint.length > 0 ? shape.handler : undefined;
  return handler === undefined || handler === '' ? program : [...program, handler];
}

/**
 * The argument that a runtime takes for the handler although the resource names another one: `spec.handler` has no
 * effect then. The emulator and the runtimes read an argument, the last or the first that looks like a handler, and not
 * `_HANDLER`. Undefined where `spec.handler` decides, or none is given.
 */
export function handlerInItsPlace(shape: SpecShape, image: ImageConfig): string | undefined {
  const { handler } = shape;
  if (handler === undefined || handler === '') {
    return undefined;
  }
  const [, ...words] = processArguments(shape, image);
  const last = words.at(-1);
  const taken = last === handler ? words.at(-2) : last;
  return taken !== undefined && taken !== handler && isHandler(taken) ? taken : undefined;
}

/** `module.function` or `Class::method`, as opposed to a path, an option, a version, or the name of a file. */
function isHandler(word: string): boolean {
  const named = /^\w[\w-]*(?:[./]|::)(?:[\w-]+(?:[./]|::))*[A-Za-z_]\w*$/;
  return named.test(word) && !/\.(?:[cm]?[jt]s|py|rb|sh|jar|dll|so)$/.test(word) && /\.|::/.test(word);
}

/**
 * The environment that Lambda promises, over which image and resource set their own. Things that are not
 * there have no variable: credentials of a role, X-Ray's daemon, the metadata service. Only the emulator
 * knows `AWS_LAMBDA_FUNCTION_TIMEOUT`.
 */
export function environment(options: EnvironmentSources): readonly string[] {
  const { containerId, functionName, image, init, shape } = options;
  const variables = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['AWS_REGION', REGION],
    ['AWS_DEFAULT_REGION', REGION],
    ['LAMBDA_TASK_ROOT', '/var/task'],
    ['LAMBDA_RUNTIME_DIR', '/var/runtime'],
    ['TZ', ':UTC'],
    ...(init === undefined ? [] : LAMBDA_DEFAULTS),
  ]);
  for (const entry of image.env) {
    const equals = entry.indexOf('=');
    if (equals > 0) {
      variables.set(entry.slice(0, equals), entry.slice(equals + 1));
    }
  }
  for (const { name, value } of shape.env) {
    variables.set(name, value);
  }
  for (const name of RESERVED) {
    variables.delete(name);
  }
  variables.set('AWS_LAMBDA_FUNCTION_NAME', functionName);
  const version = versionText(shape.version);
  variables.set('AWS_LAMBDA_FUNCTION_VERSION', version);
  variables.set('AWS_LAMBDA_FUNCTION_MEMORY_SIZE', String(shape.memoryMiB));
  if (init === undefined) {
    variables.set('AWS_LAMBDA_FUNCTION_TIMEOUT', String(shape.timeoutSeconds));
  } else {
    variables.set('AWS_LAMBDA_RUNTIME_API', RUNTIME_API);
    if (init.perWorker !== undefined) {
      variables.set('AWS_LAMBDA_MAX_CONCURRENCY', String(init.perWorker));
    }
  }
  variables.set('AWS_LAMBDA_INITIALIZATION_TYPE', 'on-demand');
  variables.set('AWS_LAMBDA_LOG_GROUP_NAME', `/aws/lambda/${functionName}`);
  const stream = init === undefined ? `${version}/${containerId}` : logStreamName(containerId, version, init.madeAt);
  variables.set('AWS_LAMBDA_LOG_STREAM_NAME', stream);
  if (shape.logging !== undefined) {
    variables.set('AWS_LAMBDA_LOG_FORMAT', shape.logging.format);
    if (shape.logging.format === 'JSON') {
      variables.set('AWS_LAMBDA_LOG_LEVEL', shape.logging.applicationLevel);
    }
  }
  const handler =
    shape.handler || (init === undefined ? '' : (variables.get('_HANDLER') ?? lastArgument(shape, image)));
  if (handler !== '') {
    variables.set('_HANDLER', handler);
  }
  return [...variables].map(([name, value]) => `${name}=${value}`);
}

/** The last argument of a runtime, which the emulator too takes for the handler; empty for a program without one. */
function lastArgument(shape: SpecShape, image: ImageConfig): string {
  const [, ...words] = runtimeArguments(processArguments(shape, image));
  return words.at(-1) ?? '';
}
