/** Annotation of our CustomResourceDefinitions that counts the changes which a role depends on. */
export const SCHEMA_REVISION_ANNOTATION = 'esb.dev/schema-revision';

/** The revision that this program needs; the definitions in `crds/` carry it. */
export const SCHEMA_REVISION = 4;

/** Names of our CustomResourceDefinitions. */
export const DEFINITION_NAMES = ['lambdanodes.esb.dev', 'lambdaworkers.esb.dev'] as const;

/** The fields of a CustomResourceDefinition that are read. */
export interface DefinitionView {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
}

/** Whether the installed definitions fit; a form of Health. */
export type SchemaFit =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: 'DefinitionMissing' | 'DefinitionTooOld'; readonly message: string };

/**
 * Whether one of our definitions is installed in the revision that this program needs. A newer one fits: changes are
 * additive. An older one makes the API server refuse each status with a newer field as a whole.
 *
 * @param installed the definition as the API server has it; undefined when it has none
 */
export function checkDefinition(name: string, installed: DefinitionView | undefined): SchemaFit {
  if (installed === undefined) {
    return {
      ok: false,
      reason: 'DefinitionMissing',
      message: `the API server does not know ${name}: apply the resource definitions in crds/`,
    };
  }
  const text = installed.metadata.annotations?.[SCHEMA_REVISION_ANNOTATION];
  const revision = Number(text ?? 'none');
  if (Number.isInteger(revision) && revision >= SCHEMA_REVISION) {
    return { ok: true };
  }
  return {
    ok: false,
    reason: 'DefinitionTooOld',
    message: `${name} is installed in schema revision ${text ?? 'none'} and this program needs ${SCHEMA_REVISION}: apply the resource definitions in crds/ of this version`,
  };
}

/**
 * Whether all our definitions fit. Errors are those of `read`.
 *
 * @param read reads one definition of the API server; undefined when the server has none of that name
 */
export async function checkDefinitions(
  read: (name: string) => Promise<DefinitionView | undefined>,
): Promise<SchemaFit> {
  for (const name of DEFINITION_NAMES) {
    const fit = checkDefinition(name, await read(name));
    if (!fit.ok) {
      return fit;
    }
  }
  return { ok: true };
}
