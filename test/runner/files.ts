import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryRoot } from '../../local/common/repository.ts';

/** Stages of tests in the order of their folders. */
export const testStages = ['unit', 'integration', 'alone', 'install', 'e2e'] as const;
export type TestStage = (typeof testStages)[number];

/** Paths of the test files of a stage, from the root of the repository. */
export function filesOf(stage: TestStage): readonly string[] {
  const folder = stage === 'install' ? 'e2e' : stage === 'alone' ? 'integration' : stage;
  return readdirSync(join(repositoryRoot(), 'test', folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => `test/${folder}/${file}`)
    .filter((file) => stageOf(file) === stage)
    .toSorted();
}

/** Test files that need the machine to themselves, each with the reason. */
export const filesAlone: Readonly<Record<string, string>> = {
  'test/integration/agent/fast-path.test.ts': 'bounds the time of single calls',
  'test/integration/agent/long-calls.test.ts': 'bounds the time in which other workers answer',
};

export function stageOf(file: string): TestStage | undefined {
  if (!file.endsWith('.test.ts')) {
    return undefined;
  }
  if (file.startsWith('test/e2e/')) {
    return file.startsWith('test/e2e/01-') ? 'install' : 'e2e';
  }
  if (file.startsWith('test/integration/')) {
    return file in filesAlone ? 'alone' : 'integration';
  }
  return file.startsWith('test/unit/') ? 'unit' : undefined;
}
