#!/usr/bin/env node
// Runs one TypeScript file of the repository, after setting up what is missing: node hack/run.mjs FILE [ARGUMENT...]
import { launch } from './launch.mjs';

const [script, ...args] = process.argv.slice(2);
if (script === undefined) {
  console.error('usage: node hack/run.mjs FILE [ARGUMENT...]');
  process.exit(2);
}
await launch(script, args);
