import { fileURLToPath } from 'node:url';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';

/** The services of every gRPC server, read from `proto/grpc`. */
export interface ToolProtos {
  readonly health: ServiceDefinition;
  readonly reflection: ServiceDefinition;
  readonly packageDefinition: PackageDefinition;
}

/** Reads the protocol files of health and reflection. */
export function loadToolProtos(): ToolProtos {
  const packageDefinition = loadSync(['grpc/health/v1/health.proto', 'grpc/reflection/v1/reflection.proto'], {
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
    includeDirs: [fileURLToPath(new URL('../../../proto', import.meta.url))],
  });
  return {
    health: packageDefinition['grpc.health.v1.Health'] as unknown as ServiceDefinition,
    reflection: packageDefinition['grpc.reflection.v1.ServerReflection'] as unknown as ServiceDefinition,
    packageDefinition,
  };
}
