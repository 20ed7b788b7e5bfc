/** The environment as it was before a shell has sourced `.esb/env`; any other is returned as it is. */
export function withoutInstance(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv;
