import type { LambdaFunctionSpec } from '../../api/lambda-function.ts';
import { lambdaShapes } from '../lambda/generated/operations.ts';
import { shown } from '../lambda/lambda-error.ts';
import type { FunctionDraft } from './function-draft.ts';
import { structureIn } from './function-settings.ts';
import { invalid, type Members, objectIn, textIn } from './members.ts';

/** An alias as a function has it written. */
export type WrittenAlias = NonNullable<LambdaFunctionSpec['aliases']>[number];

/** Parts of 1,000 in which weights are given. */
const WHOLE = 1_000;
/** How far a weight may be from a thousandth, by what numbers of a computer cannot hold. */
const ROUNDING = 1e-6;

/** The alias of a name; undefined where there is none. */
export function findAlias({ aliases }: LambdaFunctionSpec, name: string): WrittenAlias | undefined {
  return aliases?.find((alias) => alias.name === name);
}

/**
 * An alias with the members that a request names; what the request does not name stays.
 *
 * @param present undefined for a new one
 * @throws {LambdaError} InvalidParameterValueException
 */
export function aliasWith(present: WrittenAlias | undefined, name: string, members: Members): WrittenAlias {
  const written = textIn(members, 'FunctionVersion');
  const version = written === undefined ? present?.version : versionIn('FunctionVersion', written);
  if (version === undefined) {
    throw invalid('FunctionVersion is needed.');
  }
  const config = structureIn(members, 'RoutingConfig', lambdaShapes.AliasRoutingConfiguration.members);
  const routing = config === undefined ? present?.routing : routingIn(config);
  const { routing: _before, ...rest } = present ?? { name };
  return { ...rest, version, ...(routing === undefined || routing.length === 0 ? {} : { routing }) };
}

/** The versions that an alias names. */
export function versionsOf({ routing = [], version }: WrittenAlias): readonly number[] {
  return [version, ...routing.map((part) => part.version)];
}

/** A function with this alias, in place of one of its name; what is left of a description where `description` is not given. */
export function withAlias(draft: FunctionDraft, alias: WrittenAlias, description: string | undefined): FunctionDraft {
  const aliases = draft.spec.aliases ?? [];
  const isThere = aliases.some(({ name }) => name === alias.name);
  const next = isThere ? aliases.map((each) => (each.name === alias.name ? alias : each)) : [...aliases, alias];
  const described = { ...draft, spec: { ...draft.spec, aliases: next } };
  return description === undefined ? described : withDescription(described, alias.name, description);
}

/** A function without the alias of this name. */
export function withoutAlias(draft: FunctionDraft, name: string): FunctionDraft {
  const { aliases, ...spec } = draft.spec;
  const left = aliases?.filter((alias) => alias.name !== name) ?? [];
  const next = { ...draft, spec: left.length === 0 ? spec : { ...spec, aliases: left } };
  return withDescription(next, name, '');
}

function withDescription(draft: FunctionDraft, name: string, description: string): FunctionDraft {
  const { aliases, ...kept } = draft.kept;
  const others = Object.entries(aliases ?? {}).filter(([each]) => each !== name);
  const entries = description === '' ? others : [...others, [name, description] as const];
  return {
    ...draft,
    kept: entries.length === 0 ? kept : { ...kept, aliases: Object.fromEntries(entries) },
  };
}

function routingIn(config: Members): WrittenAlias['routing'] {
  const weights = objectIn(config, 'AdditionalVersionWeights') ?? {};
  return Object.entries(weights).map(([version, weight]) => {
    const permille = typeof weight === 'number' ? Math.round(weight * WHOLE) : Number.NaN;
    if (!(permille >= 0 && permille <= WHOLE && Math.abs(Number(weight) * WHOLE - permille) < ROUNDING)) {
      throw invalid('AdditionalVersionWeights are numbers from 0 to 1, in thousandths.');
    }
    return { version: versionIn('AdditionalVersionWeights', version), permille };
  });
}

function versionIn(name: string, text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) {
    throw invalid(
      `${name} ${shown(text)} is not supported. Aliases name versions by their numbers: use PublishVersion first.`,
    );
  }
  return Number(text);
}
