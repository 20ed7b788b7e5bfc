import { type ServerDuplexStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';

interface ReflectionRequestMessage {
  readonly messageRequest?: string;
  readonly fileByFilename?: string;
  readonly fileContainingSymbol?: string;
}

type ReflectionAnswer =
  | { readonly fileDescriptorResponse: { readonly fileDescriptorProto: readonly Buffer[] } }
  | { readonly listServicesResponse: { readonly service: readonly { readonly name: string }[] } }
  | { readonly errorResponse: { readonly errorCode: number; readonly errorMessage: string } };

/**
 * Server reflection, so that tools such as grpcurl need no protocol files. Any symbol is answered with all files of
 * the package that it is in: they are few and small.
 */
export function createReflectionService(packageDefinition: PackageDefinition): UntypedServiceImplementation {
  const services = Object.entries(packageDefinition)
    .filter(([, definition]) => !isType(definition))
    .map(([name]) => ({ name }));
  const symbols = new Map<string, readonly Buffer[]>();
  const everything = new Set<Buffer>();
  for (const [name, definition] of Object.entries(packageDefinition)) {
    if (isType(definition)) {
      symbols.set(name, definition.fileDescriptorProtos);
      for (const file of definition.fileDescriptorProtos) {
        everything.add(file);
      }
    }
  }

  /** Services carry no descriptors of their own, their messages do. */
  function filesOf(symbol: string): readonly Buffer[] | undefined {
    for (let name = symbol; name !== ''; name = name.slice(0, Math.max(0, name.lastIndexOf('.')))) {
      const exact = symbols.get(name);
      if (exact !== undefined) {
        return exact;
      }
      if (services.some((service) => service.name === name)) {
        const prefix = name.slice(0, name.lastIndexOf('.') + 1);
        const sibling = [...symbols].find(([other]) => other.startsWith(prefix));
        return sibling?.[1];
      }
    }
    return undefined;
  }

  function answer(request: ReflectionRequestMessage): ReflectionAnswer {
    const kind: string = request.messageRequest ?? 'nothing';
    switch (kind) {
      case 'listServices':
        return { listServicesResponse: { service: services } };
      case 'fileContainingSymbol': {
        const files = filesOf(request.fileContainingSymbol ?? '');
        return files === undefined
          ? notFound(`no symbol ${String(request.fileContainingSymbol)}`)
          : { fileDescriptorResponse: { fileDescriptorProto: files } };
      }
      case 'fileByFilename':
        return { fileDescriptorResponse: { fileDescriptorProto: [...everything] } };
      default:
        return {
          errorResponse: {
            errorCode: status.UNIMPLEMENTED,
            errorMessage: `${kind} is not supported`,
          },
        };
    }
  }

  return {
    ServerReflectionInfo: (call: ServerDuplexStream<ReflectionRequestMessage, object>) => {
      call.on('data', (request: ReflectionRequestMessage) => {
        call.write({ originalRequest: request, ...answer(request) });
      });
      call.on('end', () => call.end());
    },
  };
}

/** Messages and enums have descriptors; services are plain tables of their methods. */
function isType(
  definition: PackageDefinition[string],
): definition is Extract<PackageDefinition[string], { readonly fileDescriptorProtos: Buffer[] }> {
  return Array.isArray(definition.fileDescriptorProtos);
}

function notFound(message: string): ReflectionAnswer {
  return { errorResponse: { errorCode: status.NOT_FOUND, errorMessage: message } };
}
