import { fileURLToPath } from 'node:url';
import { goProgram } from './built-program.ts';

const source = fileURLToPath(new URL('./kstatus', import.meta.url));

/** The program that says what kstatus computes of objects. */
export function kstatusProgram(): Promise<string> {
  return goProgram('kstatus', source);
}
