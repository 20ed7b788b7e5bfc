import { describe, expect, it } from 'vitest';
import { DEFAULT_EVENT_SETTINGS, eventSettingsOf } from '../../../../src/gateway/events/event-store.ts';

const settings = (asyncInvoke: Parameters<typeof eventSettingsOf>[0]['asyncInvoke']) =>
  eventSettingsOf({ concurrency: undefined, asyncInvoke });

describe('eventSettingsOf', () => {
  it('is what Lambda does where nothing is said', () => {
    expect(settings(undefined)).toEqual(DEFAULT_EVENT_SETTINGS);
    expect(settings({ maximumRetryAttempts: 2, maximumEventAgeSeconds: 21_600 })).toEqual(DEFAULT_EVENT_SETTINGS);
  });

  it('takes over what is said, a 0 too', () => {
    expect(
      settings({
        maximumRetryAttempts: 0,
        maximumEventAgeSeconds: 60,
        onSuccess: { url: 'https://letters.example/done' },
        onFailure: { functionName: 'letters' },
      }),
    ).toEqual({
      maximumRetryAttempts: 0,
      maximumEventAgeSeconds: 60,
      onSuccess: { kind: 'Endpoint', url: 'https://letters.example/done' },
      onFailure: { kind: 'Function', functionName: 'letters' },
    });
  });

  it('sends failures to an address, and nowhere when it is none', () => {
    const to = (url: string) =>
      settings({ maximumRetryAttempts: 2, maximumEventAgeSeconds: 60, onFailure: { url } }).onFailure;
    expect(to('https://letters.example/x')).toEqual({ kind: 'Endpoint', url: 'https://letters.example/x' });
    // The API server's pattern lets it through.
    expect(to('http://[::1/')).toBeUndefined();
  });
});
