import { parse, YAMLParseError } from 'yaml';

/** A program that gives credentials, as `CredentialProviderConfig` of `kubelet.config.k8s.io` describes one. */
export interface CredentialProvider {
  /** Name of the program in the folder of such programs. */
  readonly name: string;
  /** Images that it is asked about: parts of the host may be `*`, a path holds for what is below it. */
  readonly matchImages: readonly string[];
  /** Milliseconds that an answer without a time of its own is kept. */
  readonly defaultCacheMs: number;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export interface CredentialProviderConfig {
  readonly providers: readonly CredentialProvider[];
  /** One message for each provider that cannot be used, or for the file as a whole. */
  readonly faults: readonly string[];
}

/** The version of the protocol that is spoken with the programs. */
export const PROVIDER_API = 'credentialprovider.kubelet.k8s.io/v1';
const CONFIG_KIND = 'CredentialProviderConfig';
const CONFIG_API = /^kubelet\.config\.k8s\.io\/v1(?:alpha1|beta1)?$/;
/** Units of a `metav1.Duration` in milliseconds. */
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

type Fields = Readonly<Record<string, unknown>>;

/**
 * Reads the file that the kubelet has as `--image-credential-provider-config`, JSON or YAML. A provider that cannot be
 * used leaves the others as they are.
 */
export function parseCredentialProviderConfig(text: string): CredentialProviderConfig {
  let document: unknown;
  try {
    // Warnings and errors show the lines that they are about, and variables of programs may be secrets.
    document = parse(text, { logLevel: 'error' });
  } catch (error) {
    const line = error instanceof YAMLParseError ? error.linePos?.[0].line : undefined;
    return { providers: [], faults: [`it is no YAML${line === undefined ? '' : ` at line ${line}`}`] };
  }
  const { apiVersion, kind, providers } = isFields(document) ? document : {};
  if (kind !== CONFIG_KIND || typeof apiVersion !== 'string' || !CONFIG_API.test(apiVersion) || !isList(providers)) {
    return { providers: [], faults: [`it is no ${CONFIG_KIND} of kubelet.config.k8s.io/v1 with providers`] };
  }
  const found: CredentialProvider[] = [];
  const faults: string[] = [];
  for (const [index, each] of providers.entries()) {
    const provider = isFields(each) ? providerOf(each) : 'it is no object';
    if (typeof provider === 'string') {
      const name = isFields(each) && typeof each.name === 'string' ? each.name : `number ${index + 1}`;
      faults.push(`provider ${name}: ${provider}`);
    } else {
      found.push(provider);
    }
  }
  return { providers: found, faults };
}

/** Milliseconds of a duration such as `12h0m0s`; undefined for any other text. */
export function parseDuration(text: unknown): number | undefined {
  if (typeof text !== 'string' || !/^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$|^0$/.test(text)) {
    return undefined;
  }
  let sum = 0;
  for (const [, number = '', unit = ''] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    sum += Number(number) * (UNITS[unit] ?? 0);
  }
  return sum;
}

/** A provider, or why it cannot be used. */
function providerOf(fields: Fields): CredentialProvider | string {
  const { apiVersion, args = [], defaultCacheDuration, env = [], matchImages, name, tokenAttributes } = fields;
  if (typeof name !== 'string' || !/^[^/\s]+$/.test(name) || name === '.' || name === '..') {
    return 'name is no name of a program';
  }
  if (apiVersion !== PROVIDER_API) {
    return `apiVersion is not ${PROVIDER_API}`;
  }
  if (tokenAttributes !== undefined) {
    return 'tokenAttributes asks for the token of a service account, which workers do not have';
  }
  if (!isTexts(matchImages) || matchImages.length === 0) {
    return 'matchImages names no image';
  }
  const defaultCacheMs = parseDuration(defaultCacheDuration);
  if (defaultCacheMs === undefined) {
    return 'defaultCacheDuration is no duration such as 12h';
  }
  if (!isTexts(args)) {
    return 'args is no list of texts';
  }
  const variables = isList(env) ? env.map(variableOf) : [undefined];
  if (variables.includes(undefined)) {
    return 'env is no list of name and value';
  }
  return {
    name,
    matchImages,
    defaultCacheMs,
    args,
    env: Object.fromEntries(variables.filter((variable) => variable !== undefined)),
  };
}

function variableOf(entry: unknown): readonly [string, string] | undefined {
  const { name, value } = isFields(entry) ? entry : {};
  return typeof name === 'string' && name !== '' && typeof value === 'string' ? [name, value] : undefined;
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isList(value: unknown): value is readonly unknown[] {
  return Array.isArray(value);
}

function isTexts(value: unknown): value is readonly string[] {
  return isList(value) && value.every((each) => typeof each === 'string');
}
