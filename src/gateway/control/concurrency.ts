import type { WorkerTemplate } from '../../api/lambda-function.ts';
import { findAlias, type WrittenAlias, withAlias } from './aliases.ts';
import type { FunctionDraft } from './function-draft.ts';

/** A function with this many calls at once reserved. */
export function withReserved(draft: FunctionDraft, reservedConcurrency: number): FunctionDraft {
  return { ...draft, spec: { ...draft.spec, reservedConcurrency } };
}

/** A function without reserved calls, in its template neither. */
export function withoutReserved(draft: FunctionDraft): FunctionDraft {
  const { reservedConcurrency: _before, template, ...spec } = draft.spec;
  const { concurrency, ...worker } = template.spec;
  if (concurrency?.reserved === undefined) {
    return { ...draft, spec: { ...spec, template } };
  }
  const { reserved: _own, ...others } = concurrency;
  return { ...draft, spec: { ...spec, template: { ...template, spec: { ...worker, concurrency: others } } } };
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
