import { writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';
import { root } from './program.ts';

/** Writes the seconds of each test file, with its hooks and imports, to the file that `ESB_DURATIONS` names. */
// biome-ignore lint/style/noDefaultExport: vitest takes a reporter of a file by its default export.
export default class DurationReporter implements Reporter {
  readonly #seconds: Record<string, number> = {};

  onTestModuleEnd(module: TestModule): void {
    const { duration, collectDuration, prepareDuration, setupDuration } = module.diagnostic();
    const milliseconds = duration + collectDuration + prepareDuration + setupDuration;
    this.#seconds[relative(root, module.moduleId)] = Math.round(milliseconds / 100) / 10;
  }

  onTestRunEnd(): void {
    const file = process.env.ESB_DURATIONS;
    if (file !== undefined) {
      writeFileSync(file, JSON.stringify(this.#seconds));
    }
  }
}
