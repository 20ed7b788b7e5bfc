import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Product } from './product.ts';

/** Folder of the types of `proto/esb`; everything in it is generated. */
export const generatedProtocolFolder = 'src/protocol/generated';

const PROTO_FILE = 'esb/agent/v1/agent.proto';
const SERVICE = 'Agent';
const HEADER = `// Generated from proto/${PROTO_FILE} by \`npm run generate\`; do not edit.

import type { MethodDefinition } from '@grpc/proto-loader';
import type { Sparse } from '../sparse.ts';
`;

/** The loader options of `src/protocol/agent-proto.ts` in the form of the command line. */
const LOADER_FLAGS = ['--longs=Number', '--enums=String', '--defaults'];

/** The types of a message or enum without the forms that name every field optional, and without quotes and brackets. */
function typesOf(name: string, source: string): string {
  const constant = /export const \w+ = \{[\s\S]*?\n\} as const;/.exec(source)?.[0];
  if (constant !== undefined) {
    return `${constant}\n\nexport type ${name} = keyof typeof ${name};\n`;
  }
  const message = new RegExp(`(?:/\\*\\*(?:(?!\\*/)[\\s\\S])*\\*/\\n)?export interface ${name} \\{[\\s\\S]*?\\n\\}`);
  return `${message.exec(source)?.[0] ?? ''}\n`
    .replaceAll(/^ {2}'(\w+)'(\??): (.*);$/gm, (_line, field: string, optional: string, type: string) => {
      const plain = type.replaceAll(/[()]|_esb_agent_v1_/g, '');
      // A field of a oneof is absent where another one is set; every other field is there.
      const exact = optional === '' ? plain : plain.replace(' | null', '');
      return `  readonly ${field}${optional}: ${exact.endsWith('[]') ? 'readonly ' : ''}${exact};`;
    })
    .replace(/ \{\n\}/, ' {}');
}

/** The methods of the service, each with its four types. */
function methodsOf(source: string): string {
  const methods = [...source.matchAll(/^ {2}(\w+): MethodDefinition<(.*)>$/gm)].map(([, name, types]) => {
    const plain = (types ?? '').replaceAll('_esb_agent_v1_', '').replaceAll(/(\w+)Input\b/g, 'Sparse<$1>');
    return `  readonly ${name ?? ''}: MethodDefinition<${plain}>;`;
  });
  return `export type ${SERVICE}Methods = {\n${methods.join('\n')}\n};\n`;
}

/** A comment of one line on one line. */
function compact(text: string): string {
  return text.replaceAll(/^( *)\/\*\*\n *\* (.*)\n *\*\/$/gm, '$1/** $2 */');
}

/** The TypeScript types of the agent's protocol: messages as they are read, enums, methods. */
export async function protocolTypes(root: string): Promise<readonly Product[]> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-protocol-'));
  try {
    const tool = createRequire(import.meta.url).resolve('@grpc/proto-loader/build/bin/proto-loader-gen-types.js');
    const names = ['--grpcLib=@grpc/grpc-js', '--inputTemplate=%sInput', '--outputTemplate=%s'];
    const places = [`--outDir=${folder}`, '--includeDirs', join(root, 'proto'), '--', PROTO_FILE];
    await promisify(execFile)(process.execPath, [tool, ...LOADER_FLAGS, ...names, '--includeComments', ...places]);
    const below = join(folder, 'esb/agent/v1');
    const files = (await readdir(below)).toSorted();
    const parts = await Promise.all(
      files.map(async (file) => {
        const source = await readFile(join(below, file), 'utf8');
        const name = file.replace(/\.ts$/, '');
        return name === SERVICE ? methodsOf(source) : typesOf(name, source);
      }),
    );
    return [{ path: `${generatedProtocolFolder}/agent.ts`, text: [HEADER, ...parts].map(compact).join('\n') }];
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
