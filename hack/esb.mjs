#!/usr/bin/env node
// The command `esb` of a clone: sets up what is missing, then runs src/main.ts.
import { launch } from './launch.mjs';

await launch('src/main.ts', process.argv.slice(2));
