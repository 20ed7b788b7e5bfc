import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { repositoryRoot } from '../../local/common/repository.ts';

/** Order of test files: the longest first, by the recorded durations, so that files side by side end together. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const root = repositoryRoot();
    const seconds = JSON.parse(readFileSync(join(root, 'test/durations.json'), 'utf8')) as Record<string, number>;
    const duration = ({ moduleId }: TestSpecification): number => seconds[relative(root, moduleId)] ?? 0;
    return files.toSorted((one, other) => duration(other) - duration(one));
  }
}
