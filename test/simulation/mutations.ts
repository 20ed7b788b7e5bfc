import type { SourceChange } from './hooks.ts';

/** A fault that is planted in the agent, and that the simulation has to find. */
export interface Mutation {
  readonly name: string;
  readonly changes: readonly SourceChange[];
  /** The violation that the simulation reports. */
  readonly found: RegExp;
  /** A seed that finds it soon, and the steps that it may take. */
  readonly seed: number;
  readonly within: number;
  /** Whether there are workers of interface `Lambda`. Default false. */
  readonly inits?: boolean;
}

export const mutations: readonly Mutation[] = [
  {
    name: 'a worker is frozen while a call is in it',
    changes: [
      {
        file: 'src/agent/step/upkeep.ts',
        text: 'if (mayFreeze && !urgent && !isInUse(draft.state, container)) {',
        by: 'if (mayFreeze && !urgent) {',
      },
    ],
    found: /was frozen \(settle\) with call-\d+ in it/,
    seed: 54,
    within: 400,
  },
  {
    name: 'a worker is removed while a call is in it',
    changes: [
      {
        file: 'src/agent/step/rollout.ts',
        text: 'busy: isBusy(draft.state, present, draft.at.now),',
        by: 'busy: false,',
      },
    ],
    found: /is being removed with call-\d+ in it/,
    seed: 3,
    within: 500,
  },
  {
    name: 'the mark of a call is written after its first byte',
    changes: [
      {
        file: 'src/agent/worker/dispatcher.ts',
        text: 'this.#mark(id, { requestId: invocation.requestId, until: clock.now() + boundMs });',
        by: 'queueMicrotask(() => this.#mark(id, { requestId: invocation.requestId, until: clock.now() + boundMs }));',
      },
    ],
    found: /was sent before its mark was written/,
    seed: 4,
    within: 200,
  },
  {
    name: 'what an agent finds is removed before it is adopted',
    changes: [
      {
        file: 'src/agent/step/adopt.ts',
        text: '    occupy(draft, first, record, mark);\n',
        by: `    occupy(draft, first, record, mark);
    draft.change(first.containerId, (found) => ({ ...found, unusable: 'an earlier agent made it' }));
`,
      },
    ],
    found: /is being removed though it is wanted, whole and serves/,
    seed: 4,
    within: 500,
  },
  {
    name: 'a container of which nothing is known is looked at for ever',
    changes: [
      {
        file: 'src/agent/worker/answers.ts',
        text: 'if (now - since < (this.#options.patienceMs ?? patienceMs)) {',
        by: 'if (now >= since) {',
      },
    ],
    found: /its shim stands still/,
    seed: 32,
    within: 600,
  },
  {
    name: 'a call whose connection broke is sent again',
    changes: [
      {
        file: 'src/agent/step/reduce-calls.ts',
        text: '      if (outcome.fault) {\n',
        by: `      if (place.call.attempts === 0) {
        notSent(draft, place, { kind: 'NotSent', message: outcome.message, own: false, gone: false });
        return;
      }
      if (outcome.fault) {
`,
      },
    ],
    found: /was sent twice/,
    seed: 4,
    within: 500,
  },
  {
    name: 'one shim that does not answer fails the list of the whole node',
    changes: [
      {
        file: 'test/support/fake-runtime.ts',
        text: "    await this.#look('list', '', options);\n",
        by: `    await this.#look('list', '', options);
    if (this.hung.size > 0) {
      throw new EsbError('a task does not answer', { code: 'DeadlineExceeded', retryable: true });
    }
`,
      },
    ],
    found: /its shim stands still/,
    seed: 32,
    within: 900,
  },
  {
    name: 'a container that cannot be looked at is looked at again, whatever the goal is',
    changes: [
      {
        file: 'src/agent/model/plan.ts',
        text: "  if (doubt === 'Lost') {\n",
        by: `  if (doubt !== undefined || wanted) {
    return { kind: 'Inspect' };
  }
  if (doubt === 'Lost') {
`,
      },
    ],
    found: /its shim stands still/,
    seed: 32,
    within: 600,
  },
  {
    name: 'a look that fails makes a running worker uncallable',
    changes: [
      {
        file: 'src/agent/step/reduce-actions.ts',
        text: "      return byKernel(container, kernel, now);\n    case 'Destroy':\n",
        by: "      return unknown(container, now);\n    case 'Destroy':\n",
      },
    ],
    found: /which runs idle|was refused as unavailable though/,
    seed: 52,
    within: 1_000,
  },
  {
    name: 'a look at the node that failed is not made again',
    changes: [
      {
        file: 'src/agent/worker/node-look.ts',
        text: '        this.#goOn();\n',
        by: '',
      },
    ],
    found: /is shown as|its shim stands still|not at rest|waits for \S+ to start/,
    seed: 7,
    within: 3_000,
  },
  {
    name: 'a record gets its name before its content is on the disk',
    changes: [
      {
        file: 'src/common/atomic-file.ts',
        text: '      await file.sync();\n',
        by: '',
      },
    ],
    found: /\.json has lost its content with the power/,
    seed: 9,
    within: 300,
  },
  {
    name: 'workers that never listen keep the places of starts',
    changes: [
      {
        file: 'src/agent/worker/action-runner.ts',
        text: 'clock.setTimer(wayOut, listenInGateMs);',
        by: 'clock.setTimer(wait, listenInGateMs);',
      },
    ],
    found: /waits for \S+ to start/,
    seed: 8,
    within: 2_000,
  },
  {
    name: 'a worker is frozen while an extension works, or its runtime starts again',
    changes: [
      {
        file: 'src/agent/model/plan.ts',
        text: "goal.kind === 'Paused' && state.init === undefined",
        by: "goal.kind === 'Paused'",
      },
    ],
    found: /is being frozen \(pause\), and is not idle/,
    seed: 7,
    within: 100,
    inits: true,
  },
  {
    name: 'a worker is settled while an extension works, or its runtime starts again',
    changes: [
      {
        file: 'src/agent/step/upkeep.ts',
        text: "const mayFreeze = kind === 'Running' && observed.init === undefined;",
        by: "const mayFreeze = kind === 'Running';",
      },
    ],
    found: /is being frozen \(settle\), and is not idle/,
    seed: 2,
    within: 1000,
    inits: true,
  },
  {
    name: 'a worker is called before its init is ready',
    changes: [
      {
        file: 'src/agent/step/container.ts',
        text: "    (interfaceOf(container) === 'Emulator' || takesCall(init)) &&\n",
        by: "    (interfaceOf(container) === 'Emulator' || init.kind === 'Connected') &&\n",
      },
    ],
    found: /was sent into \S+, which is (Starting|Failed)/,
    seed: 15,
    within: 100,
    inits: true,
  },
  {
    name: 'a call that an init has found is not waited for',
    changes: [
      {
        file: 'src/agent/step/reduce-init.ts',
        text: '  takeFound(draft, containerId, word);\n  const readiness',
        by: '  const readiness',
      },
    ],
    found: /beside call-|with call-\d+ in it/,
    seed: 3,
    within: 200,
    inits: true,
  },
  {
    name: 'a worker is removed before its init has said which calls are in it',
    changes: [
      {
        file: 'src/agent/model/plan.ts',
        text: "return state.usable && state.init === 'Awaited';",
        by: 'return false;',
      },
    ],
    found: /with call-\d+ in it/,
    seed: 175,
    within: 700,
    inits: true,
  },
  {
    name: 'a gateway does not ask the next agent for the answer of a call',
    changes: [
      {
        file: 'src/gateway/dispatch/call-sender.ts',
        text: "return answer.kind === 'Unknown' ? answer.soFar : undefined;",
        by: 'return undefined;',
      },
    ],
    found: /is unknown to its caller, and its init has the answer/,
    seed: 40,
    within: 100,
    inits: true,
  },
  {
    name: 'an agent says that an answer is lost before its init has connected',
    changes: [
      {
        file: 'src/agent/invoke/recovery.ts',
        text: 'if (left <= 0 || signal.aborted || links.every(({ state }) => state !== undefined)) {',
        by: 'if (left <= 0 || signal.aborted || links.length >= 0) {',
      },
    ],
    found: /is unknown to its caller, and its init has the answer/,
    seed: 23,
    within: 500,
    inits: true,
  },
  {
    name: 'an agent says that a call was never sent, whatever its init has had',
    changes: [
      {
        file: 'src/agent/invoke/recovery.ts',
        text: 'links.every((link) => link.neverHad(requestId, sentMs + now - asked))',
        by: 'links.every(({ state }) => state !== undefined)',
      },
    ],
    found: /had been sent, and is Refused|was sent twice/,
    seed: 67,
    within: 300,
    inits: true,
  },
  {
    name: 'an error amid a streamed answer is not told',
    changes: [
      {
        file: 'src/agent/invoke/function-end.ts',
        text: '{ end: { ...end, lateError: error } }',
        by: '{ end }',
      },
    ],
    found: /amid its answer, and its caller is told of no error/,
    seed: 30,
    within: 50,
    inits: true,
  },
  {
    name: 'a worker gets more calls at once than its runtime takes',
    changes: [
      {
        file: 'src/agent/step/container.ts',
        text: 'return capacityOf(container) - leftIn(container);',
        by: 'return capacityOf(container) + 1 - leftIn(container);',
      },
    ],
    found: /was sent into \S+ beside call-/,
    seed: 3,
    within: 50,
    inits: true,
  },
  {
    name: 'a worker that takes several calls is not waited for while the last of them goes on',
    changes: [
      {
        file: 'src/agent/step/state.ts',
        text: 'return callsIn(state, make.id) > 0 && (grace === undefined || now < grace.until);',
        by: 'return callsIn(state, make.id) > (make.perWorker === undefined ? 0 : 1);',
      },
    ],
    found: /with call-\d+ in it|and is not idle/,
    seed: 16,
    within: 50,
    inits: true,
  },
  {
    name: 'a call in a worker that its function gives up is cut off',
    changes: [
      {
        file: 'src/agent/step/reduce.ts',
        text: 'return deleting && letsCallsEnd !== true;',
        by: 'return deleting;',
      },
      {
        file: 'src/agent/step/reduce.ts',
        text: 'const graceMs = desired.terminationGraceSeconds * 1_000;',
        by: 'const graceMs = desired.letsCallsEnd === true ? 0 : desired.terminationGraceSeconds * 1_000;',
      },
    ],
    found: /with call-\d+ in it/,
    seed: 38,
    within: 300,
    inits: true,
  },
];
