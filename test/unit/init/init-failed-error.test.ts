import { expect, it } from 'vitest';
import { InitFailedError } from '../../../src/init/init-failed-error.ts';

it.each([
  ['Runtime.ExitError', 'Runtime exited with error: exit status 3', 3],
  ['Runtime.ExitError', 'Runtime exited with error: signal: killed', 137],
  ['Runtime.ExitError', 'Runtime exited without providing a reason', 0],
  ['Extension.Crash', 'exit status 4', 4],
  ['Extension.Crash', 'exit code 0', 0],
  ['Extension.InitError', 'signal: Segmentation fault', 139],
  ['Extension.LaunchError', 'fork/exec /opt/extensions/alpha: permission denied', 1],
  // No field of the status has room for what a worker may say in the place of its init.
  ['Runtime.ExitError', 'Runtime exited with error: exit status 99999999999', 1],
  ['Sandbox.Timedout', 'Task timed out after 60.00 seconds', 1],
])('the exit code of %s: %s is %i', (errorType, message, exitCode) => {
  expect(InitFailedError.of({ errorType, message })).toMatchObject({ exitCode, message: `${errorType}: ${message}` });
});
