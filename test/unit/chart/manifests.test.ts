import { expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { filesEnding, textOf } from '../../support/documentation.ts';

interface Named {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

it('the claims that `kubectl delete -k manifests/` takes along are named where that command is told', () => {
  const claims = filesEnding(['.yaml'])
    .filter((file) => /^manifests\/[^/]+$/.test(file))
    .flatMap((file) => parseAllDocuments(textOf(file)).map((document) => document.toJS() as Named | null))
    .flatMap((object) => (object?.kind === 'PersistentVolumeClaim' ? [object.metadata.name] : []));
  expect(claims).toEqual(['esb-events']);
  for (const page of ['manifests/kustomization.yaml', 'docs/how-to/remove.md']) {
    expect(claims.filter((name) => !textOf(page).includes(name))).toEqual([]);
  }
});
