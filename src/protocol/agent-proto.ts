import { fileURLToPath } from 'node:url';
import { loadSync, type PackageDefinition } from '@grpc/proto-loader';
import type { AgentMethods } from './generated/agent.ts';

/** `agent.proto`, as agents, gateways and tools read it. */
export interface AgentProto {
  /** The service, for a server or for a client. */
  readonly agent: AgentMethods;
  /** Everything in the file, for reflection. */
  readonly packageDefinition: PackageDefinition;
}

/**
 * Reads `proto/esb/agent/v1/agent.proto`. Messages are read with all fields in camelCase, 64-bit integers as numbers,
 * enums by name where the name is known and else as a number.
 */
export function loadAgentProto(): AgentProto {
  const packageDefinition = loadSync('esb/agent/v1/agent.proto', {
    keepCase: false,
    longs: Number,
    enums: String,
    defaults: true,
    includeDirs: [fileURLToPath(new URL('../../proto', import.meta.url))],
  });
  return { agent: packageDefinition['esb.agent.v1.Agent'] as unknown as AgentMethods, packageDefinition };
}
