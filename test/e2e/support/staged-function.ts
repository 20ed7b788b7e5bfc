/**
 * A function of Python in a module that is written nowhere: the text of the program, for the samples' runtime with the
 * handler `stages.handler`.
 *
 * @param answer expression of what the handler returns, of `event` and `context`
 * @param first lines that run before
 */
export function stagedProgram(answer: string, first = ''): string {
  return `
import os, runpy, sys, types
${first}
def handler(event, context):
    return ${answer}
module = types.ModuleType("stages")
module.handler = handler
sys.modules["stages"] = module
runpy.run_module("awslambdaric", run_name="__main__")
`;
}
