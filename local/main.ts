#!/usr/bin/env node
// The program of a clone: that of the image, with a local instance behind it.
import { runProgram } from '../src/command-line.ts';
import { createLocalProgram } from './command-line.ts';

await runProgram(createLocalProgram());
