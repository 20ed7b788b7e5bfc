import { describe, expect, it } from 'vitest';
import { stripTypes } from '../../../../hack/image/strip-types.ts';

describe('the program of the image', () => {
  it('has no types, and each statement where it was', () => {
    const source = 'const a: number = 1;\ninterface B {\n  readonly c: string;\n}\nexport const d = a as number;\n';
    expect(
      stripTypes(source)
        .split('\n')
        .map((line) => line.trimEnd()),
    ).toEqual(['const a         = 1;', '', '', '', 'export const d = a          ;', '']);
  });

  it.each([
    ["import { a } from './a.ts';", "import { a } from './a.js';"],
    ["export { a } from '../b/a.ts';", "export { a } from '../b/a.js';"],
    ["import './a.ts';", "import './a.js';"],
    ["const a = await import('./a.ts');", "const a = await import('./a.js');"],
    ["import yaml from 'yaml';", "import yaml from 'yaml';"],
    ["const name = './a.ts';", "const name = './a.ts';"],
  ])('of %s makes %s', (source, wanted) => {
    expect(stripTypes(source)).toBe(wanted);
  });

  it('leaves out imports of types alone', () => {
    expect(stripTypes("import type { A } from './a.ts';\n").trim()).toBe('');
  });
});
