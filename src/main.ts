#!/usr/bin/env node
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { CommanderError } from 'commander';
import { createProgram } from './command-line.ts';
import { exitCodes } from './command-run.ts';

// Halves the processor time of a start. Written at once, since roles are not always given the time to end in order.
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/esb', import.meta.url)));

try {
  await createProgram().parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) {
    throw error;
  }
  process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
}
