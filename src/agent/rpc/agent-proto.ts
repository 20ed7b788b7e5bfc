import { fileURLToPath } from 'node:url';
import { loadPackageDefinition, type ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type Options, type PackageDefinition } from '@grpc/proto-loader';
import { EsbError } from '../../common/errors.ts';

const protoFolder = fileURLToPath(new URL('../../../proto', import.meta.url));

const loaderOptions: Options = {
  keepCase: false,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
  includeDirs: [protoFolder],
};

/** The services that an agent offers, read from `proto/`. */
export interface AgentProto {
  readonly agent: ServiceDefinition;
  readonly health: ServiceDefinition;
  readonly reflection: ServiceDefinition;
  /** Everything that was loaded, for reflection. */
  readonly packageDefinition: PackageDefinition;
}

/** Reads the protocol files of the agent's services. */
export function loadAgentProto(): AgentProto {
  const packageDefinition = loadSync(
    ['esb/agent/v1/agent.proto', 'grpc/health/v1/health.proto', 'grpc/reflection/v1/reflection.proto'],
    loaderOptions,
  );
  return {
    agent: serviceOf(packageDefinition, 'esb.agent.v1.Agent'),
    health: serviceOf(packageDefinition, 'grpc.health.v1.Health'),
    reflection: serviceOf(packageDefinition, 'grpc.reflection.v1.ServerReflection'),
    packageDefinition,
  };
}

function serviceOf(packageDefinition: PackageDefinition, name: string): ServiceDefinition {
  let found: unknown = loadPackageDefinition(packageDefinition);
  for (const part of name.split('.')) {
    found = isRecord(found) ? found[part] : undefined;
  }
  if (isRecord(found) && isRecord(found.service)) {
    return found.service as unknown as ServiceDefinition;
  }
  throw new EsbError(`the protocol files have no service ${name}`, { code: 'Internal' });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return (typeof value === 'object' || typeof value === 'function') && value !== null;
}
