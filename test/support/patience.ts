/** How many times as long as usual tests wait before they give up: 1, or `ESB_TEST_PATIENCE` on a machine that is slow. */
export function patience(env: NodeJS.ProcessEnv = process.env): number {
  return Number(env.ESB_TEST_PATIENCE ?? 1);
}
