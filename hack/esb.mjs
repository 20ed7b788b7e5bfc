#!/usr/bin/env node
// The command `esb` of a clone: sets up what is missing, then runs local/main.ts.
import { launch } from './launch.mjs';

await launch('local/main.ts', process.argv.slice(2));
