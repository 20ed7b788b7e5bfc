import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';

/** A rule in CEL that the API server holds objects to. */
export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
}

/** The part of an OpenAPI v3 schema that the definitions use. */
export interface Schema {
  readonly description?: string;
  readonly type?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema;
  readonly items?: Schema;
  readonly required?: readonly string[];
  readonly enum?: readonly string[];
  readonly default?: unknown;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly pattern?: string;
  readonly 'x-kubernetes-validations'?: readonly ValidationRule[];
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
}

export interface Definition {
  readonly spec: {
    readonly group: string;
    readonly scope: string;
    readonly names: {
      readonly kind: string;
      readonly plural: string;
      readonly shortNames?: readonly string[];
    };
    readonly versions: readonly {
      readonly name: string;
      readonly additionalPrinterColumns?: readonly PrinterColumn[];
      readonly selectableFields?: readonly { readonly jsonPath: string }[];
      readonly schema: { readonly openAPIV3Schema: Schema };
    }[];
  };
}

/** Columns of `kubectl get`. */
export interface PrinterColumn {
  readonly name: string;
  readonly description?: string;
  readonly priority?: number;
}

/** A resource definition and the file in crds/ that it is in. */
export interface DefinitionFile {
  readonly file: string;
  readonly definition: Definition;
}

/** Every resource definition of crds/, in the order of the files' names. */
export async function resourceDefinitions(root: string): Promise<readonly DefinitionFile[]> {
  const folder = join(root, 'crds');
  const files = (await readdir(folder)).filter((file) => file.endsWith('.yaml')).sort();
  return await Promise.all(
    files.map(async (file) => ({
      file,
      definition: parse(await readFile(join(folder, file), 'utf8')) as Definition,
    })),
  );
}

/** The one version that a definition has. */
export function versionOf({ file, definition }: DefinitionFile): Definition['spec']['versions'][number] {
  const version = definition.spec.versions[0];
  if (version === undefined) {
    throw new Error(`${file} defines no version`);
  }
  return version;
}
