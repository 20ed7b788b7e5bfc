import type { WorkerTemplate } from '../../api/lambda-function.ts';
import { findAlias, type WrittenAlias, withAlias } from './aliases.ts';
import type { FunctionDraft } from './function-draft.ts';

/** A function with this many calls at once reserved; undefined for none. */
export function withReserved(draft: FunctionDraft, reserved: number | undefined): FunctionDraft {
  const { spec } = draft;
  const { concurrency, ...worker } = spec.template.spec;
  const { reserved: _before, ...others } = concurrency ?? {};
  const next = { ...others, ...(reserved === undefined ? {} : { reserved }) };
  const isEmpty = Object.keys(next).length === 0;
  const template = { ...worker, ...(isEmpty ? {} : { concurrency: next }) } as WorkerTemplate['spec'];
  return { ...draft, spec: { ...spec, template: { ...spec.template, spec: template } } };
}

/** Workers that take this many calls at once. */
export function workersFor(calls: number, template: WorkerTemplate): number {
  return Math.ceil(calls / (template.spec.concurrency?.perWorker ?? 1));
}

/**
 * A function whose alias has workers of its own, or no longer has.
 *
 * @param alias as the function has it
 */
export function withProvisioned(draft: FunctionDraft, alias: WrittenAlias, workers: number | undefined): FunctionDraft {
  const { provisionedWorkers: _before, ...others } = findAlias(draft.spec, alias.name) ?? alias;
  return withAlias(draft, workers === undefined ? others : { ...others, provisionedWorkers: workers }, undefined);
}
