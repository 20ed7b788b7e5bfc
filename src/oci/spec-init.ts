import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { EsbError } from '../common/errors.ts';
import { INIT_SOCKET, type InitFiles } from '../init/contract.ts';
import type { Logging } from './spec-shape.ts';

/** Our init as the first process of a container of interface `Lambda`, and the facts that the init is told. */
export interface SpecInit extends InitFiles {
  /** Milliseconds until the runtime and all extensions have to be ready. */
  readonly timeoutMs: number;
  /** Milliseconds between SIGTERM and SIGKILL. */
  readonly graceMs: number;
  readonly madeAt: Date;
  /** Calls at once; absent for one. */
  readonly perWorker?: number | undefined;
}

/** Name of AWS's emulator, by which images start their runtime on a machine without a Runtime API. */
export const EMULATOR = 'aws-lambda-rie';
/** Address of the Runtime API: that of Lambda itself. */
export const RUNTIME_API = '127.0.0.1:9001';
/** Paths in the container. */
export const INIT_PROGRAM = '/run/esb/init';
export const INIT_FOLDER = '/run/esb/agent';

/** Flags of the emulator whose value follows `=`, or is the next argument (`cmd/aws-lambda-rie/main.go`). */
const VALUE_FLAGS: ReadonlySet<string> = new Set([
  '--log-level',
  '--runtime-api-address',
  '--runtime-interface-emulator-address',
]);
const SWITCH = '--enable-init-caching';

/**
 * The program of a runtime and its arguments: what an image has the emulator start, where the command begins with the
 * emulator.
 *
 * @throws {EsbError} `NoEntrypoint` when the emulator is named and no program
 */
export function runtimeArguments(program: readonly string[]): readonly string[] {
  if (basename(program[0] ?? '') !== EMULATOR) {
    return program;
  }
  let rest = program.slice(1);
  for (;;) {
    const [first = ''] = rest;
    const [flag = ''] = first.split('=', 1);
    if (VALUE_FLAGS.has(flag)) {
      rest = rest.slice(first === flag ? 2 : 1);
    } else if (first === SWITCH) {
      rest = rest.slice(1);
    } else {
      break;
    }
  }
  if (rest.length === 0) {
    throw new EsbError(
      `the command is ${EMULATOR} alone, which the interface Lambda does without: name the runtime in spec.command, for example ["/var/runtime/bootstrap"]`,
      { code: 'NoEntrypoint' },
    );
  }
  return rest;
}

/** The first process of a container: the init, which starts the program. */
export function initArguments(
  program: readonly string[],
  { graceMs, perWorker, timeoutMs }: SpecInit,
  logging: Logging | undefined,
): readonly string[] {
  return [
    INIT_PROGRAM,
    ...['--socket', `${INIT_FOLDER}/${INIT_SOCKET}`],
    ...['--init-timeout-ms', String(timeoutMs)],
    // The init takes no 0.
    ...['--grace-ms', String(Math.max(1, graceMs))],
    ...(perWorker === undefined ? [] : ['--concurrency', String(perWorker)]),
    ...(logging?.format === 'JSON' ? ['--system-log-level', logging.systemLevel] : []),
    '--',
    ...program,
  ];
}

/**
 * Name of the log stream of a container in AWS's form, `YYYY/MM/DD/[VERSION]` and 32 digits. The digits are those at the
 * end of the container's name, by which its output is found.
 */
export function logStreamName(containerId: string, version: string, madeAt: Date): string {
  const day = madeAt.toISOString().slice(0, 10).replaceAll('-', '/');
  const digits = /-([0-9a-f]{32})(-[0-9a-z]+)?$/.exec(containerId)?.[1];
  return `${day}/[${version}]${digits ?? createHash('sha256').update(containerId).digest('hex').slice(0, 32)}`;
}
