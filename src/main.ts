#!/usr/bin/env node
// The program of the image.
import { createProgram, runProgram } from './command-line.ts';

await runProgram(createProgram());
