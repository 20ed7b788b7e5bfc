import type { FunctionSettings } from '../agents/function-settings.ts';
import { DEFAULT_EVENT_SETTINGS, type EventSettings, type EventTarget } from './event-store.ts';

/** The event settings of a function, from its resource, with Lambda's defaults. */
export function eventSettingsOf({ asyncInvoke }: FunctionSettings): EventSettings {
  if (asyncInvoke === undefined) {
    return DEFAULT_EVENT_SETTINGS;
  }
  return {
    maximumRetryAttempts: asyncInvoke.maximumRetryAttempts ?? DEFAULT_EVENT_SETTINGS.maximumRetryAttempts,
    maximumEventAgeSeconds: asyncInvoke.maximumEventAgeSeconds ?? DEFAULT_EVENT_SETTINGS.maximumEventAgeSeconds,
    onFailure: targetOf(asyncInvoke.onFailure),
  };
}

/** The API server lets through exactly one of the two, and only addresses that can be parsed. */
function targetOf(onFailure: NonNullable<FunctionSettings['asyncInvoke']>['onFailure']): EventTarget | undefined {
  if (onFailure?.functionName !== undefined) {
    return { kind: 'Function', functionName: onFailure.functionName };
  }
  if (onFailure?.url !== undefined && URL.canParse(onFailure.url)) {
    return { kind: 'Endpoint', url: onFailure.url };
  }
  return undefined;
}
