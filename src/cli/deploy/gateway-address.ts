/** Namespace of the gateway of a local instance; a gateway serves one. */
const INSTANCE_NAMESPACE = 'default';

/** The gateway that calls of a function go to where none is named; undefined where that serves another namespace. */
export function usualGateway(instance: string | undefined, namespace: string): string | undefined {
  return namespace === INSTANCE_NAMESPACE ? instance : undefined;
}

/**
 * The ways to call a function, as a shell takes them.
 *
 * @param gateway its address; undefined where the user has to know one
 * @param isUsual whether `esb invoke` finds the gateway by itself
 */
export function callText(name: string, gateway: string | undefined, isUsual: boolean): string {
  const url = gateway ?? '<address of the gateway>';
  return [
    'Call it:',
    `  esb invoke ${name} '{"name": "Ada"}'${isUsual && gateway !== undefined ? '' : ` --gateway ${url}`}`,
    // Both versions of AWS's command line take a payload as it is from a file.
    `  echo '{"name": "Ada"}' | aws lambda invoke --endpoint-url ${url} --function-name ${name} \\`,
    '    --payload fileb:///dev/stdin /dev/stdout',
    '',
  ].join('\n');
}
