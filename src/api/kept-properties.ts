import type { ObjectMeta } from '../kube/api/types.ts';
import { LABEL_PREFIX } from './label.ts';

/** Annotation of a LambdaFunction: properties of the Lambda API that no field has, as JSON. */
export const KEPT_ANNOTATION = `${LABEL_PREFIX}lambda-api`;
/** Annotation of a LambdaFunction: the user that changed it last through the Lambda API. */
export const CHANGED_BY_ANNOTATION = `${LABEL_PREFIX}changed-by`;

/** Properties that have no meaning here, and are given back as callers of the Lambda API wrote them. */
export interface KeptProperties {
  readonly role?: string;
  /** `x86_64` or `arm64`. The image decides where workers run. */
  readonly architecture?: string;
  /** When the Lambda API changed the function last, in ISO 8601. */
  readonly modified?: string;
  /**
   * Generation of the LambdaFunction from which the Lambda API changed its configuration last: no configuration that
   * comes back has the revision that it had before.
   */
  readonly changedFrom?: number;
  /** Tags that cannot be labels. */
  readonly tags?: Readonly<Record<string, string>>;
  /** Descriptions of aliases, by their names. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** Description of the version that a publishToken publishes, in place of that of the function. */
  readonly publication?: { readonly token: string; readonly description: string };
}

/** Nothing where the annotation is absent, or is none that the Lambda API wrote. */
export function keptPropertiesOf({ annotations }: Pick<ObjectMeta, 'annotations'>): KeptProperties {
  try {
    const { aliases, architecture, changedFrom, modified, publication, role, tags } = (JSON.parse(
      annotations?.[KEPT_ANNOTATION] ?? '{}',
    ) ?? {}) as Record<string, unknown>;
    return {
      ...(typeof role === 'string' ? { role } : {}),
      ...(typeof architecture === 'string' ? { architecture } : {}),
      ...(typeof modified === 'string' && !Number.isNaN(Date.parse(modified)) ? { modified } : {}),
      ...(typeof changedFrom === 'number' ? { changedFrom } : {}),
      ...(isTexts(tags) ? { tags } : {}),
      ...(isTexts(aliases) ? { aliases } : {}),
      ...(isTexts(publication) ? publicationIn(publication) : {}),
    };
  } catch {
    return {};
  }
}

function publicationIn({ description, token }: Readonly<Record<string, string>>): Pick<KeptProperties, 'publication'> {
  return description === undefined || token === undefined ? {} : { publication: { description, token } };
}

function isTexts(value: unknown): value is Readonly<Record<string, string>> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((each) => typeof each === 'string')
  );
}
