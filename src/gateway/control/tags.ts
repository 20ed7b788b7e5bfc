import { keptPropertiesOf } from '../../api/kept-properties.ts';
import { LABEL_PREFIX } from '../../api/label.ts';
import type { ObjectMeta } from '../../kube/api/types.ts';
import { lambdaShapes } from '../lambda/generated/operations.ts';
import { shown } from '../lambda/lambda-error.ts';
import type { FunctionDraft } from './function-draft.ts';
import { invalid, isOf } from './members.ts';

/** Most tags of a function; as in Lambda. */
const MAX_TAGS = 50;
/** Keys and values that Kubernetes takes as labels. */
const LABEL_KEY =
  /^(?:(?=.{1,253}\/)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

/** Tags of a function: its labels, without those of ESB, and what no label can be. */
export function tagsOf(metadata: Pick<ObjectMeta, 'annotations' | 'labels'>): Readonly<Record<string, string>> {
  const labels = Object.entries(metadata.labels ?? {}).filter(([name]) => !name.startsWith(LABEL_PREFIX));
  return { ...Object.fromEntries(labels), ...keptPropertiesOf(metadata).tags };
}

/**
 * A function with these tags beside those that it has. Those that Kubernetes takes as labels become labels.
 *
 * @throws {LambdaError} InvalidParameterValueException
 */
export function withTags(draft: FunctionDraft, tags: Readonly<Record<string, string>>): FunctionDraft {
  const { kept, labels } = withoutTags(draft, Object.keys(tags));
  const entries = Object.entries(tags);
  const own = entries.find(([key]) => key.startsWith(LABEL_PREFIX));
  if (own !== undefined) {
    throw invalid(`The tag ${shown(own[0])} is one of ESB's own labels.`);
  }
  const wrong = entries.find(([key, value]) => !isOf(lambdaShapes.TagKey, key) || !isOf(lambdaShapes.TagValue, value));
  if (wrong !== undefined) {
    throw invalid(`The tag ${shown(wrong[0])} has characters that tags cannot have, or too many.`);
  }
  const isLabel = ([key, value]: readonly [string, string]): boolean => LABEL_KEY.test(key) && LABEL_VALUE.test(value);
  const others = { ...kept.tags, ...Object.fromEntries(entries.filter((entry) => !isLabel(entry))) };
  const all = { ...labels, ...Object.fromEntries(entries.filter(isLabel)) };
  if (Object.keys(all).length + Object.keys(others).length > MAX_TAGS) {
    throw invalid(`A function has at most ${MAX_TAGS} tags.`);
  }
  return {
    ...draft,
    labels: all,
    kept: Object.keys(others).length === 0 ? kept : { ...kept, tags: others },
  };
}

/** A function without the tags of these keys. */
export function withoutTags(draft: FunctionDraft, keys: readonly string[]): FunctionDraft {
  const { tags, ...kept } = draft.kept;
  const left = without(tags ?? {}, keys);
  return {
    ...draft,
    labels: without(
      draft.labels,
      keys.filter((key) => !key.startsWith(LABEL_PREFIX)),
    ),
    kept: Object.keys(left).length === 0 ? kept : { ...kept, tags: left },
  };
}

function without(entries: Readonly<Record<string, string>>, keys: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(entries).filter(([key]) => !keys.includes(key)));
}
